"""Up is found in rooms however they lie, and levelled scans are answered as those that were level."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from invoke import hicl
from plyfile import PlyData
from scipy.spatial.transform import Rotation

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline.datasets.rgbd import find_scenes
from hicl.pipeline.doctor import upward
from hicl.pipeline.doctor.sample import Sample
from hicl.pipeline.miniature import scan
from hicl.scan import _measured
from hicl.scans import _stood_up
from hicl.upright import Surfaces, axis, degrees, levelling, nearest_axis, told_of

sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
import scans

AXES = ("z", "-z", "y", "-y", "x", "-x")


@pytest.fixture(scope="module")
def room() -> np.ndarray:
    """The surface of a furnished room, level, float64 [N, 3]."""
    rng, room, solids, field, _, turn, shift = scan._begun(7, 5)
    return scan._scanned(rng, field, solids).xyz @ turn.T + shift


def tilted(seed: int, angle: float) -> np.ndarray:
    """A rotation by so many degrees about an axis drawn at random."""
    way = np.random.default_rng(seed).normal(size=3)
    return Rotation.from_rotvec(np.radians(angle) * way / np.linalg.norm(way)).as_matrix()


@pytest.mark.parametrize("up", AXES)
def test_up_of_a_room_however_it_lies(room, up):
    for seed, angle in enumerate((0, 12, 25)):
        lies = tilted(seed, angle) @ levelling(axis(up)).T  # takes z to where up then is
        xyz = (room @ lies.T).astype(np.float32)
        expected = lies[:, 2]
        surfaces = Surfaces.of(xyz)
        assert degrees(surfaces.up, expected) < 1
        assert degrees(surfaces.along(axis(up)), expected) < 1  # where one roughly knows
        level, told = _stood_up(xyz, xyz, None, True, "scan.ply")
        turned = np.linalg.lstsq(xyz, level, rcond=None)[0]
        assert degrees(turned.T @ expected, axis("z")) < 1 and np.linalg.det(turned) > 0.99
        _, said = _stood_up(xyz, xyz, None, False, "scan.ply")
        if up == "z":
            assert bool(said) == (degrees(expected, axis("z")) > 4) and all("--level" in line for line in said)
        else:
            assert nearest_axis(expected)[0] != up or f"is {up} up?" in said[0]


def test_what_has_no_up():
    ball = np.random.default_rng(0).normal(size=(20_000, 3))
    ball = (2 * ball / np.linalg.norm(ball, axis=1, keepdims=True)).astype(np.float32)
    surfaces = Surfaces.of(ball)
    assert surfaces.up is None and surfaces.along(axis("z")) is None
    assert _stood_up(ball, ball, None, False, "ball.ply")[1] == []
    with pytest.raises(HiclError, match="ball.ply: too little of it is level or upright .* leave --level out"):
        _stood_up(ball, ball, None, True, "ball.ply")


@pytest.mark.parametrize("up", [*AXES, "drawn"])
def test_the_shortest_turn_to_z(up):
    upward = axis(up) if up != "drawn" else tilted(5, 100) @ axis("x")
    turn = levelling(upward)
    np.testing.assert_allclose(turn @ upward, axis("z"), atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) > 0
    assert degrees(upward, axis("z")) == pytest.approx(np.degrees(Rotation.from_matrix(turn).magnitude()))
    assert bool(told_of(turn)) == (up != "z")


def test_a_capture_is_levelled(tmp_path):
    lies = tilted(2, 20)
    scans.write_scan(tmp_path / "corner", lies=lies)
    scans.write_labels(tmp_path / "labels", classes=2)
    words = ("--teacher", "labels", "--labels-dir", tmp_path / "labels", "--classes", "floor, wall", "--workers", 1)
    told = hicl("preprocess", "rgbd", "--root", tmp_path / "corner", "-o", tmp_path / "cache", *words, "--level")
    told += hicl("export", "--cache", tmp_path / "cache", "-o", tmp_path / "out.ply")
    scene = open_cache(tmp_path / "cache").scene("corner")
    there = np.array(_measured(scene, ("floor", "wall"))["levelled"])
    tilt = degrees(lies[:, 2], axis("z"))
    assert degrees(there[:3, :3] @ lies[:, 2], axis("z")) < 1
    (said,) = set(re.findall(r"levelled: turned by (.*) degrees", told))
    assert float(said) == pytest.approx(tilt, abs=1)
    own, written = (PlyData.read(str(tmp_path / name)) for name in ("corner/corner.ply", "out.ply"))
    before, after = (np.stack([cloud["vertex"][name] for name in "xyz"], axis=1) for cloud in (own, written))
    np.testing.assert_allclose(before @ there[:3, :3].T + there[:3, 3], after, atol=1e-4)
    faces = [np.stack(cloud["face"]["vertex_indices"]) for cloud in (own, written)]
    np.testing.assert_array_equal(*faces)  # a mesh stays one
    floor = scene.read("pairs/point")[scene.read("pairs/point") >= 2 * 14 * 14]  # the third of its squares
    assert len(floor) and np.abs(scene.read("points/xyz")[floor, 2]).max() < 0.04

    scans.write_scan(tmp_path / "level")
    (level,) = find_scenes(tmp_path / "level")
    (leaning,) = find_scenes(tmp_path / "corner")
    for capture, off in ((level, 0), (leaning, tilt)):
        verdict = upward.verdict(Sample(capture))
        assert verdict.state == ("remark" if off else "well") and verdict.figure == pytest.approx(off, abs=1)
        assert ("--level" in str(verdict)) == bool(off)
