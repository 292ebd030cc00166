"""A LiDAR's sweep on the command line: `hicl predict`, `search`, `view`, and pictures of key frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plyfile import PlyData
from scenes import embedding
from test_lidarseg import SMALL, cache, model  # noqa: F401  (a fixture)
from typer.testing import CliRunner

from hicl.commands import app
from hicl.errors import HiclError
from hicl.pipeline import report
from hicl.pipeline.datasets.nuscenes_classes import CLASSES
from hicl.pipeline.picture import class_colors
from hicl.predict import predict_file
from hicl.train import answers, inference, network
from hicl.train.config import Config, ModelConfig
from hicl.viewer import layers


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A ground of 20 m with a wall, some of the car's own points, and one without a place, among the others."""
    rng = np.random.default_rng(0)
    ground = np.c_[rng.uniform(-10, 10, (400, 2)), rng.normal(-1.8, 0.02, 400)]
    wall = np.c_[np.full(200, 9.0), rng.uniform(-10, 10, 200), rng.uniform(-1.8, 3, 200)]
    own = rng.uniform(-0.9, 0.9, (60, 3))
    xyz = np.concatenate([ground, wall, own])[rng.permutation(660)]
    xyz[7] = np.nan
    rows = np.c_[xyz, rng.integers(0, 256, 660), np.arange(660) % 32].astype("<f4")
    path = tmp_path_factory.mktemp("sweep") / "n015__LIDAR_TOP__1.pcd.bin"
    path.write_bytes(rows.tobytes())
    return path, rows


def expected_labels(rows, trained=None):
    """The network's of its points; of the rest that of the nearest of those, where a point without a place is at 0."""
    xyz = np.nan_to_num(rows[:, :3])
    valid = np.isfinite(rows[:, 0]) & ((np.abs(xyz[:, 0]) >= 1) | (np.abs(xyz[:, 1]) >= 1))
    label = np.full(len(rows), 99)
    label[valid] = (trained or model()).predict(xyz[valid], rows[valid, 3].astype("u1")).label
    for i in np.flatnonzero(~valid):
        label[i] = label[valid][np.linalg.norm(xyz[valid] - xyz[i], axis=1).argmin()]
    return label


def test_a_class_for_each_point_in_the_files_order(sweep, tmp_path):
    path, rows = sweep
    expected = expected_labels(rows)
    for name in ("a.npy", "a.bin", "a.ply"):
        said = predict_file(path, model(), tmp_path / name, pool="none")
        assert "660 points" in said and "1 points have no finite place" in said
    assert np.load(tmp_path / "a.npy").dtype == np.uint8
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "a.bin", np.uint8), expected + 1)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    np.testing.assert_array_equal(vertex["label"], expected)
    np.testing.assert_array_equal(vertex["x"], rows[:, 0])
    np.testing.assert_array_equal(vertex["red"], class_colors(CLASSES)[expected, 0])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["label"], expected)


def test_a_network_of_heights_reads_sweeps_too(sweep, tmp_path):
    path, rows = sweep
    config = replace(SMALL, stream=replace(SMALL.stream, features="intensity+height"))
    high = inference.Model(
        network.build(config, 6, torch.device("cpu")).eval(), model().text, model().meta, config.stream
    )
    predict_file(path, high, tmp_path / "a.npy", pool="none")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected_labels(rows, high))


def test_answers_of_sets(sweep, tmp_path):
    """All points of a set have one class; the ground is one set."""
    path, rows = sweep
    predict_file(path, model(), tmp_path / "a.npy")
    ground = np.nan_to_num(rows[:, 2]) < -1.7
    far = np.abs(rows[:, 0]) > 1
    values, counts = np.unique(np.load(tmp_path / "a.npy")[ground & far], return_counts=True)
    assert counts.max() > 0.8 * counts.sum()


def colour_model():
    net = network.build(Config(model=ModelConfig(stem=4, planes=(4,) * 8)), 6, torch.device("cpu"))
    return inference.Model(
        net.eval(), torch.from_numpy(embedding(CLASSES)), {"classes": list(CLASSES)}, Config().stream
    )


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "0 bytes, expected 20 for each point"),
        (bytes(39), "39 bytes, expected 20 for each point"),
        (bytes(100), "no point that is finite and not of the car itself"),
        (None, "missing"),
    ],
)
def test_a_sweep_that_will_not_do(tmp_path, content, said):
    path = tmp_path / "a.pcd.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HiclError, match=said) as error:
        predict_file(path, model(), tmp_path / "out.npy")
    assert "\n" not in str(error.value) and not (tmp_path / "out.npy").exists()


def test_what_does_not_go_together(sweep, tmp_path):
    path, _ = sweep
    (tmp_path / "room.ply").write_text("ply\n")
    for scan, net, out, said in (
        (path, colour_model(), "a.ply", "a LiDAR's sweep, and the model reads colours"),
        (tmp_path / "room.ply", model(), "a.ply", "the model reads the intensity of a LiDAR's sweep"),
        (tmp_path / "room.ply", colour_model(), "a.npy", "ends in .ply"),
        (path, model(), "a.txt", "ends in .ply, .npy, .bin"),
    ):
        with pytest.raises(HiclError, match=said):
            predict_file(scan, net, tmp_path / out)
    other = model()
    other.meta["classes"] = ["a", *CLASSES[1:]]
    with pytest.raises(HiclError, match="not nuScenes-lidarseg's 16"):
        predict_file(path, other, tmp_path / "a.bin")


def test_what_can_be_seen(sweep, cache, tmp_path):  # noqa: F811
    path, rows = sweep
    seen = layers.load(path, None, model(), None, None)
    assert list(seen.layers) == ["intensity", "prediction"] and np.isfinite(seen.xyz).all()
    of_cache = layers.load(cache.path, "scene-0103.001", model(), None, None)
    assert list(of_cache.layers)[0] == "intensity" and "truth" in of_cache.layers and "prediction" in of_cache.layers
    scene = cache.scene("scene-0103.000")
    own = (scene.read("points/valid") == 1) & (scene.read("points/sweep") == 0)
    np.testing.assert_array_equal(report.shown_points(scene), np.flatnonzero(own))
    drawn = report.draw(cache, scene, answers.classes_of(model(), scene))
    red, green, blue = class_colors(CLASSES)[0]
    assert (np.asarray(drawn) == (red, green, blue)).all(axis=2).any()


def test_the_report_of_key_frames(cache, tmp_path):  # noqa: F811
    found = CliRunner().invoke(
        app, ["report", "labels", "--cache", str(cache.path), "--split", "val", "--picture", str(tmp_path / "a.png")]
    )
    assert found.exit_code == 0 and "3 scenes" in found.stdout and (tmp_path / "a.png").exists()
