import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import HiclError
from hicl.pipeline.normals import mesh_normals, neighbors, pca_normals, unit


def test_mesh_normals_are_the_segmentator_s_to_the_last_bit():
    xyz, faces = reference.bumpy_mesh(12, 15)
    assert np.array_equal(mesh_normals(xyz, faces), reference.mesh_normals(xyz, faces))


def test_mesh_normals_are_means_and_not_of_unit_length():
    xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    normals = mesh_normals(xyz, np.array([[0, 1, 2], [0, 2, 3]]))  # facing +z and +x
    assert np.allclose(normals, [[0.5, 0, 0.5], [0, 0, 1], [0.5, 0, 0.5], [1, 0, 0]])
    assert normals.dtype == np.float32
    assert np.allclose(unit(normals)[0], [0.5**0.5, 0, 0.5**0.5])


def test_degenerate_faces_are_skipped():
    xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [np.nan, 0, 0]], np.float32)
    normals = mesh_normals(xyz, np.array([[0, 1, 3], [1, 1, 2], [0, 4, 2], [0, 1, 2]]))
    assert np.array_equal(normals, [[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("face", [[0, 1, 3], [-1, 1, 2]])
def test_a_face_with_a_vertex_that_is_not_there_is_refused(face):
    with pytest.raises(HiclError, match="vertices 0 to 2"):
        mesh_normals(np.zeros((3, 3), np.float32), np.array([face]))


def test_unit_leaves_what_has_no_direction_at_zero():
    out = unit(np.array([[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [0, -3, 4], [1e-30, 0, 0]]))
    assert np.allclose(out, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, -0.6, 0.8], [1, 0, 0]])
    assert out.dtype == np.float32


def test_neighbors():
    xyz = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0], [9, 0, 0]], np.float32)
    index, distance = neighbors(xyz, k=3, radius=2.5)
    assert index.tolist() == [[0, 1, -1], [1, 0, 2], [2, 1, -1], [3, -1, -1]]
    assert distance.tolist() == [[0, 1, np.inf], [0, 1, 2], [0, 2, np.inf], [0, np.inf, np.inf]]
    assert index.dtype == np.int32 and distance.dtype == np.float32
    assert neighbors(xyz, k=6)[0][:, 4:].tolist() == [[-1, -1]] * 4
    assert neighbors(xyz, k=1)[0].tolist() == [[0], [1], [2], [3]]
    assert neighbors(xyz[:0], k=2)[0].shape == (0, 2)


def cloud(kind, n, rng):
    """Points on a plane, in a volume, of very different densities, on a lattice (all ties), and mostly the same."""
    if kind == "surface":
        return np.c_[rng.uniform(-2, 2, (n, 2)), 0.01 * rng.standard_normal(n)]
    if kind == "volume":
        return rng.uniform(-1, 1, (n, 3))
    if kind == "sweep":
        return rng.standard_normal((n, 3)) * 10 ** rng.uniform(-3, 2, (n, 1))
    if kind == "lattice":
        return rng.integers(0, 6, (n, 3)).astype(float)
    return np.where(rng.random((n, 1)) < 0.5, 1.0, rng.uniform(0, 50, (n, 3)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["surface", "volume", "sweep", "lattice", "heap"]),
    n=st.integers(1, 300),
    k=st.integers(1, 20),
    radius=st.sampled_from([np.inf, 0.3, 1.0]),
)
def test_neighbors_are_the_nearest_of_all_points_and_of_equals_the_lowest(seed, kind, n, k, radius):
    xyz = cloud(kind, n, np.random.default_rng(seed)).astype(np.float32)
    index, distance = neighbors(xyz, k, radius)
    difference = xyz[:, None].astype(np.float64) - xyz[None].astype(np.float64)
    square = difference[..., 0] ** 2 + difference[..., 1] ** 2 + difference[..., 2] ** 2
    nearest = np.argsort(square, axis=1, kind="stable")[:, :k]
    square = np.take_along_axis(square, nearest, axis=1)
    within = square < radius**2
    shown = min(n, k)
    assert np.array_equal(index[:, :shown], np.where(within, nearest, -1))
    assert np.array_equal(distance[:, :shown], np.where(within, np.sqrt(square), np.inf).astype(np.float32))
    assert (index[:, shown:] == -1).all() and np.isinf(distance[:, shown:]).all()


def test_a_few_strays_far_away_cost_no_more_than_themselves():
    """With cells by the whole extent all the others would share one, and this would take minutes."""
    rng = np.random.default_rng(0)
    near = cloud("surface", 60_000, rng).astype(np.float32)
    strays = np.array([[1e6, 0, 0], [0, -3e7, 1], [5e5, 5e5, -5e5]], np.float32)
    index, _ = neighbors(np.concatenate([near, strays]))
    assert np.array_equal(index[:60_000], neighbors(near)[0])
    assert index[60_000, :2].tolist() == [60_000, 60_002]


def test_coordinates_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        neighbors(np.array([[0, 0, 0], [0, np.nan, 0]], np.float32))


@pytest.mark.parametrize("offset", [0.0, 500.0])
@pytest.mark.parametrize("flatness", [1.0, 0.1, 1e-4])
def test_pca_normals_agree_with_eigh(flatness, offset):
    rng = np.random.default_rng(int(flatness * 10))
    blobs = rng.standard_normal((300, 12, 3)) * (1, 0.7, flatness * 0.3)
    turn = np.linalg.qr(rng.standard_normal((300, 3, 3)))[0]
    xyz = (np.einsum("nij,nkj->nki", turn, blobs) + offset).reshape(-1, 3).astype(np.float32)
    index = np.repeat(np.arange(len(xyz), dtype=np.int32).reshape(300, 12), 12, axis=0)
    normals = pca_normals(xyz, index)
    assert normals.dtype == np.float32
    for i in range(0, len(xyz), 12):
        expected, _ = reference.pca_normal(xyz[index[i]])
        assert abs(abs(expected @ normals[i]) - 1) < 1e-5
        assert np.allclose(normals[i : i + 12], normals[i])
        assert normals[i, np.abs(normals[i]).argmax()] > 0


def test_pca_normals_turn_towards_the_sensor():
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(-1, 1, (50, 2)), np.zeros(50)].astype(np.float32)
    toward = np.where(np.arange(50)[:, None] % 2, [0.3, 0, 1], [0, 0, -2]).astype(np.float32)
    normals = pca_normals(xyz, neighbors(xyz, 8)[0], toward)
    assert np.allclose(normals, np.where(np.arange(50)[:, None] % 2, [0, 0, 1], [0, 0, -1]))
    with pytest.raises(ValueError, match="toward"):
        pca_normals(xyz, neighbors(xyz, 8)[0], toward[:3])


def test_without_a_plane_there_is_no_normal():
    line = np.c_[np.arange(6.0), np.arange(6.0), np.zeros(6)].astype(np.float32)
    same = np.ones((6, 3), np.float32)
    two = np.tile(np.array([0, 1, -1], np.int32), (6, 1))
    for xyz, index in (
        (line, neighbors(line, 4)[0]),
        (same, np.tile(np.arange(6, dtype=np.int32), (6, 1))),
        (line, two),
    ):
        assert not pca_normals(xyz, index).any()
