"""From a folder of nuScenes to a cache of key frames, and what is said of its labels."""

import numpy as np
import nuscenes_files as files
import pytest
from PIL import Image
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.opening import open_cache
from hicl.pipeline.datasets.nuscenes_classes import CLASSES

SCENES = ("scene-0061", "scene-0103")
CLASS_OF = np.full(256, 255, np.uint8)
CLASS_OF[[files.ROAD, files.MANMADE]] = CLASSES.index("driveable_surface"), CLASSES.index("manmade")


def hicl(*words):
    result = CliRunner().invoke(commands.app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def yard(tmp_path):
    """(root, folder of label images that tell the truth)."""
    root = tmp_path / "nuscenes"
    tables = files.write(root, SCENES, frames=3, between=1, columns=180)
    for row in tables["sample_data"]:
        if row["is_key_frame"] and row["height"]:
            scene = next(
                s for s in SCENES if row["calibrated_sensor_token"] in {files.token(s, c) for c in files.CAMERAS}
            )
            channel = next(c for c in files.CAMERAS if row["calibrated_sensor_token"] == files.token(scene, c))
            seconds = (row["timestamp"] - 1_532_402_927_000_000 - SCENES.index(scene) * 60_000_000) / 1e6
            name = row["filename"].rpartition("/")[2].replace(".jpg", ".png")
            (tmp_path / "labels" / scene).mkdir(parents=True, exist_ok=True)
            shown = files.picture(channel, seconds, (90, 160), 80 / np.tan(np.deg2rad(35)))
            Image.fromarray(CLASS_OF[shown]).save(tmp_path / "labels" / scene / name)
    return root, tmp_path / "labels"


def test_key_frames_become_scenes_of_a_cache(yard, tmp_path):
    root, labels = yard
    words = ("--root", root, "--out", tmp_path / "cache", "--workers", 1, "--teacher", "labels", "--labels-dir", labels)
    first = hicl("preprocess", "nuscenes", *words)
    assert "2 scenes done" in first.output and "0 frames skipped" in first.output, first.output
    cache = open_cache(tmp_path / "cache")
    assert cache.dataset == "nuscenes" and cache.classes == cache.truth_classes == CLASSES
    assert cache.scene_ids("train") == [f"scene-0061.00{n}" for n in range(3)]
    scene = cache.scene("scene-0103.001")
    rows, label = files.sweep(0.5, 180)
    assert scene.attributes["token"] == files.token("scene-0103", "LIDAR_TOP", 2)
    assert scene.attributes["frame_names"] == list(files.CAMERAS)
    np.testing.assert_array_equal(scene.read("points/intensity"), rows[:, 3])
    np.testing.assert_array_equal(scene.read("points/valid"), rows[:, 4] >= 2)
    np.testing.assert_array_equal(scene.read("points/label"), CLASS_OF[label])
    sets, point, raw = scene.read("sets/id"), scene.read("pairs/point"), scene.read("pairs/raw")
    assert (sets[rows[:, 4] < 2] == sets.max()).all() and (sets[rows[:, 4] >= 2] < sets.max()).all()
    assert (raw == CLASS_OF[label][point]).mean() > 0.98
    assert scene.read("views/pose").shape == (6, 4, 4) and not scene.has("points/rgb")
    said = hicl("report", "labels", "--cache", tmp_path / "cache", "--picture", tmp_path / "sheet.png").output
    assert "driveable_surface" in said and "other points hide them" in said
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * 560
    assert "2 up to date" in hicl("preprocess", "nuscenes", *words).output
    assert "2 scenes done" in hicl("preprocess", "nuscenes", *words, "--sweeps", 1).output
    scene = open_cache(tmp_path / "cache").scene("scene-0103.001")
    age = scene.read("points/sweep")
    assert (np.diff(age.astype(int)) >= 0).all() and np.bincount(age).tolist() == [180 * 32, 180 * 30]
    assert (scene.read("points/label")[age > 0] == 255).all()


def test_what_can_t_be_used_is_passed_over_and_counted(yard, tmp_path):
    root, labels = yard
    sweeps, backs = (sorted((root / "samples" / channel).iterdir()) for channel in ("LIDAR_TOP", "CAM_BACK"))
    sweeps[1].write_bytes(sweeps[1].read_bytes()[:-3])
    backs[0].write_bytes(b"\xff\xd8 no picture")
    for file in sweeps[3:]:
        file.write_bytes(b"")
    words = ("--root", root, "--out", tmp_path / "cache", "--workers", 1, "--teacher", "labels", "--labels-dir", labels)
    said = hicl("preprocess", "nuscenes", *words)
    assert said.exit_code == 1 and "1 scene done, 0 up to date, 1 failed, 2 frames skipped" in said.output
    assert (
        f"skipped in scene-0061: {sweeps[1].relative_to(root)}: 115197 bytes, expected 20 for each point" in said.output
    )
    assert "colour doesn't decode" in said.output
    assert (
        "scene-0103: none of its 3 key frames can be used; the first: " in said.output
        and "Traceback" not in said.output
    )
    cache = open_cache(tmp_path / "cache")
    tokens = [cache.scene(name).attributes["token"] for name in cache.scene_ids()]
    assert tokens == [files.token("scene-0061", "LIDAR_TOP", step) for step in (0, 4)]
    assert "CAM_BACK" not in cache.scene("scene-0061.000").attributes["frame_names"]


def test_other_words_occlusion_and_vote_make_anew_what_hangs_on_them(yard, tmp_path):
    root, _ = yard
    words = ("--root", root, "--out", tmp_path / "cache", "--workers", 1, "--split", "mini_val")
    teacher = ("--clip", "hicl-miniature", "--weights", "hicl-miniature")
    assert "1 scene done" in hicl("preprocess", "nuscenes", *words, *teacher).output

    def stages():
        return dict(open_cache(tmp_path / "cache").scene("scene-0103.001").attributes["stages"])

    before = stages()
    arrays = open_cache(tmp_path / "cache").scene("scene-0103.001")
    whole = {name: arrays.read(name).copy() for name in arrays.arrays()}
    for change, same in (
        (("--occlusion", "none"), {"features", "text"}),
        (("--vote", "scene"), {"points", "views", "sets", "features", "text"}),
        (("--words", "openscene"), {"points", "views", "sets", "features"}),
        (("--k-threshold", "0.02"), {"points", "views", "features", "text"}),
    ):
        assert "1 scene done" in hicl("preprocess", "nuscenes", *words, *teacher, *change).output, change
        after = stages()
        assert {stage for stage in before if before[stage] == after[stage]} == same, change
        assert "1 scene done" in hicl("preprocess", "nuscenes", *words, *teacher).output
        again = open_cache(tmp_path / "cache").scene("scene-0103.001")
        assert again.arrays() == list(whole)
        for name, array in whole.items():
            np.testing.assert_array_equal(again.read(name), array, err_msg=name)
    assert "1 scene relabelled" in hicl("relabel", "--cache", tmp_path / "cache", "--classes", "road, house").output
    assert open_cache(tmp_path / "cache").scene("scene-0103.002").read("pairs/raw").max() <= 1
