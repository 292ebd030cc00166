from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import HiclError
from hicl.pipeline.normals import mesh_normals, neighbors
from hicl.pipeline.partition import (
    ascending,
    cloud_sets,
    compact_ids,
    edge_weights,
    felzenszwalb,
    knn_edges,
    knn_sets,
    mesh_edges,
    mesh_sets,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "segmentator.npz"


def test_mesh_edges_are_in_the_segmentator_s_order():
    edges = mesh_edges(np.array([[0, 1, 2], [5, 6, 7]]))
    assert edges.tolist() == [[0, 1], [0, 2], [2, 1], [5, 6], [5, 7], [7, 6]]
    assert edges.dtype == np.int32 and edges.flags.c_contiguous


@pytest.mark.parametrize("k", [7, 8, 19, 24])
def test_knn_edges_hold_each_pair_once(k):
    rng = np.random.default_rng(0)
    index, _ = neighbors(rng.standard_normal((200, 3)), k=24, radius=1.2)
    expected = {(min(i, j), max(i, j)) for i in range(200) for j in index[i, :k].tolist() if j >= 0 and j != i}
    edges = [tuple(edge) for edge in knn_edges(index, k).tolist()]
    assert len(edges) == len(set(edges)) and set(edges) == expected


@pytest.mark.parametrize("oriented", [True, False])
def test_edge_weights_equal_the_plain_ones_to_the_last_bit(oriented):
    xyz, faces = reference.bumpy_mesh(10, 14, seed=3)
    normals, edges = mesh_normals(xyz, faces), mesh_edges(faces)
    weights = edge_weights(xyz, normals, edges, oriented)
    assert weights.dtype == np.float32
    assert np.array_equal(weights, reference.edge_weights(xyz, normals, edges, oriented))


def test_a_convex_edge_weighs_its_square_and_a_crease_does_not():
    xyz = np.array([[0, 0, 0], [1, 0, -1]], np.float32)
    normals = np.array([[0, 0, 1], [0.6, 0, 0.8]], np.float32)
    roof = edge_weights(xyz, normals, np.array([[0, 1]]))  # (0.6, 0, 0.8)·(1, 0, -1) < 0
    xyz[1, 2] = 0
    ridge = edge_weights(xyz, normals, np.array([[0, 1]]))
    assert np.allclose(roof, 0.2) and np.allclose(ridge, 0.04)
    # Without orientation the sign of either normal doesn't matter.
    for signs in ((1, -1), (-1, -1), (-1, 1)):
        flipped = normals * np.array(signs, np.float32)[:, None]
        assert np.allclose(edge_weights(xyz, flipped, np.array([[0, 1]]), oriented=False), 0.2)


def test_degenerate_edges_have_defined_weights():
    xyz = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]], np.float32)
    normals = np.array([[0, 0, 1], [0.6, 0, 0.8], [np.nan, 0, 0]], np.float32)
    weights = edge_weights(xyz, normals, np.array([[0, 1], [0, 2], [2, 1]]))
    assert np.allclose(weights[0], 0.2)  # no length: no convexity test
    assert np.isinf(weights[1:]).all()


def test_the_order_of_weights_is_numpy_s_stable_one():
    rng = np.random.default_rng(0)
    weights = rng.choice(np.r_[rng.standard_normal(300), 0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40], 5000)
    weights = weights.astype(np.float32)
    every, some = np.arange(5000, dtype=np.int32), np.arange(0, 5000, 3, dtype=np.int32)
    assert np.array_equal(ascending(every, weights), np.argsort(weights, kind="stable"))
    assert np.array_equal(ascending(some, weights), some[np.argsort(weights[some], kind="stable")])
    assert len(ascending(every[:0], weights)) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.1, 1.0]), st.integers(1, 30))
def test_felzenszwalb_is_the_plain_one_also_where_weights_pass_every_threshold(seed, k_threshold, min_size):
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, 40, (200, 2)).astype(np.int32)
    weights = (rng.random(200) ** 3 * 5 * max(k_threshold, 0.01)).astype(np.float32)
    weights[::23] = np.nan
    found = felzenszwalb(40, edges, weights, k_threshold, min_size)
    assert np.array_equal(found, reference.felzenszwalb(40, edges, weights, k_threshold, min_size))


@pytest.mark.parametrize("seed", range(4))
def test_mesh_sets_equal_the_plain_segmentator(seed):
    xyz, faces = reference.bumpy_mesh(20, 25, noise=0.05 + 0.1 * seed, seed=seed)
    edges = mesh_edges(faces)
    weights = reference.edge_weights(xyz, reference.mesh_normals(xyz, faces), edges)
    ids = mesh_sets(xyz, faces)
    assert ids.dtype == np.int32
    assert reference.same_partition(ids, reference.felzenszwalb(len(xyz), edges, weights))


@pytest.mark.parametrize("noise, min_size", [(0.1, 20), (0.2, 20), (0.1, 2000)])
def test_felzenszwalb_is_the_plain_one_where_edges_are_so_many_that_they_are_sorted_part_by_part(noise, min_size):
    """Many edges of the same weight among them, in all parts, and boundaries."""
    xyz, faces = reference.bumpy_mesh(110, 130, noise, seed=1)
    edges = mesh_edges(faces)
    weights = edge_weights(xyz, reference.mesh_normals(xyz, faces), edges)
    weights = (np.ceil(2000 * weights) / 2000).astype(np.float32)
    weights[::97] = np.nan
    light = weights <= 0.02
    assert light.sum() > 20_000 and (~light).sum() > 20_000
    found = felzenszwalb(len(xyz), edges, weights, min_size=min_size)
    assert np.array_equal(found, reference.felzenszwalb(len(xyz), edges, weights, min_size=min_size))
    assert found.max() >= 1


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_many_boundaries(share):
    """NaN and inf are the same weight, and however many there are, they come last, in the order of the edges."""
    rng = np.random.default_rng(int(10 * share))
    edges = rng.integers(0, 30_000, (60_000, 2)).astype(np.int32)
    weights = rng.random(60_000).astype(np.float32)
    weights[rng.random(60_000) < share] = np.nan
    weights[rng.random(60_000) < share / 2] = np.inf
    found = felzenszwalb(30_000, edges, weights, min_size=3)
    as_inf = np.where(np.isnan(weights), np.float32(np.inf), weights)
    assert np.array_equal(found, reference.felzenszwalb(30_000, edges, as_inf, min_size=3))


def test_mesh_sets_equal_the_original_segmentator():
    """See tests/golden/segmentator.md for where the file comes from."""
    golden = np.load(GOLDEN)
    for name in ("fold", "rough"):
        xyz, faces = golden[f"{name}_xyz"], golden[f"{name}_faces"]
        assert reference.same_partition(mesh_sets(xyz, faces), golden[f"{name}_ids"])


graphs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.floats(-0.125, 2, width=32) | st.just(np.nan)),
            max_size=150,
        ),
    )
)


@settings(max_examples=150, deadline=None)
@given(graph=graphs, min_size=st.integers(0, 25), k_threshold=st.sampled_from([0.01, 0.5, 10]))
def test_felzenszwalb_equals_the_plain_one_on_any_graph(graph, min_size, k_threshold):
    n, rows = graph
    edges = np.array([row[:2] for row in rows], np.int32).reshape(-1, 2)
    weights = np.array([row[2] for row in rows], np.float32)
    ids = felzenszwalb(n, edges, weights, k_threshold, min_size)
    assert np.array_equal(ids, reference.felzenszwalb(n, edges, weights, k_threshold, min_size))
    # Gapless, numbered by first appearance, and large enough unless the whole component is smaller.
    _, first = np.unique(ids, return_index=True)
    assert ids[np.sort(first)].tolist() == list(range(ids.max() + 1))
    components = felzenszwalb(n, edges, np.zeros(len(edges), np.float32), 1e9, 0)
    size, whole = np.bincount(ids)[ids], np.bincount(components)[components]
    assert (size >= np.minimum(min_size, whole)).all()


def test_isolated_points_stay_alone_and_boundaries_hold():
    edges = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    weights = np.array([0, np.nan, 0], np.float32)
    assert felzenszwalb(6, edges, weights, min_size=2).tolist() == [0, 0, 1, 1, 2, 3]
    assert felzenszwalb(6, edges, weights, min_size=3).tolist() == [0, 0, 0, 0, 1, 2]
    assert felzenszwalb(3, np.zeros((0, 2), np.int32), np.zeros(0, np.float32)).tolist() == [0, 1, 2]
    assert felzenszwalb(0, np.zeros((0, 2), np.int32), np.zeros(0, np.float32)).shape == (0,)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="edges: expected points 0 to 1"):
        felzenszwalb(2, np.array([[0, 2]]), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="weights"):
        felzenszwalb(2, np.array([[0, 1]]), np.zeros(2, np.float32))
    with pytest.raises(HiclError, match="faces"):
        mesh_sets(np.zeros((2, 3), np.float32), np.array([[0, 1, 2]]))


@pytest.mark.parametrize("known", ["toward", "normals", "nothing"])
def test_knn_sets_find_the_faces_of_a_room_corner(known):
    rng = np.random.default_rng(0)
    flat = rng.uniform(0, 1, (3, 1500, 2))
    faces = [np.insert(flat[axis], axis, 0.0, axis=1) for axis in range(3)]
    xyz = (np.concatenate(faces) + 0.001 * rng.standard_normal((4500, 3))).astype(np.float32)
    truth = np.repeat(np.arange(3), 1500)
    given = {
        "toward": {"toward": (np.array([0.7, 0.8, 0.9]) - xyz).astype(np.float32)},
        "normals": {"normals": np.eye(3, dtype=np.float32)[truth]},
        "nothing": {},
    }[known]
    inner = np.sort(xyz, axis=1)[:, 1] > 0.1  # farther than a neighbourhood from the next face
    for ids in (knn_sets(xyz, **given), cloud_sets(xyz, **given)):
        for face in range(3):
            counts = np.bincount(ids[inner & (truth == face)])
            assert counts.max() > 0.9 * counts.sum()
        assert len({np.bincount(ids[inner & (truth == face)]).argmax() for face in range(3)}) == 3


def test_a_normal_is_estimated_from_what_is_near_enough_to_be_flat():
    """Rows of points 5 cm apart run round an edge: the sixteen nearest reach beyond it, those within 7 cm hardly."""
    s, t = (x.ravel() for x in np.meshgrid(np.arange(12) * 0.05, np.arange(24) * 0.05))
    xyz = np.concatenate([np.stack([s, t, 0 * s], 1), np.stack([0 * s[s > 0], t[s > 0], -s[s > 0]], 1)])
    xyz = (xyz + np.random.default_rng(0).normal(0, 0.001, xyz.shape)).astype(np.float32)
    toward = (np.array([-5, 0.6, 5]) - xyz).astype(np.float32)
    top = xyz[:, 0] > 0.08
    kwargs = {"toward": toward, "k": 16, "k_edges": 8, "k_threshold": 0.003}
    near, far = (knn_sets(xyz, **kwargs, flat=flat) for flat in (0.07, np.inf))
    assert len(np.unique(near[top])) == 1 and not np.isin(near[~top & (xyz[:, 2] < -0.08)], near[top]).any()
    assert far.max() >= near.max()


def test_compact_ids():
    assert compact_ids(np.array([7, -3, 7, 0, 2**40, -1, 0])).tolist() == [0, -1, 0, 1, 2, -1, 1]
    assert compact_ids(np.array([3, 1, 3], np.uint8)).tolist() == [0, 1, 0]
    assert compact_ids(np.array([2**63, 5], np.uint64)).tolist() == [0, 1]
    assert compact_ids(np.zeros(0, np.int64)).shape == (0,)
    assert compact_ids(np.array([-1, -1])).dtype == np.int32
    with pytest.raises(ValueError, match="integers"):
        compact_ids(np.array([0.5]))
