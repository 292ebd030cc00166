"""`hicl evaluate` and its submission on key frames, by nuScenes-lidarseg's protocol."""

import json

import numpy as np
import pytest
import torch
from scenes import embedding, key_frame, put_group

from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.metrics import confusion, iou
from hicl.pipeline.datasets.nuscenes_classes import CLASSES
from hicl.pipeline.datasets.nuscenes_splits import official
from hicl.submission import eval_set, writing
from hicl.train import evaluate, inference, network
from hicl.train.config import Config, ModelConfig, StreamConfig

SMALL = Config(model=ModelConfig("spvcnn", 4, (4,) * 8), stream=StreamConfig(voxel_size=0.2, features="intensity"))


def frame(seed, n=300, truth=True):
    """A key frame of points in a box of 4 m; a fifth takes no part, a third is of the sweep before."""
    rng = np.random.default_rng(seed)
    found = key_frame(seed, n=n, views=(0, 0))
    found["points/xyz"] = rng.uniform(0, 4, (n, 3)).astype("f4")
    found["points/valid"] = (rng.random(n) > 0.2).astype("u1")
    found["points/sweep"] = (np.arange(n) >= 2 * n // 3).astype("u1")
    found["points/label"] = rng.choice([0, 3, 10, 255], n).astype("u1")  # 13 of the classes are in no truth
    for name in ("points/spread", "pairs/raw", "pairs/refined"):
        found[name] = np.zeros_like(found[name])
    if not truth:
        del found["points/label"]
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("lidarseg") / "cache"
    with CacheWriter(path, "nuscenes", grouped=True) as writer:
        about = {"truth_classes": list(CLASSES), "teacher": None}
        writer.set_text(CLASSES, embedding(CLASSES), "t1", about)
        put_group(writer, "scene-0103", [frame(0), frame(1)])
        put_group(writer, "scene-0916", [frame(2)])
        put_group(writer, "scene-0077", [frame(3, truth=False)], split="test")
        writer.write_manifest({"scene-0103": ("val", ""), "scene-0916": ("val", ""), "scene-0077": ("test", "")})
    return open_cache(path)


def model():
    torch.manual_seed(0)
    net = network.build(SMALL, 6, torch.device("cpu"))
    meta = {"classes": list(CLASSES)}
    return inference.Model(net.eval(), torch.from_numpy(embedding(CLASSES)), meta, SMALL.stream)


def by_hand(scene):
    """A class for each point: the network's, or that of the nearest point that it was given."""
    xyz, valid = scene.read("points/xyz"), scene.read("points/valid").astype(bool)
    label = np.full(len(xyz), 99)
    label[valid] = model().predict(xyz[valid], scene.read("points/intensity")[valid]).label
    for i in np.flatnonzero(~valid):
        label[i] = label[valid][np.linalg.norm(xyz[valid] - xyz[i], axis=1).argmin()]
    return label


def lidarseg_matrix(truth, predicted):
    """[17, 17] as the challenge has it: rows the truth, class 0 what isn't scored."""
    matrix = np.zeros((17, 17), int)
    for t, p in zip(truth, predicted, strict=True):
        matrix[t, p] += t != 0
    return matrix


def test_scores_are_lidarsegs(cache):
    scores = evaluate.evaluate(model(), cache, "val")
    matrix = np.zeros((17, 17), int)
    for scene_id in cache.scene_ids("val"):
        scene = cache.scene(scene_id)
        own = scene.read("points/sweep") == 0
        truth = scene.read("points/label")[own].astype(int)
        matrix += lidarseg_matrix(np.where(truth == 255, 0, truth + 1), by_hand(scene)[own] + 1)
    np.testing.assert_array_equal(scores.confusion, matrix[1:, 1:])
    expected = [matrix[c, c] / u if (u := matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]) else np.nan
                for c in range(1, 17)]  # fmt: skip
    np.testing.assert_allclose(scores.iou, expected)
    np.testing.assert_allclose(scores.miou, np.nanmean(expected))
    assert scores.scans == 3 and "3 val key frames" in evaluate.report(scores)


def test_a_class_that_is_only_predicted_counts_as_none_found():
    matrix = confusion(np.array([0, 0]), np.array([0, 1]), 3)
    np.testing.assert_array_equal(iou(matrix, lidarseg=True), [0.5, 0, np.nan])
    np.testing.assert_array_equal(iou(matrix), [0.5, np.nan, np.nan])


def test_the_devkit_counts_alike():
    utils = pytest.importorskip("nuscenes.eval.lidarseg.utils", reason="nuscenes-devkit isn't installed")
    rng = np.random.default_rng(0)
    theirs, ours = utils.ConfusionMatrix(17, 0), np.zeros((16, 17), np.int64)
    for _ in range(3):
        truth, label = rng.choice([0, 2, 3, 7, 16], 500), rng.choice([2, 3, 5, 16], 500)
        theirs.update(truth, label)
        ours += confusion(np.where(truth == 0, 255, truth - 1), label - 1, 16)
    scores = evaluate.score(ours, CLASSES, lidarseg=True)
    np.testing.assert_allclose(scores.iou, theirs.get_per_class_iou()[1:], rtol=1e-6)
    assert scores.miou == pytest.approx(theirs.get_mean_iou())


def test_a_submission(cache, tmp_path):
    with writing(tmp_path / "out", cache, "val") as use:
        evaluate.evaluate(model(), cache, "val", use=use)
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    tokens = [cache.scene(scene_id).attributes["token"] for scene_id in cache.scene_ids("val")]
    bins = {f"lidarseg/mini_val/{token}_lidarseg.bin" for token in tokens}
    assert found == bins | {"mini_val/submission.json"}
    for token, scene_id in zip(tokens, cache.scene_ids("val"), strict=True):
        scene = cache.scene(scene_id)
        written = np.fromfile(tmp_path / "out" / f"lidarseg/mini_val/{token}_lidarseg.bin", np.uint8)
        own = scene.read("points/sweep") == 0
        np.testing.assert_array_equal(written, by_hand(scene)[own] + 1)
    about = json.loads((tmp_path / "out/mini_val/submission.json").read_text())["meta"]
    assert about.keys() == {"use_camera", "use_lidar", "use_radar", "use_map", "use_external"}
    assert {type(value) for value in about.values()} == {bool}
    with pytest.raises(HiclError, match="is there already"), writing(tmp_path / "out", cache, "val"):
        pass


def test_a_split_without_truth_is_submitted(cache, tmp_path):
    with pytest.raises(HiclError, match="no scene of split 'test' has true labels"):
        evaluate.evaluate(model(), cache, "test")
    with writing(tmp_path, cache, "test") as use:
        evaluate.evaluate(model(), cache, "test", use=use)
    assert [path.name for path in (tmp_path / "lidarseg/test").iterdir()] == ["scene-0077-0_lidarseg.bin"]


def test_a_submission_that_fails_leaves_nothing(cache, tmp_path):
    def fails():
        with writing(tmp_path / "out", cache, "val") as use:
            use(cache.scene("scene-0103.000"), np.zeros(300, int))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert not list((tmp_path / "out").iterdir())


def test_names_of_splits(cache):
    assert eval_set(cache, "val") == "mini_val" and eval_set(cache, "test") == "test"
    assert set(official("mini_val")) == {"scene-0103", "scene-0916"}
