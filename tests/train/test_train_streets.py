"""What the trainer makes of scenes that a LiDAR saw: intensity, points without a return, and their own preset."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from invoke import hicl
from synthetic_rooms import CLASSES, make_cache, text_embedding
from test_train_cli import TINY

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline.teacher.choice import MINIATURE, TeacherConfig
from hicl.train import answers, inference, loop, network, stream
from hicl.train.config import Config, ModelConfig, StreamConfig, load
from hicl.train.taught import Needs

SMALL = ModelConfig("spvcnn", 4, (4,) * 8)
STREAM = StreamConfig(voxel_size=0.15, features="intensity", workers=0)
N_INVALID = 60


def _seen_by_a_lidar(_, arrays):
    """A room without colours and normals: its reds are intensities."""
    arrays["points/intensity"] = arrays.pop("points/rgb")[:, 0].copy()
    del arrays["points/normal"]


def _with_invalid(name, arrays):
    """The same with points of no return among the others, far off, whose labels and intensities are nonsense."""
    _seen_by_a_lidar(name, arrays)
    n = len(arrays["points/xyz"])
    valid = np.ones(n + N_INVALID, np.uint8)
    valid[np.random.default_rng(5).choice(n + N_INVALID, N_INVALID, replace=False)] = 0
    kept = np.flatnonzero(valid)
    arrays.pop("points/spread", None)
    filler = {"points/xyz": -900, "points/label": 255, "points/intensity": 77, "sets/id": arrays["sets/id"].max() + 1}
    for key, value in filler.items():
        own = arrays[key]
        arrays[key] = np.full((len(valid), *own.shape[1:]), value, own.dtype)
        arrays[key][kept] = own
    arrays["points/valid"] = valid
    arrays["pairs/point"] = kept[arrays["pairs/point"]].astype(np.int32)


def _batch(path, **how):
    cache, config = open_cache(path), Config(stream=replace(STREAM, **how))
    source = stream.make_source(cache, Needs("refined"), config.heads, 3, config.stream)
    return stream.make_batch(cache, source, 1, [0, 1])


def test_invalid_points_are_as_if_they_were_not_there(tmp_path):
    batches = [
        _batch(make_cache(tmp_path / name, n_points=400, edit=edit), scale=0.1, jitter=0.2)
        for name, edit in (("all", _seen_by_a_lidar), ("some", _with_invalid))
    ]
    assert sum(batches[0].histogram.flatten()) > 0
    for name in ("coords", "features", "histogram", "sets", "tokens", "token_label"):
        assert torch.equal(*(getattr(batch, name) for batch in batches)), name
    assert batches[0].points == batches[1].points == 800


def test_a_pair_of_an_invalid_point_is_refused(tmp_path):
    arrays = [np.zeros((4, 3)), np.zeros(4), np.zeros(4), np.array([0, 3, 1])]
    assert stream._only(np.array([0, 2, 3]), *arrays)[3].tolist() == [0, 2, -1]


def test_intensity_is_one_channel_from_minus_one_to_one(tmp_path):
    path = make_cache(tmp_path / "cache", train=2, val=1, n_points=300, edit=_seen_by_a_lidar)
    first = _batch(path, rotate=False, flip=False)
    assert first.features.shape[1] == 1
    scene = open_cache(path).scene(first.scenes[0])
    xyz, intensity = scene.read("points/xyz"), scene.read("points/intensity")
    cells = ((xyz.astype(np.float64) - xyz.min(axis=0).astype(np.float64)) / 0.15).astype(int)
    for coord, value in zip(first.coords[:50, 1:].numpy(), first.features[:50, 0], strict=True):
        inside = np.flatnonzero((cells == coord).all(axis=1))
        assert value == pytest.approx(intensity[inside[0]] / 127.5 - 1, abs=1e-6)
    mean = _batch(path, rotate=False, flip=False, colour="mean").features
    assert mean.shape == first.features.shape and not torch.equal(mean, first.features)


def test_the_truth_is_not_what_it_learns_from(tmp_path):
    def liar(name, arrays):
        _with_invalid(name, arrays)
        arrays["points/label"][:] = 0

    edits = _with_invalid, liar
    honest, lied = (_batch(make_cache(tmp_path / edit.__name__, edit=edit, n_points=300)) for edit in edits)
    assert torch.equal(honest.histogram, lied.histogram) and torch.equal(honest.token_label, lied.token_label)


def test_what_a_scene_does_not_have_is_one_line_with_the_way_out(tmp_path):
    street = make_cache(tmp_path / "street", train=2, val=1, n_points=200, edit=_seen_by_a_lidar)
    room = make_cache(tmp_path / "room", train=2, val=1, n_points=200)
    with pytest.raises(HiclError, match="no points/rgb; give --set stream.features=intensity"):
        _batch(street, features="colour")
    with pytest.raises(HiclError, match="no points/intensity; give --set stream.features=colour"):
        _batch(room)


def test_a_point_without_a_return_gets_the_class_of_the_nearest_that_has_one(tmp_path):
    path = make_cache(tmp_path / "cache", train=1, val=1, n_points=300, width=8, edit=_with_invalid)
    net = network.build(Config(model=SMALL, stream=STREAM), 8, torch.device("cpu")).eval()
    model = inference.Model(net, torch.from_numpy(text_embedding(8)), {"classes": list(CLASSES)}, STREAM)
    scene = open_cache(path).scene("val01")
    xyz, intensity, valid = (scene.read(f"points/{name}") for name in ("xyz", "intensity", "valid"))
    kept = valid == 1
    expected = np.empty(len(xyz), int)
    expected[kept] = model.predict(xyz[kept], intensity[kept]).label
    for point in np.flatnonzero(~kept):
        expected[point] = expected[kept][np.linalg.norm(xyz[kept] - xyz[point], axis=1).argmin()]
    assert (answers.classes_of(model, scene) == expected).all()
    with pytest.raises(ValueError, match=r"intensity uint8 \[5\]"):
        model.predict(xyz[:5], np.zeros((5, 3), np.uint8))


def test_training_learns_streets(tmp_path):
    path = make_cache(tmp_path / "cache", n_points=500, n_views=4, width=8, noise=0.2, edit=_with_invalid)
    settings = {
        **{"model.stem": 8, "model.planes": (8,) * 8, "stream.voxel_size": 0.15, "stream.workers": 0},
        **{"schedule.epochs": 8, "heads.tokens": 32, "schedule.attention_epoch": 0.0, "optim.lr": 0.1},
        **{"schedule.feedback_epoch": 20.0, "optim.save_every": 5, "schedule.evaluate_every": 8},
    }
    config = load("street", None, settings)
    loop.train(path, config, tmp_path / "whole", show=False)
    log = (tmp_path / "whole" / "log.csv").read_text()
    assert float(log.splitlines()[-1].split(",")[log.splitlines()[0].split(",").index("miou")]) > 0.2
    model = inference.load(tmp_path / "whole")
    assert type(model.net).__name__ == "SPVCNN" and model.stream.features == "intensity"


def test_the_preset_follows_from_the_cache(tmp_path):
    own = TeacherConfig(MINIATURE, MINIATURE).identity()
    clip = TeacherConfig().identity()
    small = {"train": 2, "val": 1, "n_points": 200, "width": 8}
    for name, dataset, teacher, edit in (
        ("street", "nuscenes", own, _with_invalid),
        ("nuscenes", "nuscenes", clip, _with_invalid),
        ("miniature", "scannet", own, None),
    ):
        cache = make_cache(tmp_path / name / "cache", dataset=dataset, teacher=teacher, edit=edit, **small)
        run = tmp_path / name / "run"
        hicl("train", "--cache", cache, "--exp", "I", "--out", run, *TINY)
        with open(run / "config.toml", "rb") as file:
            settings = tomllib.load(file)
        assert settings["preset"] == name
        assert settings["model"]["network"] == ("minkunet" if name == "miniature" else "spvcnn")
