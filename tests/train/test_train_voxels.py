import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hicl.train import kernels
from hicl.train.augment import augment, elastic
from hicl.train.config import StreamConfig
from hicl.train.kernels import (
    grid_shape,
    label_histogram,
    majority_labels,
    token_labels,
    voxel_features,
    voxelise,
)

points = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=st.floats(-4, 4, width=32))


@settings(max_examples=60, deadline=None)
@given(points, st.floats(0.05, 2))
def test_voxels_are_the_distinct_cells_and_every_point_has_its_own(xyz, size):
    coords, representative, voxel_of_point = voxelise(xyz, size)
    cells = ((xyz.astype(np.float64) - xyz.min(axis=0).astype(np.float64)) / size).astype(np.int64)
    assert (coords[voxel_of_point] == cells).all()
    assert len(np.unique(coords, axis=0)) == len(coords) == len(np.unique(cells, axis=0))
    assert coords.dtype == np.int32 and coords.min() == 0
    # The representative is the first point of its voxel, and voxels come in order of their first points.
    _, first = np.unique(voxel_of_point, return_index=True)
    assert (representative == first).all() and (np.diff(representative) > 0).all()


def test_more_cells_than_the_table_has_room_for_at_first(monkeypatch):
    xyz = np.random.default_rng(0).uniform(0, 20, (500, 3)).astype(np.float32)
    whole = voxelise(xyz, 1.0)
    assert len(whole[0]) > 400
    monkeypatch.setattr(kernels, "_CELLS_AT_FIRST", 16)
    for first, again in zip(whole, voxelise(xyz, 1.0), strict=True):
        np.testing.assert_array_equal(first, again)


@settings(max_examples=30, deadline=None)
@given(points, st.integers(0, 2**32 - 1))
def test_the_partition_does_not_depend_on_the_order_of_points(xyz, seed):
    order = np.random.default_rng(seed).permutation(len(xyz))
    a, b = voxelise(xyz, 0.3), voxelise(xyz[order], 0.3)
    assert (a[0][a[2]][order] == b[0][b[2]]).all()


@settings(max_examples=30, deadline=None)
@given(points)
def test_a_voxel_s_colour_is_its_first_point_s_or_the_mean(xyz):
    colour = np.cos(np.arange(3 * len(xyz), dtype=np.float32)).reshape(-1, 3)
    _, representative, voxel_of_point = voxelise(xyz, 0.5)
    first = voxel_features(colour, representative, voxel_of_point, "first")
    mean = voxel_features(colour, representative, voxel_of_point, "mean")
    for voxel in range(len(representative)):
        own = colour[voxel_of_point == voxel]
        assert (first[voxel] == own[0]).all()
        np.testing.assert_allclose(mean[voxel], own.mean(axis=0), atol=1e-6)
    assert mean.dtype == first.dtype == np.float32


@pytest.mark.parametrize("bad", [np.empty((0, 3)), np.array([[0, np.nan, 0]]), np.array([[0, 0, 0], [2e6, 0, 0.0]])])
def test_points_that_have_no_voxels_are_refused(bad):
    with pytest.raises(ValueError):
        voxelise(bad, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_histogram_equals_counting_pair_by_pair(seed):
    rng = np.random.default_rng(seed)
    n, views, classes = 20, 5, 4
    indptr = np.cumsum([0, *rng.integers(0, 30, views)])
    point = rng.integers(0, n, indptr[-1]).astype(np.int32)
    label = rng.choice([0, 1, 2, 3, 255], indptr[-1]).astype(np.uint8)
    voxel = rng.integers(0, 7, n).astype(np.int32)
    chosen = rng.permutation(views)[:3]
    expected = np.zeros((7, classes), int)
    for view in chosen:
        for k in range(indptr[view], indptr[view + 1]):
            if label[k] != 255:
                expected[voxel[point[k]], label[k]] += 1
    assert (label_histogram(indptr, chosen, point, label, voxel, 7, classes) == expected).all()


def test_histogram_refuses_points_and_labels_that_do_not_exist():
    one = np.zeros(1, np.int32)
    for point, label in ((5, 0), (-1, 0), (0, 9)):
        with pytest.raises(ValueError, match="view 0"):
            label_histogram(np.array([0, 1]), one, one + point, (one + label).astype(np.uint8), one, 1, 3)


def test_majority_is_the_lowest_of_equals_and_none_where_nothing_was_seen():
    assert majority_labels(np.array([[0, 2, 2], [0, 0, 0], [1, 0, 5]])).tolist() == [1, 255, 2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_token_without_pairs_gets_the_commonest_label_of_its_set(seed):
    rng = np.random.default_rng(seed)
    histogram = (rng.integers(0, 3, (30, 4)) * (rng.random((30, 1)) < 0.4)).astype(np.int32)
    sets, tokens = rng.integers(0, 6, 30), rng.integers(0, 30, 50)
    for token, label in zip(tokens, token_labels(histogram, sets, tokens), strict=True):
        own, of_set = histogram[token], histogram[sets == sets[token]].sum(axis=0)
        votes = own if own.any() else of_set
        assert label == (votes.argmax() if votes.any() else 255)


def test_grid_is_a_multiple_of_sixteen_above_every_voxel():
    assert grid_shape(np.array([[0, 15, 16], [0, 3, 31]])) == [16, 16, 32]


def test_augmentation_without_options_only_turns_and_mirrors():
    rng = np.random.default_rng(0)
    xyz, rgb = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3)).astype(np.uint8)
    moved, colour = augment(xyz, rgb, StreamConfig(), np.random.default_rng(1))
    assert np.allclose(moved[:, 2], xyz[:, 2])
    assert np.allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(xyz, axis=1), atol=1e-5)
    assert not np.allclose(moved, xyz)
    assert np.allclose(colour, rgb / 127.5 - 1, atol=1e-6)
    off = augment(xyz, rgb, StreamConfig(rotate=False, flip=False), np.random.default_rng(1))[0]
    assert (off == xyz).all()


def test_elastic_field_is_bounded_and_smooth_and_options_stay_in_range():
    rng = np.random.default_rng(0)
    xyz, rgb = rng.uniform(0, 3, (200, 3)).astype(np.float32), rng.integers(0, 256, (200, 3)).astype(np.uint8)
    shift = elastic(xyz, 0.2, np.random.default_rng(2)) - xyz
    assert np.abs(shift).max() <= 0.2 + 1e-6
    near = elastic(xyz + np.float32(1e-3), 0.2, np.random.default_rng(2)) - (xyz + np.float32(1e-3))
    assert np.abs(near - shift).max() < 5e-3
    strong = StreamConfig(scale=0.1, jitter=0.5, elastic=0.2)
    _, colour = augment(xyz, rgb, strong, np.random.default_rng(3))
    assert colour.min() >= -1 and colour.max() <= 1 and colour.dtype == np.float32


def test_an_option_leaves_the_other_random_numbers_as_they_were():
    rng = np.random.default_rng(0)
    xyz, rgb = rng.uniform(0, 3, (20, 3)).astype(np.float32), np.zeros((20, 3), np.uint8)
    plain = augment(xyz, rgb, StreamConfig(), np.random.default_rng(5))[0]
    jittered = augment(xyz, rgb, StreamConfig(jitter=0.3), np.random.default_rng(5))[0]
    assert (plain == jittered).all()
