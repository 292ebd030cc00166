"""The miniature's streets: nuScenes' layout by an independent parse, and sensors that agree with each other."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hicl import commands
from hicl.errors import HiclError
from hicl.pipeline.datasets import miniature, nuscenes
from hicl.pipeline.kernels import paint as texture
from hicl.pipeline.kernels.lidar import scan
from hicl.pipeline.kernels.raster import render
from hicl.pipeline.miniature import writing
from hicl.pipeline.miniature.solids import about_z, block, egg, pack
from hicl.pipeline.miniature.street import categories, lidar, rig, write
from hicl.pipeline.miniature.street.kinds import KINDS
from hicl.pipeline.miniature.street.layout import Street, build_street, street_kind
from hicl.pipeline.miniature.textures import Material, plain

COLUMNS, KEY_FRAMES, SEED = 271, 2, 5


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()
    }


def make(out: Path, scenes: int = 2, seed: int = SEED, **more) -> None:
    write.write_streets(out, scenes, seed, key_frames=KEY_FRAMES, columns=COLUMNS, **more)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("street") / "set"
    make(out)
    return out


def table(root: Path, name: str) -> list[dict]:
    return json.loads((root / "v1.0-street" / f"{name}.json").read_text())


def matrix(row: dict) -> np.ndarray:
    """4x4 of a row's rotation (w, x, y, z) and translation, from the definition of a quaternion's product q p q*."""

    def product(a, b):
        u, v = a[1:], b[1:]
        return np.array([a[0] * b[0] - u @ v, *(a[0] * v + b[0] * u + np.cross(u, v))])

    q = np.array(row["rotation"])
    assert abs(np.linalg.norm(q) - 1) < 1e-9
    conjugate = q * [1, -1, -1, -1]
    pose = np.eye(4)
    for axis in range(3):
        pose[:3, axis] = product(product(q, np.array([0, *np.eye(3)[axis]])), conjugate)[1:]
    pose[:3, 3] = row["translation"]
    return pose


def test_same_seed_gives_same_files_with_workers(root, tmp_path):
    reported: list[str] = []
    make(tmp_path / "again", workers=2, progress=reported.append)
    assert files(tmp_path / "again") == files(root)
    assert sorted(reported) == ["street-0000", "street-0001"]
    make(tmp_path / "again", progress=reported.append)  # complete: nothing is left to do
    assert files(tmp_path / "again") == files(root) and len(reported) == 4


def test_killed_run_goes_on(root, tmp_path, monkeypatch):
    """A kill in the second scene leaves the first whole, files of the second without its rows, and no tables."""
    out, whole = tmp_path / "killed", write.write_scene

    def killed(out: Path, seed: int, index: int, **more) -> None:
        if index == 1:
            (out / "samples" / "CAM_BACK" / "m001-half.jpg").write_bytes(b"half")
            raise KeyboardInterrupt
        whole(out, seed, index, **more)

    monkeypatch.setattr(write, "write_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        make(out)
    monkeypatch.setattr(write, "write_scene", whole)
    assert not (out / "v1.0-street").exists()
    with pytest.raises(HiclError):
        nuscenes.source(out, nuscenes.Settings())
    (out / "samples" / "CAM_BACK" / "m001-half.jpg").unlink()
    inodes = {path: os.stat(path).st_ino for path in (out / "samples").rglob("*.jpg")}
    assert inodes
    make(out)
    assert files(out) == files(root)
    assert all(os.stat(path).st_ino == inode for path, inode in inodes.items())


def test_refusals(root, tmp_path):
    with pytest.raises(HiclError, match="other settings.*seed"):
        make(root, seed=6)
    with pytest.raises(HiclError, match="teacher was trained on"):
        make(tmp_path / "x", seed=writing.FIRST_TEACHER_SEED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    result = CliRunner().invoke(
        commands.app, ["miniature", "--kind", "street", "--scenes", "1", "--out", str(tmp_path / "mine")]
    )
    assert isinstance(result.exception, HiclError) and "not empty" in str(result.exception)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    with pytest.raises(HiclError, match="hicl preprocess nuscenes"):
        miniature.source(root, miniature.Settings())


def test_tables_are_linked(root):
    assert json.loads((root / "miniature.json").read_text())["complete"] is True
    assert json.loads((root / "v1.0-street" / "splits.json").read_text()) == {
        "train": ["street-0000"],
        "val": ["street-0001"],
    }
    names = ["attribute", "calibrated_sensor", "category", "ego_pose", "instance", "lidarseg", "log", "map", "sample"]
    names += ["sample_annotation", "sample_data", "scene", "sensor", "visibility"]
    t = {name: {row["token"]: row for row in table(root, name)} for name in names}
    assert all(len(rows) == len(table(root, name)) for name, rows in t.items())  # no token twice
    assert [row["index"] for row in t["category"].values()] == list(range(32))
    assert set(next(iter(t["map"].values()))["log_tokens"]) == set(t["log"])
    times: dict[str, list[int]] = {}
    for token, row in t["sample_data"].items():
        path, channel = root / row["filename"], t["calibrated_sensor"][row["calibrated_sensor_token"]]["sensor_token"]
        assert path.name.split("__")[1:] == [t["sensor"][channel]["channel"], path.name.split("__")[2]]
        assert str(row["timestamp"]) in path.name and path.exists()
        assert row["ego_pose_token"] in t["ego_pose"] and row["sample_token"] in t["sample"]
        assert ("samples" if row["is_key_frame"] else "sweeps") == path.parts[-3]
        if row["next"]:
            after = t["sample_data"][row["next"]]
            assert after["prev"] == token and after["timestamp"] > row["timestamp"]
        if row["fileformat"] == "jpg":
            with Image.open(path) as image:
                assert image.size == (row["width"], row["height"])
            behind = row["timestamp"] - t["sample"][row["sample_token"]]["timestamp"]
            assert -50_000 < behind < 1_000
        elif not row["is_key_frame"]:  # it belongs to the key frame that follows
            assert 0 < t["sample"][row["sample_token"]]["timestamp"] - row["timestamp"] < 500_000
            times.setdefault(row["sample_token"], []).append(row["timestamp"])
    assert {len(v) for v in times.values()} <= {8, 9}
    for scene in t["scene"].values():
        first, last = t["sample"][scene["first_sample_token"]], t["sample"][scene["last_sample_token"]]
        assert scene["nbr_samples"] == KEY_FRAMES and first["prev"] == last["next"] == ""
        assert abs(last["timestamp"] - first["timestamp"] - 500_000) < 1_000
    labelled = [row for row in t["sample_data"].values() if row["fileformat"] == "pcd" and row["is_key_frame"]]
    assert {row["token"] for row in labelled} == set(t["lidarseg"])
    assert len(list((root / "lidarseg" / "v1.0-street").iterdir())) == len(t["lidarseg"])
    for pose in t["ego_pose"].values():
        assert pose["translation"][2] == 0 and np.abs(matrix(pose)[2, :2]).max() > 1e-4  # it nods and leans


def test_sweeps_are_as_nuscenes_are(root):
    filler = []
    for row in table(root, "lidarseg"):
        sample = next(r for r in table(root, "sample_data") if r["token"] == row["token"])
        points = np.fromfile(root / sample["filename"], "<f4").reshape(COLUMNS, 32, 5)
        label = np.fromfile(root / row["filename"], np.uint8).reshape(COLUMNS, 32)
        assert (points[..., 4] == np.arange(32)).all() and label.max() < 32
        assert points[..., 3].min() == 0 and 60 < points[..., 3].max() <= 255
        near = (np.abs(points[..., 0]) < 1) & (np.abs(points[..., 1]) < 1)
        filler.append(near.mean())
        assert (np.isin(label, [categories.NOISE, categories.EGO])[near]).all()
        # Columns go clockwise, and rings from -30.67 to 10.67 degrees, up to what the car does in 50 ms.
        far = ~near & (np.hypot(points[..., 0], points[..., 1]) > 15)
        column, ring = np.nonzero(far)
        turned = np.degrees(np.arctan2(points[..., 1], points[..., 0])[far]) - (195 - 360 * (column + 0.5) / COLUMNS)
        assert np.abs((turned + 180) % 360 - 180).max() < 2.5
        up = np.degrees(np.arctan2(points[..., 2], np.hypot(points[..., 0], points[..., 1])))
        assert np.abs(up[far] - np.linspace(-30.67, 10.67, 32)[ring]).max() < 0.6
        # The road lies 1.84 m below the sensor; ahead is y.
        road = points[label == categories.ROAD]
        assert np.median(road[:, 2]) == pytest.approx(-1.84, abs=0.15)
    assert 0.12 < np.mean(filler) < 0.4


def test_points_lie_on_what_the_cameras_see(root):
    """Key frames projected by a chain written from the tables' description, against the renderer's class ids."""
    data = {row["token"]: row for row in table(root, "sample_data")}
    pose_of = {row["token"]: matrix(row) for row in table(root, "ego_pose")}
    sensor = {row["token"]: row for row in table(root, "calibrated_sensor")}
    agree: dict[bool, list[float]] = {True: [], False: []}
    hidden: list[float] = []
    for index in range(2):
        take = write.take(SEED, index)
        label_of = np.append(take.street.solids.label, 255)
        logfile = table(root, "log")[index]["logfile"]
        own = [row for row in data.values() if logfile in row["filename"] and row["is_key_frame"]]
        sweep = [row for row in own if row["fileformat"] == "pcd"][-1]
        xyz = np.fromfile(root / sweep["filename"], "<f4").reshape(-1, 5)[:, :3].astype(float)
        label = np.fromfile(root / "lidarseg" / "v1.0-street" / f"{sweep['token']}_lidarseg.bin", np.uint8)
        # Thin and leafy things, and what moves, are rightly hit at other places than a camera sees them a while before.
        firm = np.isin(label, [categories.ROAD, categories.SIDEWALK, categories.TERRAIN, categories.MANMADE])
        lidar_pose = matrix(sensor[sweep["calibrated_sensor_token"]])
        for row in own:
            if row["fileformat"] != "jpg" or row["sample_token"] != sweep["sample_token"]:
                continue
            at = (row["timestamp"] - take.start) / 1e6
            camera = sensor[row["calibrated_sensor_token"]]
            channel = row["filename"].split("/")[1]
            street = take.drive.pose(at) @ take.rig.cameras[channel]
            c, solids = take.rig.intrinsics[channel], lidar.moved(take.street, at)
            solid, depth = render(street, c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
            k = np.array(camera["camera_intrinsic"])
            for moving in (True, False):
                ego_then = pose_of[row["ego_pose_token"] if moving else sweep["ego_pose_token"]]
                chain = np.linalg.inv(matrix(camera)) @ np.linalg.inv(ego_then)
                chain = chain @ pose_of[sweep["ego_pose_token"]] @ lidar_pose
                x, y, z = chain[:3, :3] @ xyz.T + chain[:3, 3:]
                with np.errstate(divide="ignore", invalid="ignore"):
                    u, v = k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]
                    seen = firm & (z > 1) & (u > 1) & (u < 399) & (v > 1) & (v < 224)
                pixel = np.rint(v[seen]).astype(int), np.rint(u[seen]).astype(int)
                open_ = z[seen] < 1.03 * depth[pixel] + 0.2  # the LiDAR stands higher and sees over things
                agree[moving].append((label_of[solid[pixel]] == label[seen])[open_].mean())
                hidden.append(1 - open_.mean())
    assert len(agree[True]) == 12
    assert np.mean(agree[True]) > 0.99 and np.mean(hidden) < 0.1
    # Where each sensor was at its own time matters.
    assert 1 - np.mean(agree[False]) > 2 * (1 - np.mean(agree[True]))


def still(solids, velocity, speed=9.0) -> tuple[Street, rig.Drive]:
    packed = pack(solids)
    street = Street("test", False, packed, np.array(velocity, float), 0.0, speed, np.zeros((0, 3)))
    return street, rig.Drive(0.0, speed, 0.1, 0.3, 0.01, 0.01, 0.4)


def test_a_turn_is_brought_to_its_end_but_others_keep_their_motion():
    """From a car that drives and turns, a wall is flat; a wall that flees is where it was when its column was fired."""
    wall = plain((0.8, 0.8, 0.8))
    ahead = block((20, 21), (-8, 8), (-1, 6), categories.MANMADE, wall)
    left = block((-15, 15), (12, 13), (-1, 6), categories.BUS, wall)
    street, drive = still([ahead, left], [[0, 0, 0], [0, 4, 0]])
    rng = np.random.default_rng(0)
    car = rig.draw_rig(rng)
    measured = lidar.sweep(rng, street, drive, car, 0.3, 720)
    to_street = drive.pose(0.3) @ car.lidar
    xyz = measured.points[:, :3] @ to_street[:3, :3].T + to_street[:3, 3]
    hit = (measured.label == categories.MANMADE) & (np.abs(xyz[:, 1]) < 7.5)
    assert hit.sum() > 400
    np.testing.assert_allclose(xyz[hit, 0], 20, atol=0.09)
    fleeing = (measured.label == categories.BUS) & (np.abs(xyz[:, 0]) < 10)
    fired = 0.3 - 0.05 * (1 - (np.arange(720 * 32) // 32 + 0.5) / 720)
    np.testing.assert_allclose(xyz[fleeing, 1], 12 + 4 * fired[fleeing], atol=0.09)
    assert np.ptp(fired[fleeing]) > 0.01


def test_scan_against_every_ray_and_box():
    """Boxes here and there, turned and moving, one ray at a time."""
    rng = np.random.default_rng(1)
    solids = pack([
        block((-a, a), (-b, b), (-c, c), 1, plain((0.5, 0.5, 0.5))).moved(about_z(t), np.array([x, y, z]))
        for a, b, c, t, x, y, z in zip(*rng.uniform(0.2, 3, (3, 40)), rng.uniform(0, 6, 40),
                                       *rng.uniform(-25, 25, (2, 40)), rng.uniform(-3, 3, 40), strict=True)
    ])  # fmt: skip
    velocity = rng.normal(0, 5, (40, 3)) * [1, 1, 0]
    columns, elevation = 90, np.radians(np.linspace(-30, 10, 16))
    azimuth, time = 1.0 - np.arange(columns) / columns * 2 * np.pi, np.linspace(-0.05, 0, columns)
    drive = rig.Drive(0.0, 9.0, 0.2, 0.1, 0.01, 0.01, 0.5)
    poses = np.stack([drive.pose(t) for t in time])
    origin, turn = poses[:, :3, 3] + [0, 0, 1.8], poses[:, :3, :3].copy()
    index, distance = scan(origin, turn, time, azimuth, elevation, *solids.shape, velocity, 0.05)
    best = np.full((columns, 16), np.inf)
    for c in range(columns):
        ray = [np.cos(elevation) * np.cos(azimuth[c]), np.cos(elevation) * np.sin(azimuth[c]), np.sin(elevation)]
        beam = np.stack(ray, 1) @ turn[c].T
        for p in range(40):
            o = (origin[c] - solids.centre[p] - velocity[p] * time[c]) @ solids.axes[p]
            d = beam @ solids.axes[p]
            t = np.stack([(-solids.size[p, :3] - o) / d, (solids.size[p, :3] - o) / d])
            enter, leave = t.min(0).max(1), t.max(0).min(1)
            best[c] = np.minimum(best[c], np.where((enter < leave) & (enter > 0.05), enter, np.inf))
    assert 100 < np.isfinite(best).sum() < best.size
    assert np.array_equal(np.isfinite(best), index >= 0)
    np.testing.assert_allclose(distance, best, rtol=1e-9)


def test_every_class_in_a_few_streets():
    assert sorted(street_kind(3, i) for i in range(6)) == sorted(KINDS)
    seen: set[int] = set()
    dusk = []
    for index in range(12):
        street = build_street(3, index)
        near = np.hypot(*(street.solids.centre[:, :2] - [5, street.lane]).T) < 60
        seen |= set(street.solids.label[near].tolist())
        dusk.append(street.dusk)
    scored = {2, 9, 12, 14, 16, 17, 18, 21, 22, 23, 24, 25, 26, 27, 28, 30}
    assert seen >= scored and seen <= set(range(32))
    assert {True, False} == set(dusk)


def test_textures_out_of_doors_are_bounded_and_repeat():
    rng = np.random.default_rng(0)
    kinds = range(texture.ROAD, texture.HOOPS + 1)
    solids = pack([egg((-1, 1), (-1, 1), (-1, 1), 1, Material(k, (0.9, 0.2, 0.1), (0.1, 0.8, 0.9))) for k in kinds])
    index = rng.integers(0, len(kinds), 600).astype(np.int32)
    local, normal = rng.uniform(-4, 4, (600, 3)), rng.normal(0, 1, (600, 3))
    args = (local, normal, index, solids.size, solids.texture, solids.color, solids.detail)
    color = texture.paint(*args)
    assert color.min() >= 0 and color.max() <= 1 and np.array_equal(color, texture.paint(*args))
    assert all(len(np.unique(color[index == i], axis=0)) > 1 for i in range(len(kinds)))


def test_our_reader_takes_it(root):
    source = nuscenes.source(root, nuscenes.Settings())
    assert [split for _, split in source.scenes] == ["train", "val"] and source.dataset == "nuscenes"
    assert nuscenes.defaults(root) == {"clip": "hicl-street", "weights": "hicl-street"}


DEVKIT = """
import sys
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.splits import get_scenes_of_custom_split
nusc = NuScenes("v1.0-street", sys.argv[1], verbose=False)
nusc.list_scenes()
assert len(nusc.scene) == 2 and get_scenes_of_custom_split("val", nusc) == ["street-0001"]
sample = nusc.sample[0]
nusc.get_sample_lidarseg_stats(sample["token"])
shown = 0
for channel, token in sample["data"].items():
    if channel != "LIDAR_TOP":
        points, _, image = nusc.explorer.map_pointcloud_to_image(sample["data"]["LIDAR_TOP"], token, show_lidarseg=True)
        assert image.size == (400, 225) and (points[0] < 400).all()
        shown += points.shape[1]
several, lag = LidarPointCloud.from_file_multisweep(nusc, nusc.sample[1], "LIDAR_TOP", "LIDAR_TOP", nsweeps=5)
print(shown, several.points.shape[1], lag.max())
"""


@pytest.mark.skipif(find_spec("nuscenes") is None, reason="nuscenes-devkit isn't installed")
def test_nuscenes_devkit_takes_it(root):
    """In a process of its own: it leaves files open."""
    found = subprocess.run([sys.executable, "-c", DEVKIT, str(root)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    shown, several, lag = found.stdout.split("\n")[-2].split()
    assert 0.3 < int(shown) / (COLUMNS * 32) < 0.9
    assert 4 * 0.6 < int(several) / (COLUMNS * 32) < 5 and 0.19 < float(lag) < 0.26
