"""The reader of nuScenes against the description of its format, and where it is installed against the devkit."""

import json
import pickle

import numpy as np
import nuscenes_files as files
import pytest

from hicl.errors import FrameError, HiclError
from hicl.pipeline import lidar
from hicl.pipeline.datasets import nuscenes
from hicl.pipeline.datasets.nuscenes_classes import CLASSES
from hicl.pipeline.datasets.nuscenes_points import read_sweep
from hicl.pipeline.datasets.nuscenes_splits import official

SCENES = ("scene-0061", "scene-0103", "scene-0061-b")


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    root = tmp_path_factory.mktemp("nuscenes")
    files.write(root, SCENES[:2], frames=3, between=2, columns=90)
    return root


@pytest.fixture
def own(tmp_path):
    """A folder to spoil: (root, its tables)."""
    return tmp_path, files.write(tmp_path, frames=2, between=1, columns=8)


def scenes(root, **settings):
    return dict((scene.id, scene) for scene, _ in nuscenes.source(root, nuscenes.Settings(**settings)).scenes)


def rewrite(root, name, rows):
    (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))


def plain_chain(rows, shot, channel, key_time, shot_time):
    """Points of a sensor in the car's frame at another time, step by step."""
    turn, shift = files.to_world(files.LIDAR_PLACE if channel is None else files.camera_place(channel), shot)
    world = rows @ turn.T + shift
    ego = files.drive(key_time)
    return (world - np.array(ego[1])) @ files.rotation(ego[0])


def test_official_splits():
    sizes = {name: len(official(name)) for name in ("train", "val", "test", "mini_train", "mini_val")}
    assert sizes == {"train": 700, "val": 150, "test": 150, "mini_train": 8, "mini_val": 2}
    assert not set(official("train")) & set(official("val")) | set(official("train")) & set(official("test"))
    assert official("mini_val") == ["scene-0103", "scene-0916"] and "scene-0003" in official("val")


def test_a_scene_is_its_key_frames_in_order_of_time(yard):
    source = nuscenes.source(yard, nuscenes.Settings())
    assert [(scene.id, split) for scene, split in source.scenes] == [("scene-0061", "train"), ("scene-0103", "val")]
    assert source.classes == CLASSES and source.prompts[7] == ("traffic_cone",) and source.grouped
    scene = source.scenes[0][0]
    tokens = [files.token("scene-0061", "LIDAR_TOP", step) for step in (0, 3, 6)]
    assert [item.token for item in scene.items] == tokens
    assert [item.channels for item in scene.items] == 3 * [list(files.CAMERAS)]
    assert len(pickle.dumps(scene)) < 10_000 and scene.missing() == []


def test_points_are_the_sweep_s_in_the_ego_frame(yard):
    item = scenes(yard)["scene-0061"].items[1]
    rows, label = files.sweep(0.5, 90)
    points = item.points()
    expected = plain_chain(rows[:, :3].astype(float), files.drive(0.5), None, 0.5, 0.5)
    np.testing.assert_allclose(points.xyz, expected, atol=0.5 / 1024 + 1e-6)
    assert points.xyz.dtype == np.float32 and (points.xyz * 1024 == np.rint(points.xyz * 1024)).all()
    np.testing.assert_array_equal(points.intensity, rows[:, 3])
    np.testing.assert_array_equal(points.valid, rows[:, 4] >= 2)
    names = np.array([*CLASSES, "none"])[np.where(points.label == 255, 16, points.label)]
    truth = np.array(["driveable_surface", "manmade", "none"])
    np.testing.assert_array_equal(names, truth[np.select([label == files.ROAD, label == files.MANMADE], [0, 1], 2)])
    assert points.age is None and np.allclose(points.sensor, files.LIDAR_PLACE[1])


def test_earlier_sweeps_are_brought_to_the_key_frame_s_time(yard):
    item = scenes(yard, sweeps=2)["scene-0061"].items[1]
    points = item.points()
    start = 0
    for age, seconds in enumerate((0.5, 1 / 3, 1 / 6)):
        seconds = int(seconds * 1e6) / 1e6
        rows, _ = files.sweep(seconds, 90)
        rows = rows if age == 0 else rows[rows[:, 4] >= 2]
        own = slice(start, start + len(rows))
        expected = plain_chain(rows[:, :3].astype(float), files.drive(seconds), None, 0.5, seconds)
        np.testing.assert_allclose(points.xyz[own], expected, atol=0.5 / 1024 + 1e-6)
        assert (points.age[own] == age).all() and (age == 0 or (points.label[own] == 255).all())
        start += len(rows)
    assert start == len(points.xyz)
    # The yard stands still: brought to one time, all sweeps lie on its ground and its walls.
    still = points.xyz[points.valid].astype(float) @ files.rotation(files.drive(0.5)[0]).T + files.drive(0.5)[1]
    off = np.minimum(np.abs(still[:, 2]), np.minimum(*(np.abs(np.abs(still[:, a]) - files.WALL[a]) for a in (0, 1))))
    assert off.max() < 2e-3
    first = scenes(yard, sweeps=9)["scene-0061"].items
    assert first[0].points().age.max() == 0 and first[2].points().age.max() == 6  # there are no more before


def test_projection_along_the_chain(yard):
    item = scenes(yard)["scene-0103"].items[2]
    rows, label = files.sweep(1.0, 90)
    usable = rows[:, 4] >= 2
    for number, channel in enumerate(files.CAMERAS, 1):
        image, camera, pose = item.image(channel)
        time = 1.0 - 0.001 * (5 + 7 * number)
        turn, shift = files.to_world(files.LIDAR_PLACE, files.drive(1.0))
        world = rows[:, :3].astype(float) @ turn.T + shift
        turn, shift = files.to_world(files.camera_place(channel), files.drive(time))
        seen = (world - shift) @ turn
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = (seen[:, :2] / seen[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]).T
        inside = usable & (seen[:, 2] > 1) & (u > 1) & (u < 159) & (v > 1) & (v < 89)
        points = item.points()
        point, pixel, hidden = lidar.project(points.xyz, points.valid, pose, camera, None)
        assert hidden == 0 and len(set(point) ^ set(np.flatnonzero(inside))) <= 2  # stored points are rounded
        both = np.intersect1d(point, np.flatnonzero(inside))
        own = pixel[np.searchsorted(point, both)]
        exact = np.column_stack([v, u])[both]
        assert np.abs(own - exact).max() < 0.55
        # The image shows the label of what is there, but for pixels that an edge runs through.
        assert ((image[pixel[:, 0], pixel[:, 1], 0].astype(int) + 4) // 8 == label[point]).mean() > 0.98


def test_what_is_asked_for_and_not_there(yard):
    for settings, said in (
        ({"version": "v1.0-test"}, "--version is one of v1.0-mini"),
        ({"split": "trian"}, "unknown; known are train, val, test"),
        ({"split": "test"}, "none of its 150 scenes"),
    ):
        with pytest.raises(HiclError, match=said):
            nuscenes.source(yard, nuscenes.Settings(**settings))
    with pytest.raises(HiclError, match="no such folder"):
        nuscenes.source(yard / "none", nuscenes.Settings())
    with pytest.raises(HiclError, match="which tables"):
        nuscenes.source(yard / "samples", nuscenes.Settings())
    assert list(scenes(yard, split="mini_val")) == ["scene-0103"]
    assert [len(scene.items) for scene in scenes(yard, frame_step=2).values()] == [2, 2]


def test_own_splits(tmp_path):
    files.write(tmp_path, SCENES, frames=1, columns=4)
    assert "1 scenes of v1.0-mini are in no split" in nuscenes.source(tmp_path, nuscenes.Settings()).notes[0]
    (tmp_path / "v1.0-mini" / "splits.json").write_text(json.dumps({"val": ["scene-0061"], "mine": ["scene-0061-b"]}))
    source = nuscenes.source(tmp_path, nuscenes.Settings())
    assert {scene.id: split for scene, split in source.scenes} == {
        "scene-0061": "val", "scene-0103": "val", "scene-0061-b": "mine"
    }  # fmt: skip
    assert list(scenes(tmp_path, split="mine")) == ["scene-0061-b"]
    (tmp_path / "v1.0-mini" / "splits.json").write_text("[]")
    with pytest.raises(HiclError, match="expected names of splits"):
        nuscenes.source(tmp_path, nuscenes.Settings())


def test_scenes_whose_files_are_missing_are_named(tmp_path):
    files.write(tmp_path, SCENES[:2], frames=1, columns=4)
    (sweep,) = (path for path in (tmp_path / "samples/LIDAR_TOP").iterdir() if "__1532402987" in path.name)
    sweep.unlink()
    source = nuscenes.source(tmp_path, nuscenes.Settings())
    assert [scene.id for scene, _ in source.scenes] == ["scene-0061"]
    assert source.notes == (f"passed over, as their files are not below {tmp_path}: 1 scenes, scene-0103",)
    for path in (tmp_path / "samples/LIDAR_TOP").iterdir():
        path.unlink()
    with pytest.raises(HiclError, match="no scene of v1.0-mini has a sweep below samples/LIDAR_TOP"):
        nuscenes.source(tmp_path, nuscenes.Settings())


def test_without_ground_truth(tmp_path):
    files.write(tmp_path, frames=1, columns=4, with_labels=False)
    source = nuscenes.source(tmp_path, nuscenes.Settings())
    assert "without ground truth" in source.notes[0]
    assert source.scenes[0][0].items[0].points().label is None


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("category", lambda rows: [row.pop("index") for row in rows], "nuScenes without lidarseg"),
        ("category", lambda rows: rows[3].update(name="vehicle.hovercraft"), "no class of nuScenes-lidarseg"),
        ("ego_pose", lambda rows: rows.clear(), "which sample_data.json names"),
        ("ego_pose", lambda rows: [row.update(rotation=[1, 0, 0]) for row in rows], "rotation of 4 numbers"),
        ("sensor", lambda rows: rows.pop(0), "no LIDAR_TOP"),
        ("calibrated_sensor", lambda rows: rows[1].update(camera_intrinsic=[1, 2]), "3 x 3 numbers"),
        ("sample_data", lambda rows: [row.update(filename=3) for row in rows], "expected str"),
        ("sample_data", lambda rows: [row.pop("timestamp") for row in rows], "without 'timestamp'"),
        ("scene", lambda rows: [row.update(name="scene-9999") for row in rows], "none of its 1 scenes is in a split"),
    ],
)
def test_damaged_tables(own, table, change, said):
    root, tables = own
    change(tables[table])
    rewrite(root, table, tables[table])
    with pytest.raises(HiclError, match=said) as error:
        nuscenes.source(root, nuscenes.Settings())
    assert table in str(error.value) or table == "scene"


@pytest.mark.parametrize("table", ["sensor", "calibrated_sensor", "scene", "sample", "sample_data", "ego_pose"])
def test_a_table_cut_off_or_missing(own, table):
    root, _ = own
    path = root / "v1.0-mini" / f"{table}.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(HiclError, match=f"{table}.json: .*(cut off|get it again)"):
        nuscenes.source(root, nuscenes.Settings())
    path.unlink()
    with pytest.raises(HiclError, match=f"{table}" if table != "sample_data" else "which tables"):
        nuscenes.source(root, nuscenes.Settings())


def first_item(root):
    return next(iter(scenes(root).values())).items[0]


def test_a_sample_without_a_camera_or_without_a_sweep(own):
    root, tables = own
    gone = {files.token("scene-0061", "CAM_BACK", 0), files.token("scene-0061", "LIDAR_TOP", 2)}
    rewrite(root, "sample_data", [row for row in tables["sample_data"] if row["token"] not in gone])
    first, second = next(iter(scenes(root).values())).items
    assert "CAM_BACK" not in first.channels and len(first.channels) == 5
    with pytest.raises(HiclError, match="no LIDAR_TOP"):
        second.points()


def test_bad_files(own):
    root, _ = own
    item = first_item(root)
    (sweep, _) = sorted((root / "samples/LIDAR_TOP").iterdir())
    labels = root / "lidarseg/v1.0-mini" / f"{item.token}_lidarseg.bin"
    whole, written = sweep.read_bytes(), labels.read_bytes()
    for content, said in ((whole[:-1], "expected 20 for each point"), (b"", "empty file")):
        sweep.write_bytes(content)
        with pytest.raises(HiclError, match=said):
            item.points()
    sweep.write_bytes(whole)
    for content, said in ((written[1:], "255 labels for a sweep of 256"), (b"\x21" + written[1:], "unknown label 33")):
        labels.write_bytes(content)
        with pytest.raises(HiclError, match=said):
            item.points()
    labels.unlink()
    with pytest.raises(HiclError, match="missing"):
        item.points()
    image = min((root / "samples/CAM_BACK").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(FrameError, match="doesn't decode"):
        item.image("CAM_BACK")


def test_points_that_are_not_finite_take_no_part(own):
    root, _ = own
    sweep = min((root / "samples/LIDAR_TOP").iterdir())
    rows = np.fromfile(sweep, "<f4").reshape(-1, 5)
    rows[40, 0], rows[41, 2], rows[42, 1], rows[43, 3] = np.nan, np.inf, 1e30, np.nan
    rows.tofile(sweep)
    points = first_item(root).points()
    assert not points.valid[40:43].any() and not points.xyz[40:43].any() and points.valid[43]
    assert points.intensity[43] == 0 and len(points.xyz) == len(rows) and np.isfinite(points.xyz).all()


def test_poses_that_are_not_rigid(own):
    root, tables = own
    for row in tables["ego_pose"]:
        if row["token"] == files.token("scene-0061", "CAM_BACK", 0):
            row["rotation"] = [2, 0, 0, 0]
    rewrite(root, "ego_pose", tables["ego_pose"])
    with pytest.raises(FrameError, match="not a rigid motion"):
        first_item(root).image("CAM_BACK")
    first_item(root).image("CAM_FRONT")
    tables["calibrated_sensor"][1]["camera_intrinsic"][0][1] = 3.0
    rewrite(root, "calibrated_sensor", tables["calibrated_sensor"])
    with pytest.raises(FrameError, match="without skew"):
        first_item(root).image("CAM_FRONT")


def test_against_the_devkit(yard):
    devkit = pytest.importorskip("nuscenes")
    from nuscenes.eval.lidarseg.utils import LidarsegClassMapper
    from nuscenes.utils.data_classes import LidarPointCloud

    known = devkit.NuScenes("v1.0-mini", str(yard), verbose=False)
    item = scenes(yard, sweeps=3)["scene-0061"].items[2]
    points = item.points()
    key = known.get("sample_data", item.token)
    sample = known.get("sample", key["sample_token"])
    cloud, _ = LidarPointCloud.from_file_multisweep(known, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=4, min_distance=1)
    mount = files.LIDAR_PLACE
    theirs = cloud.points[:3].T @ files.rotation(mount[0]).T + mount[1]  # of the sensor's frame, and of float32
    np.testing.assert_allclose(points.xyz[points.valid], theirs, atol=2e-3)
    mapper = LidarsegClassMapper(known)
    fine = read_labels_of(yard, item.token)
    coarse = mapper.convert_label(fine)
    np.testing.assert_array_equal(points.label[: len(fine)], np.where(coarse == 0, 255, coarse - 1))
    for channel in item.channels:
        _, camera, pose = item.image(channel)
        ours = scenes(yard)["scene-0061"].items[2].points()
        point, pixel, _ = lidar.project(ours.xyz, np.ones_like(ours.valid), pose, camera, None)
        shown, _, opened = known.explorer.map_pointcloud_to_image(item.token, sample["data"][channel])
        opened.close()
        assert abs(len(point) - shown.shape[1]) <= 2
        if len(point) == shown.shape[1]:
            assert np.abs(pixel[:, ::-1] - shown[:2].T).max() < 0.8


def read_labels_of(root, token):
    return np.fromfile(root / "lidarseg/v1.0-mini" / f"{token}_lidarseg.bin", np.uint8)


def test_the_sweep_file_has_five_columns(yard):
    rows = read_sweep(next((yard / "samples/LIDAR_TOP").iterdir()))
    assert rows.shape == (90 * 32, 5) and rows[:, 4].max() == 31
