"""What a network reads of a voxel, heights above the floor first of all."""

import dataclasses

import numpy as np
import pytest
from synthetic_rooms import TINY, make_cache

from hicl.cache.opening import open_cache
from hicl.train import inference, loop
from hicl.train.augment import augment
from hicl.train.config import FEATURES, Config, StreamConfig, load, stored
from hicl.train.kernels import voxel_features, voxelise
from hicl.train.reading import height_features, network_input

HIGH = StreamConfig(voxel_size=0.1, features="colour+height")


def test_heights_are_metres_above_the_floor_of_all_points():
    z = np.concatenate([np.full(997, 0.5), [1.7, 2.9, 9.0]]).astype(np.float32)
    read = height_features(z, np.array([0, 997, 998, 999]))
    assert read.dtype == np.float32 and read.shape == (4, 1)
    assert np.allclose(read[:, 0], [-1, 0, 1, 3])


def test_a_few_points_below_the_floor_do_not_move_it():
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 2.5, 5000).astype(np.float32)
    z[rng.random(5000) < 0.3] = 0
    mirrored = z.copy()
    mirrored[:20] = -3
    kept = np.arange(20, 5000)
    assert np.allclose(height_features(z, kept), height_features(mirrored, kept), atol=0.02)


@pytest.mark.parametrize("colour", ["first", "mean"])
def test_the_height_joins_what_is_read_without_it_and_no_move_changes_it(colour):
    rng = np.random.default_rng(1)
    xyz, rgb = rng.uniform(0, 3, (800, 3)).astype(np.float32), rng.integers(0, 256, (800, 3), np.uint8)
    high = dataclasses.replace(HIGH, colour=colour)
    moved, features = augment(xyz, rgb, high, rng)
    _, representative, voxel_of_point = voxelise(moved, 0.1)
    arguments = voxel_features(features, representative, voxel_of_point, colour), moved, representative
    low = network_input(*arguments, dataclasses.replace(high, features="colour"))
    both = network_input(*arguments, high)
    assert low is arguments[0]
    assert both.shape == (len(representative), 4) and both.dtype == np.float32
    assert np.array_equal(both[:, :3], low)
    assert np.array_equal(both[:, 3:], height_features(xyz[:, 2], representative))


def test_experiment_six_reads_heights_and_others_what_they_are_told_to():
    assert load("miniature", None, {"experiment": "VI"}).reading.features == "colour+height"
    assert load("street", None, {"experiment": "VI"}).reading.features == "intensity+height"
    assert load("miniature", None, {"experiment": "VI", "recipe.height": False}).reading.features == "colour"
    assert load("miniature", None, {"experiment": "V"}).reading.features == "colour"
    assert load("miniature", None, {"objective": "ppkt", "experiment": "VI"}).reading.features == "colour"
    told = {"experiment": "VI", "stream.features": "colour+height"}
    assert load("miniature", None, told).reading.features == "colour+height"


def test_a_run_of_before_there_were_heights_is_read_as_it_was():
    noted = dataclasses.asdict(load("miniature", None, {"experiment": "VI"}))
    assert stored(Config(), noted, "here").reading.features == "colour+height"
    del noted["recipe"]["height"]
    assert stored(Config(), noted, "here").reading.features == "colour"
    noted["experiment"] = "V"  # which goes on, and whose table is taken up, as if nothing had been
    assert stored(Config(), noted, "here") == load("miniature", None, {"experiment": "V"})


@pytest.mark.parametrize(("experiment", "features"), [("V", "colour"), ("V", "colour+height"), ("VI", "colour+height")])
def test_a_trained_network_reads_of_a_scan_what_it_read_in_training(tmp_path, experiment, features):
    cache = open_cache(make_cache(tmp_path / "cache", n_points=400, width=8))
    settings = TINY | {"experiment": experiment, "schedule.epochs": 1, "schedule.batch": 2}
    if experiment == "V":
        settings["stream.features"] = features
    run = tmp_path / "run"
    loop.train(cache.path, load("miniature", None, settings), run)
    model = inference.load(run)
    width = FEATURES[features].width
    assert width == (4 if features == "colour+height" else 3)
    xyz, rgb, *_ = model.read(cache.scene(cache.scene_ids("val")[0]))
    whole = model.predict(xyz, rgb).label
    lifted = xyz + np.array([0, 0, 16 * model.voxel_size], np.float32)  # by whole cells of the coarsest grid
    assert (model.predict(lifted, rgb).label == whole).mean() > 0.99
    coords, read, _ = model._voxels(xyz, rgb)
    assert read.shape == (len(coords), width)
