"""The pipeline as a whole: what is up to date is left alone, what isn't is made anew, nothing is ever half there."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from formats import write_ply
from PIL import Image
from plyfile import PlyData
from reference import same_partition
from scans import tree, write_labels, write_scan

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.export import export
from hicl.pipeline import refine, report, run
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import frames, ply, rgbd
from hicl.pipeline.datasets.nyu40 import CLASSES, NYU40_IDS

ALL_STAGES = {"points", "views", "sets", "features", "labels"}


@pytest.fixture
def config(tiny_clip) -> PreprocessConfig:
    return PreprocessConfig(clip=tiny_clip.vit.config, weights=tiny_clip.vit.weights, short_side=64)


@pytest.fixture
def root(tmp_path) -> Path:
    for index in range(2):
        write_scan(tmp_path / "scans" / f"corner{index}", seed=index)
    return tmp_path / "scans"


def preprocess(root: Path, out: Path, config: PreprocessConfig, classes=CLASSES, workers=1, frame_step=1, split="test"):
    scenes = [(scene, split) for scene in rgbd.find_scenes(root, frame_step)]
    source = run.Source("rgbd", root, scenes, ())
    return run.preprocess(source, out, config, ClassList.of(classes), workers, "cpu", say=lambda _: None)


@pytest.fixture
def stages_done(monkeypatch) -> list[frozenset]:
    """What each call of process_scene was asked to do."""
    done = []
    original = run.process_scene

    def spy(job, tick=lambda: None):
        done.append(job.todo)
        return original(job, tick)

    monkeypatch.setattr(run, "process_scene", spy)
    return done


def test_labels_follow_from_the_cached_features_and_pairs(root, tmp_path, config):
    summary = preprocess(root, tmp_path / "cache", config)
    assert sorted(summary.done) == ["corner0", "corner1"]
    cache = open_cache(tmp_path / "cache")
    scene = cache.scene("corner0")
    pixel, raw = scene.read("pairs/pixel"), scene.read("pairs/raw")
    grid = scene.read("features/grid").astype(np.float64) * scene.read("features/scale")[..., None]
    assert np.allclose(np.linalg.norm(grid, axis=-1), 1, atol=0.01)
    rows, columns = grid.shape[1:3]
    set_of_pair, sums = scene.read("sets/id")[scene.read("pairs/point")], np.zeros((3, len(CLASSES)))
    for pair in range(len(raw)):
        view = np.searchsorted(scene.read("pairs/indptr"), pair, side="right") - 1
        y = np.clip((pixel[pair, 0] + 0.5) * rows / 48 - 0.5, 0, rows - 1)
        x = np.clip((pixel[pair, 1] + 0.5) * columns / 64 - 0.5, 0, columns - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        a, b = y - top, x - left
        feature = (1 - a) * ((1 - b) * grid[view, top, left] + b * grid[view, top, right]) + a * (
            (1 - b) * grid[view, bottom, left] + b * grid[view, bottom, right]
        )
        scores = cache.text.astype(np.float64) @ feature
        assert scores[raw[pair]] >= scores.max() - 1e-6
        sums[set_of_pair[pair]] += scores
    assert len(np.unique(scene.read("sets/id"))) == 3  # two walls and a floor
    spread = scene.read("points/spread")
    assert [set(spread[scene.read("sets/id") == k].tolist()) for k in range(3)] == [{k} for k in sums.argmax(axis=1)]
    preprocess(root, tmp_path / "cache", replace(config, vote="scores"))
    scene = open_cache(tmp_path / "cache").scene("corner0")
    np.testing.assert_array_equal(scene.read("pairs/refined"), spread[scene.read("pairs/point")])


def test_second_run_does_nothing(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config)
    before, times = tree(tmp_path / "cache"), _times(tmp_path / "cache")
    summary = preprocess(root, tmp_path / "cache", config)
    assert summary.done == [] and sorted(summary.unchanged) == ["corner0", "corner1"]
    assert tree(tmp_path / "cache") == before
    assert _times(tmp_path / "cache") == times


def _times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_new_classes_run_only_the_labels(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config)
    grid = tmp_path / "cache/scenes/corner0/features/grid/c/0/0/0/0"
    inode = grid.stat().st_ino
    preprocess(root, tmp_path / "cache", config, classes=("wall", "floor", "elephant"))
    assert stages_done[2:] == [frozenset({"labels"})] * 2
    assert grid.stat().st_ino == inode
    preprocess(root, tmp_path / "fresh", config, classes=("wall", "floor", "elephant"))
    assert tree(tmp_path / "cache") == tree(tmp_path / "fresh")


def test_a_cache_from_before_spread_labels_gets_them(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config)
    whole = tree(tmp_path / "cache")
    for scene in ("corner0", "corner1"):
        folder = tmp_path / "cache/scenes" / scene
        shutil.rmtree(folder / "points/spread")
        attributes = json.loads((folder / "zarr.json").read_text())
        attributes["attributes"]["stages"]["labels"] = "0" * 16
        (folder / "zarr.json").write_text(json.dumps(attributes))
    assert not open_cache(tmp_path / "cache").scene("corner0").has("points/spread")
    preprocess(root, tmp_path / "cache", config)
    assert stages_done[2:] == [frozenset({"labels"})] * 2
    assert tree(tmp_path / "cache") == whole


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"vote": "scene"}, {"labels"}),
        ({"k_threshold": 0.02}, {"sets", "labels"}),
        ({"max_gap": 0.02}, {"views", "sets", "labels"}),
        ({"short_side": 48}, {"features", "labels"}),
        ({"dense": "kk"}, {"features", "labels"}),
        ({"window": 32, "short_side": 48}, {"features", "labels"}),
        ({"prompt_denoising": 0.5}, {"labels"}),
        ({"prompt_denoising": 0.5, "fit_temperature": True}, {"labels"}),
    ],
)
def test_a_setting_runs_only_what_depends_on_it(root, tmp_path, config, stages_done, change, expected):
    preprocess(root, tmp_path / "cache", config)
    changed = replace(config, **change)
    preprocess(root, tmp_path / "cache", changed)
    # Another teacher is another text, yet never other points.
    assert stages_done[-1] == expected
    preprocess(root, tmp_path / "fresh", changed)
    assert tree(tmp_path / "cache") == tree(tmp_path / "fresh")


def test_other_frames_run_what_depends_on_them(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config)
    preprocess(root, tmp_path / "cache", config, frame_step=2)
    assert stages_done[-1] == {"views", "sets", "features", "labels"}
    assert open_cache(tmp_path / "cache").scene("corner1").read("views/frame").tolist() == [0, 2]


def test_changed_input_is_never_reused(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config)
    shutil.rmtree(root / "corner1")
    write_scan(root / "corner1", seed=9)
    preprocess(root, tmp_path / "cache", config)
    assert stages_done[2:] == [frozenset(ALL_STAGES)]


def test_workers_write_the_same_bytes(root, tmp_path, config):
    write_scan(root / "corner2", seed=2)
    preprocess(root, tmp_path / "one", config, workers=1)
    preprocess(root, tmp_path / "two", config, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_bad_frames_are_skipped_and_counted(root, tmp_path, config):
    (root / "corner0/frame-000001.color.png").write_bytes(b"not an image")
    np.savetxt(root / "corner0/frame-000002.pose.txt", np.full((4, 4), -np.inf))
    summary = preprocess(root, tmp_path / "cache", config)
    assert summary.failed == {}
    reasons = summary.skipped["corner0"]
    assert "decode" in reasons["1"] and "frame-000001.color.png" in reasons["1"]
    assert "not finite" in reasons["2"]
    row = open_cache(tmp_path / "cache").manifest[0]
    assert (row["frames"], row["skipped_frames"]) == (2, 2)


def test_bad_scene_fails_alone(root, tmp_path, config):
    for depth in (root / "corner0").glob("*.depth.png"):
        depth.unlink()
    summary = preprocess(root, tmp_path / "cache", config)
    assert summary.done == ["corner1"]
    assert "corner0" in summary.failed["corner0"] and "depth.png" in summary.failed["corner0"]
    states = {row["scene"]: row["state"] for row in open_cache(tmp_path / "cache").manifest}
    assert states == {"corner0": "failed", "corner1": "complete"}
    assert not (tmp_path / "cache/scenes/corner0").exists()
    assert open_cache(tmp_path / "cache").scene_ids() == ["corner1"]


def test_scene_that_no_camera_sees(root, tmp_path, config):
    for pose in (root / "corner0").glob("*.pose.txt"):
        flipped = np.loadtxt(pose)
        flipped[:3, [0, 2]] *= -1  # looks the other way
        np.savetxt(pose, flipped)
    summary = preprocess(root, tmp_path / "cache", config)
    assert "no point is visible" in summary.failed["corner0"]


def test_labels_of_a_2d_segmenter(root, tmp_path):
    write_labels(tmp_path / "labels/corner0", classes=3)
    write_labels(tmp_path / "labels/corner1", classes=3)
    config = PreprocessConfig(teacher="labels", labels_dir=str(tmp_path / "labels"))
    preprocess(root, tmp_path / "cache", config, classes=("a", "b", "c"))
    cache = open_cache(tmp_path / "cache")
    scene = cache.scene("corner0")
    assert not scene.has("features/grid")
    np.testing.assert_array_equal(cache.text, np.eye(3))
    for view in range(4):
        image = np.asarray(Image.open(tmp_path / f"labels/corner0/{view}.png"))
        own = slice(*scene.read("pairs/indptr")[view : view + 2])
        row, column = scene.read("pairs/pixel")[own].T
        np.testing.assert_array_equal(scene.read("pairs/raw")[own], image[row // 2, column // 2])
    (tmp_path / "labels/corner1/0.png").write_bytes((tmp_path / "labels/corner0/0.png").read_bytes()[:50])
    assert "doesn't decode" in preprocess(root, tmp_path / "cache", config, classes=("a", "b", "c")).failed["corner1"]
    summary = preprocess(root, tmp_path / "cache", config, classes=("a", "b"))
    assert "unknown class 2" in summary.failed["corner0"]


def labels_only(tmp_path, **settings) -> PreprocessConfig:
    return PreprocessConfig(teacher="labels", labels_dir=str(tmp_path / "labels"), **settings)


def test_frames_named_by_time(root, tmp_path):
    """Frames called by nanoseconds are numbered in order, and their label images found by name."""
    times = [f"13050311021753{i:05d}" for i in (1, 2, 3, 10)]
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene, classes=3)
    for frame, name in enumerate(times):
        for path in (root / "corner1").glob(f"frame-{frame:06d}.*"):
            path.rename(path.with_name(path.name.replace(f"frame-{frame:06d}", name)))
        label = tmp_path / f"labels/corner1/{frame}.png"
        label.rename(label.with_name(f"{name}.png"))
    (root / "corner1" / f"{times[0]}.depth.png").write_bytes(b"")
    summary = preprocess(root, tmp_path / "cache", labels_only(tmp_path), classes=("a", "b", "c"))
    assert sorted(summary.done) == ["corner0", "corner1"]
    assert list(summary.skipped["corner1"]) == [times[0]]
    cache = open_cache(tmp_path / "cache")
    named, plain = cache.scene("corner1"), cache.scene("corner0")
    assert "frame_names" not in plain.attributes and plain.read("views/frame").tolist() == [0, 1, 2, 3]
    assert named.attributes["frame_names"] == times[1:] and named.read("views/frame").tolist() == [1, 2, 3]
    assert (named.read("pairs/raw") != 255).mean() > 0.5


def test_label_images_in_nyu40_ids(root, tmp_path):
    """The same labels, once as places in the list and once as NYU40 ids, make the same cache."""
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene)
    preprocess(root, tmp_path / "places", labels_only(tmp_path))
    for path in (tmp_path / "labels").rglob("*.png"):
        place = np.asarray(Image.open(path))
        nyu = np.where(place == 255, 0, np.array(NYU40_IDS, np.uint8)[np.minimum(place, 19)])
        Image.fromarray(nyu.astype(np.uint8)).save(path)
    preprocess(root, tmp_path / "nyu40", labels_only(tmp_path, label_ids="nyu40"))
    for name in ("pairs/raw", "pairs/refined", "points/spread"):
        arrays = [open_cache(tmp_path / cache).scene("corner0").read(name) for cache in ("places", "nyu40")]
        np.testing.assert_array_equal(*arrays)
    summary = preprocess(root, tmp_path / "wrong", labels_only(tmp_path))
    assert "--label-ids nyu40" in summary.failed["corner0"]


def test_masks_of_a_segmenter_vote_before_the_sets_after_them_or_alone(root, tmp_path):
    """Three quarters of each image are a mask each, the last is none; the fourth image has no masks."""
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene, classes=3)
        (tmp_path / "masks" / scene).mkdir(parents=True)
        quarters = np.kron([[300, 1], [2, 0]], np.ones((24, 32), int)).astype(np.uint16)
        for frame in range(3):
            Image.fromarray(quarters).save(tmp_path / "masks" / scene / f"{frame:06d}.png")
    given = {"masks_dir": str(tmp_path / "masks")}
    preprocess(root, tmp_path / "cache", labels_only(tmp_path, **given))
    scene = open_cache(tmp_path / "cache").scene("corner0")
    mask, raw, indptr = (scene.read(f"pairs/{name}") for name in ("mask", "raw", "indptr"))
    row, column = scene.read("pairs/pixel").T
    view = np.repeat(np.arange(4), np.diff(indptr))
    quarter = np.where(row < 24, np.where(column < 32, 300, 1), np.where(column < 32, 2, 0))
    np.testing.assert_array_equal(mask, np.where(view < 3, quarter, 0))

    def by_mask(labels):
        voted = labels.copy()
        for key in {(v, m) for v, m in zip(view.tolist(), mask.tolist(), strict=True) if m}:
            own = (view == key[0]) & (mask == key[1])
            counts = np.bincount(labels[own], minlength=256)
            counts[255] = 0
            voted[own] = counts.argmax() if counts.any() else 255
        return voted

    sets = scene.read("sets/id")
    by_set = partial(refine.vote, point=scene.read("pairs/point"), indptr=indptr, set_id=sets)
    expected = {"alone": by_mask(raw), "after": by_mask(by_set(raw)), "before": by_set(by_mask(raw))}
    assert not np.array_equal(expected["alone"], expected["before"])
    for masks, labels in expected.items():
        preprocess(root, tmp_path / "cache", labels_only(tmp_path, masks=masks, **given))
        np.testing.assert_array_equal(open_cache(tmp_path / "cache").scene("corner0").read("pairs/refined"), labels)
    preprocess(root, tmp_path / "cache", labels_only(tmp_path))
    assert not open_cache(tmp_path / "cache").scene("corner0").has("pairs/mask")
    with pytest.raises(HiclError, match="--vote scores asks no labels"):
        labels_only(tmp_path, vote="scores", **given)
    for image, said in ((np.zeros((4, 4, 3), np.uint8), "grey image of masks"), (None, "no images; --masks-dir holds")):
        shutil.rmtree(tmp_path / "masks/corner0")
        (tmp_path / "masks/corner0").mkdir()
        if image is not None:
            Image.fromarray(image).save(tmp_path / "masks/corner0/0.png")
        summary = preprocess(root, tmp_path / "cache", labels_only(tmp_path, **given))
        assert said in summary.failed["corner0"]


def test_label_images_need_no_colour_images(root, tmp_path, monkeypatch):
    """One is looked at for its size; what doesn't decode is no reason to leave a frame out."""
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene)
    (root / "corner1/frame-000002.color.png").write_bytes(b"not an image")
    decoded = []
    original = frames.read_color

    def spy(path, *args):
        decoded.append(path.name)
        return original(path, *args)

    monkeypatch.setattr(frames, "read_color", spy)
    summary = preprocess(root, tmp_path / "cache", labels_only(tmp_path))
    assert summary.skipped == {"corner0": {}, "corner1": {}} and set(decoded) == {"frame-000000.color.png"}
    assert len(open_cache(tmp_path / "cache").scene("corner1").read("views/frame")) == 4


def test_a_scan_in_surveyors_coordinates(root, tmp_path):
    """Half a million metres from 0, points, pairs and labels are as near 0, and the cache says where they are."""
    offset = np.array([691234.0, 5335678.0, 100.0])
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene, seed=0)
    shutil.rmtree(root / "corner1")
    shutil.copytree(root / "corner0", root / "corner1")
    for path in (root / "corner1").glob("*.pose.txt"):
        pose = np.loadtxt(path)
        pose[:3, 3] += offset
        np.savetxt(path, pose)
    ply = root / "corner1/corner.ply"
    lines = ply.read_text().replace("property float", "property double").splitlines()
    start = lines.index("end_header") + 1
    for index in range(start, start + 588):
        words = lines[index].split()
        lines[index] = " ".join([*(f"{float(w) + o:.5f}" for w, o in zip(words, offset, strict=False)), *words[3:]])
    ply.write_text("\n".join(lines) + "\n")
    preprocess(root, tmp_path / "cache", labels_only(tmp_path))
    cache = open_cache(tmp_path / "cache")
    near, far = cache.scene("corner0"), cache.scene("corner1")
    assert not near.origin.any() and far.origin.tolist() == offset.tolist()
    np.testing.assert_allclose(far.read("points/xyz"), near.read("points/xyz"), atol=1e-5)
    np.testing.assert_array_equal(far.read("sets/id"), near.read("sets/id"))
    pairs = {name: set(zip(*(scene.read("pairs/point"), *scene.read("pairs/pixel").T), strict=True)) for name, scene in
             (("near", near), ("far", far))}  # fmt: skip
    assert len(pairs["near"] ^ pairs["far"]) < 0.01 * len(pairs["near"])
    export(tmp_path / "cache", "corner1", tmp_path / "out.ply", None, "cpu")
    vertex = PlyData.read(tmp_path / "out.ply")["vertex"].data
    expected = near.read("points/xyz") + offset
    np.testing.assert_allclose(np.stack([vertex[axis] for axis in "xyz"], axis=1), expected, atol=1e-4)


def test_another_scan_of_the_same_name_is_refused(root, tmp_path):
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene)
    config = labels_only(tmp_path)
    preprocess(root, tmp_path / "cache", config)
    before = tree(tmp_path / "cache/scenes")
    write_scan(tmp_path / "other/corner0", seed=5)
    write_labels(tmp_path / "labels/other_corner0")
    summary = preprocess(tmp_path / "other", tmp_path / "cache", config)
    assert "its scene corner0 is scans/corner0, not other/corner0" in summary.failed["corner0"]
    assert tree(tmp_path / "cache/scenes") == before
    (tmp_path / "moved").mkdir()
    shutil.move(root / "corner1", tmp_path / "moved/corner1")  # the same files, wherever they are
    config = labels_only(tmp_path, vote="scene")
    assert preprocess(tmp_path / "moved", tmp_path / "cache", config).failed == {}


def test_what_is_missing_is_found_before_the_teacher_is_loaded(root, tmp_path, config, monkeypatch):
    for frame in range(4):
        (root / f"corner0/frame-{frame:06d}.depth.png").unlink()
    np.savetxt(root / "corner1/camera-intrinsics.txt", [[40, 0, 0], [0, 40, 0], [31.5, 23.5, 1]])
    monkeypatch.setattr(run, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    summary = preprocess(root, tmp_path / "cache", config)
    assert "frame-000000.color.png: no frame-000000.depth.png, and none of its 4" in summary.failed["corner0"]
    assert "camera-intrinsics.txt: the matrix is transposed" in summary.failed["corner1"]


def test_files_that_frames_lack_are_said_before_the_work(root, tmp_path):
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene)
    (root / "corner0/frame-000002.pose.txt").unlink()
    source = run.Source("rgbd", root, [(scene, "test") for scene in rgbd.find_scenes(root)], ())
    said = []
    summary = run.preprocess(
        source, tmp_path / "cache", labels_only(tmp_path), ClassList.of(CLASSES), 1, "cpu", say=said.append
    )
    assert said[0].startswith("corner0: 1 of 4 frames lack a file; the first: ")
    assert list(summary.skipped["corner0"]) == ["2"] and not summary.failed


def test_ground_truth_reaches_the_report(root, tmp_path):
    """Each wall of a corner labelled by its own class: what the report calls the truth."""
    for scene in ("corner0", "corner1"):
        write_labels(tmp_path / "labels" / scene, classes=3)
        ply = root / scene / "corner.ply"
        lines = ply.read_text().splitlines()
        start = lines.index("end_header") + 1
        lines[start : start + 588] = [f"{line} {i // 196}" for i, line in enumerate(lines[start : start + 588])]
        lines.insert(lines.index("property uchar blue") + 1, "property int label")
        ply.write_text("\n".join(lines) + "\n")
    names = ("a", "b", "c")
    scenes = rgbd.find_scenes(root, truth=rgbd.Truth(names))
    source = run.Source("rgbd", root, [(scene, "test") for scene in scenes], rgbd.truth_classes(scenes))
    out = tmp_path / "cache"
    run.preprocess(source, out, labels_only(tmp_path), ClassList.of(names), 1, "cpu", say=lambda _: None)
    cache = open_cache(out)
    assert cache.truth_classes == names
    assert cache.scene("corner0").read("points/label").tolist() == [0] * 196 + [1] * 196 + [2] * 196
    assert report.measure(cache, cache.scene_ids())["with_truth"] == 2 * 588


def test_stale_scenes_are_passed_over(root, tmp_path, config):
    preprocess(root, tmp_path / "cache", config)
    (tmp_path / "one").mkdir()
    shutil.move(root / "corner0", tmp_path / "one/corner0")
    preprocess(tmp_path / "one", tmp_path / "cache", config, classes=("wall", "floor"))
    cache = open_cache(tmp_path / "cache")
    assert cache.scene_ids() == ["corner0"]
    with pytest.raises(HiclError, match="another class list"):
        cache.scene("corner1")


def test_too_little_disk_leaves_the_cache_as_it_is(root, tmp_path, config, monkeypatch):
    preprocess(root, tmp_path / "cache", config)
    before = tree(tmp_path / "cache")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(HiclError, match="are needed"):
        preprocess(root, tmp_path / "cache", config, classes=("wall", "floor"))
    assert tree(tmp_path / "cache") == before
    assert len(open_cache(tmp_path / "cache").scene_ids()) == 2


def test_another_split_makes_nothing_anew_but_says_so(root, tmp_path, config, stages_done):
    preprocess(root, tmp_path / "cache", config, split="train")
    preprocess(root, tmp_path / "cache", config, split="val")
    assert stages_done[2:] == [frozenset()] * 2
    assert len(open_cache(tmp_path / "cache").scene_ids("val")) == 2
    preprocess(root, tmp_path / "fresh", config, split="val")
    assert tree(tmp_path / "cache") == tree(tmp_path / "fresh")


def test_colours_painted_from_frames_follow_the_frames(root, tmp_path, config):
    plain = root / "corner0/corner.ply"
    lines = plain.read_text().splitlines()
    vertices = slice(lines.index("end_header") + 1, lines.index("end_header") + 1 + 3 * 14 * 14)
    lines[vertices] = [" ".join(line.split()[:3]) for line in lines[vertices]]
    plain.write_text("\n".join(line for line in lines if not line.startswith("property uchar ")) + "\n")
    preprocess(root, tmp_path / "cache", config)
    before = open_cache(tmp_path / "cache").scene("corner0").read("points/rgb").copy()
    for frame in range(4):
        shutil.copy(root / f"corner1/frame-{frame:06d}.color.png", root / f"corner0/frame-{frame:06d}.color.png")
    preprocess(root, tmp_path / "cache", config)
    assert (open_cache(tmp_path / "cache").scene("corner0").read("points/rgb") != before).any()


def test_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    for index in range(5):
        write_scan(tmp_path / "scans" / f"corner{index}", seed=index)
        write_labels(tmp_path / "labels" / f"corner{index}", seed=index)

    def start(out: Path, workers: int = 1) -> subprocess.Popen:
        command = [sys.executable, "-m", "hicl", "preprocess", "rgbd", "--root", tmp_path / "scans", "--out", out]
        command += ["--teacher", "labels", "--labels-dir", tmp_path / "labels", "--workers", workers]
        return subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL, cwd=tmp_path)

    assert start(tmp_path / "whole").wait() == 0
    whole = tree(tmp_path / "whole")
    killed = 0
    for published, workers in ((0, 1), (1, 2), (3, 1)):  # scenes that are there when the kill comes
        out = tmp_path / f"killed{published}"
        process = start(out, workers)
        watched = out / ".staging" if published == 0 else out / "scenes"
        while process.poll() is None and len(list(watched.glob("corner*"))) < max(published, 1):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert start(out).wait() == 0
        assert tree(out) == whole
    assert killed  # at least one kill came before the end


def test_what_a_user_should_know_of_a_surface_is_told_and_kept(root, tmp_path, config):
    """A soup with points that have no place: the sets of its mesh, and a word about the points."""
    root = root / "corner0"
    preprocess(root, tmp_path / "mesh", config)
    path = root / "corner.ply"
    vertex, faces = ply.read_ply(path)
    xyz, rgb = ply.xyz(vertex, path), ply.rgb(vertex, path)
    corner = faces.ravel()
    lost = np.full((2, 3), np.nan, np.float32)
    body = np.concatenate([xyz[corner], lost])
    write_ply(path, body, np.concatenate([rgb[corner], rgb[:2]]), np.arange(len(corner)).reshape(-1, 3).tolist())
    summary = preprocess(root, tmp_path / "soup", config)
    (name,) = summary.done
    assert "2 points without finite coordinates are left out" in summary.doubts[name]
    whole, soup = (open_cache(tmp_path / kind).scene(name) for kind in ("mesh", "soup"))
    assert soup.attributes["left_out"] == 2 and whole.attributes["left_out"] == 0
    assert same_partition(soup.read("sets/id"), whole.read("sets/id")[corner])
    np.testing.assert_array_equal(soup.read("points/normal"), whole.read("points/normal")[corner])
    told = export(tmp_path / "soup", None, tmp_path / "out.ply", None, "cpu")
    assert "2 of the scan without finite coordinates are left out" in told
    again = preprocess(root, tmp_path / "soup", replace(config, vote="scene"))  # the points aren't read again
    assert "2 points without finite coordinates are left out" in again.doubts[name]


def test_two_folders_of_sequences_in_one_cache(tmp_path):
    """chess/seq-01 and fire/seq-01 are two scans: the second is refused, and from above both they are two scenes."""
    for seed, name in enumerate(("chess", "fire")):
        write_scan(tmp_path / "scans" / name / "seq-01", seed=seed)
        write_labels(tmp_path / "labels/seq-01" if seed == 0 else tmp_path / "labels/fire_seq-01")
    write_labels(tmp_path / "labels/chess_seq-01")
    config, out = labels_only(tmp_path), tmp_path / "cache"
    assert preprocess(tmp_path / "scans/chess", out, config).done == ["seq-01"]
    summary = preprocess(tmp_path / "scans/fire", out, config)
    assert "seq-01 is chess/seq-01, not fire/seq-01" in summary.failed["seq-01"]
    assert preprocess(tmp_path / "scans", out, config).done == ["chess_seq-01", "fire_seq-01"]
