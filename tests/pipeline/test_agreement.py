"""Scans whose parts don't fit together: what is said of them, and that the reading which it names sets them right."""

import re
import subprocess
import sys

import numpy as np
import pytest
from scans import write_labels, write_scan

from hicl.pipeline import agreement
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.rgbd import find_scenes
from hicl.pipeline.datasets.scene import Readings, Said
from hicl.pipeline.projection import Projector

FLIP = np.diag([1.0, -1, -1, 1])  # y up and z back, in place of y down and z forward
MAX_GAP = PreprocessConfig().max_gap
WRITTEN = {
    "--poses world-to-camera": (np.linalg.inv, Readings(poses="world-to-camera")),
    "--axes opengl": (lambda pose: pose @ FLIP, Readings(axes="opengl")),
    "--poses world-to-camera --axes opengl": (
        lambda pose: np.linalg.inv(pose @ FLIP),
        Readings(poses="world-to-camera", axes="opengl"),
    ),
}


@pytest.fixture
def folder(tmp_path):
    write_scan(tmp_path / "corner", frames=8)
    return tmp_path / "corner"


def rewrite(folder, change):
    for path in folder.glob("*.pose.txt"):
        np.savetxt(path, change(np.loadtxt(path)))


def doubt(folder, readings=None, surface=True):
    (scene,) = find_scenes(folder, said=Said(**vars(readings or Readings())))
    xyz = ply.xyz(ply.read_ply(folder / "corner.ply")[0], folder) if surface else scene.points().xyz
    projector = Projector(xyz)
    frames = [scene.frame(i) for i in scene.frame_ids.tolist()]
    cameras = scene.depth_camera, scene.color_camera
    point = np.concatenate([projector.project(frame.pose, frame.depth, *cameras)[0] for frame in frames])
    found = agreement.seen(len(xyz), point)
    return agreement.doubt(scene, xyz, found, len(frames), MAX_GAP), found


@pytest.mark.parametrize("way_out", WRITTEN)
def test_poses_written_otherwise(folder, way_out):
    assert doubt(folder)[0] == ""
    change, readings = WRITTEN[way_out]
    base = doubt(folder)[1]
    rewrite(folder, change)
    said, found = doubt(folder)
    assert said.endswith(f"the poses fit when they are read with {way_out}") and "% of its points are seen" in said
    assert found.coverage < agreement.LEAST_COVERAGE
    said, found = doubt(folder, readings)
    assert said == "" and found == base


@pytest.mark.parametrize("way_out", WRITTEN)
def test_frames_held_against_each_other(folder, way_out):
    """Without a surface of its own, all that frames see is what they measured themselves."""
    (folder / "corner.ply").unlink()
    (scene,) = find_scenes(folder)
    change, readings = WRITTEN[way_out]
    rewrite(folder, change)
    found = agreement.Seen(1000, 1000, 1040)
    (scene,) = find_scenes(folder)
    said = agreement.doubt(scene, None, found, 8, MAX_GAP)
    assert said == f"most of its points are seen by one frame only; the poses fit when they are read with {way_out}"
    assert agreement.doubt(scene, None, found._replace(pairs=3000), 8, MAX_GAP) == ""
    assert agreement.doubt(scene, None, found, 2, MAX_GAP) == "", "two frames may well stand side by side"


def test_other_depth_units(folder):
    said, _ = doubt(folder, Readings(depth_scale=5000.0))
    assert said.endswith("the depth fits with --depth-scale 1000")


@pytest.fixture
def write(folder):
    """Writes the corner's vertices anew, changed."""
    text = (folder / "corner.ply").read_text().splitlines()
    start, end = text.index("end_header") + 1, text.index("end_header") + 1 + 588

    def write(change):
        rows = np.array([line.split()[:3] for line in text[start:end]], float)
        lines = [
            " ".join([*(f"{x:.5f}" for x in row), *line.split()[3:]])
            for row, line in zip(change(rows), text[start:end], strict=True)
        ]
        (folder / "corner.ply").write_text("\n".join([*text[:start], *lines, *text[end:]]) + "\n")

    return write


@pytest.mark.parametrize(("unit", "metre"), [("millimetres", 1000), ("centimetres", 100)])
@pytest.mark.parametrize("double", [False, True])
def test_a_surface_in_another_unit(folder, write, unit, metre, double):
    write(lambda xyz: metre * xyz)
    if double:  # with an origin of its own, where it lies far out
        text = (folder / "corner.ply").read_text()
        (folder / "corner.ply").write_text(text.replace("property float", "property double"))
    assert f"the surface fits when it is in {unit}: write it in metres" in doubt(folder)[0]


def test_a_surface_that_lies_elsewhere(folder, write):
    write(lambda xyz: xyz * (1, -1, -1))  # half a turn about x
    said = doubt(folder)[0]
    alike = ("(x, -y, -z)", "(-y, -z, x)", "(-z, x, -y)")  # to a corner, which axis is x makes no difference
    assert any(f"the surface fits when its (x, y, z) are taken as {axes}" in said for axes in alike)
    write(lambda xyz: xyz + (7, 5, 3))
    assert "no other reading fits: is the surface in another frame than the poses" in doubt(folder)[0]


def test_a_way_of_writing_and_back():
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    for change, readings in WRITTEN.values():
        np.testing.assert_allclose(readings.camera_to_world(change(pose)), pose, atol=1e-12)
        np.testing.assert_allclose(readings.written(pose), change(pose), atol=1e-12)


def test_on_the_command_line(folder, tmp_path):
    write_labels(tmp_path / "labels", frames=8)
    (tmp_path / "labels/._0.png").write_bytes(b"")
    rewrite(folder, np.linalg.inv)
    words = "preprocess rgbd --root corner --out cache --teacher labels --labels-dir labels --workers 1".split()

    def preprocess(*options):
        command = [sys.executable, "-m", "hicl", *words, *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("next:")]
        return done.returncode, lines[-1]

    code, line = preprocess()
    assert code == 1 and line.startswith("hicl: error: corner: no point is visible in any of 8 frames; the poses fit")
    assert line.endswith("--poses world-to-camera")
    code, line = preprocess("--poses", "world-to-camera")
    assert code == 0
    share = re.fullmatch(r"  corner: ([0-9.]+) % of the points are seen, by [0-9.]+ frames each", line)[1]
    assert float(share) > 50


def test_what_is_told_of_a_run():
    few = {"b": agreement.Seen(100, 50, 120), "a": agreement.Seen(100, 5, 5, "only 5.0 % …")}
    assert agreement.told(few) == [
        "  a: 5.0 % of the points are seen, by 1.0 frames each",
        "  b: 50.0 % of the points are seen, by 2.4 frames each",
        "hicl: warning: a: only 5.0 % …",
    ]
    many = {f"s{i}": agreement.Seen(100, 50 + i, 2 * (50 + i), "odd") for i in range(13)}
    lines = agreement.told(many)
    assert lines[0] == "  mostly 56.0 % of the points are seen, by 2.0 frames each; least in s0, 50.0 %"
    assert len(lines) == 12 and lines[-1] == "hicl: warning: and so of 3 more scenes"
    assert agreement.told({}) == []
