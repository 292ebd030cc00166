"""What is said of captures whose parts don't fit together, and that nothing is said of sound ones."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from captures_gone_wrong import CASES, REMARKS, Capture, in_memory, of_scene, write
from scans import write_labels, write_scan

from hicl.pipeline import coverage, doctor
from hicl.pipeline.datasets.rgbd import find_scenes
from hicl.pipeline.datasets.scannet import ScanNetScene
from hicl.pipeline.datasets.scene import Readings, Said
from hicl.pipeline.doctor.poses import reordered
from hicl.pipeline.doctor.sample import Sample
from hicl.pipeline.kernels import doctor as kernels
from hicl.pipeline.miniature.scan import write_scene

FLIP = np.diag([1.0, -1, -1, 1])  # y up and z back, in place of y down and z forward
WRITTEN = {
    "--poses world-to-camera": (np.linalg.inv, Readings(poses="world-to-camera")),
    "--axes opengl": (lambda pose: pose @ FLIP, Readings(axes="opengl")),
    "--poses world-to-camera --axes opengl": (
        lambda pose: np.linalg.inv(pose @ FLIP),
        Readings(poses="world-to-camera", axes="opengl"),
    ),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Capture:
    out = tmp_path_factory.mktemp("miniature")
    (out / "scans").mkdir()
    write_scene(out, 5, 3)
    return of_scene(ScanNetScene("scene0003_00", out / "scans/scene0003_00", None, 1))


def examined(capture):
    scene = in_memory(capture)
    return doctor.examine(scene, scene.points() if capture.cloud else None)


def test_a_sound_capture(room):
    verdicts = examined(room)
    assert {verdict.state for verdict in verdicts} == {"well"}, [str(verdict) for verdict in verdicts]
    assert len(verdicts) == len({verdict.check for verdict in verdicts}) == 9


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_capture_gone_wrong(room, case):
    wrong = doctor.faults(examined(case.change(room)))
    assert [verdict.check for verdict in wrong] == [case.check], [str(verdict) for verdict in wrong]
    assert case.remedy in str(wrong[0])


@pytest.mark.parametrize("case", REMARKS, ids=lambda case: case.name)
def test_something_to_know(room, case):
    verdicts = [verdict for verdict in examined(case.change(room)) if verdict.state != "well"]
    assert [(verdict.check, verdict.state) for verdict in verdicts] == [(case.check, "remark")]
    assert case.remedy in str(verdicts[0])


def test_a_camera_that_stands_still_tells_nothing_of_poses(room):
    still = Capture(*(np.repeat(part[:1], 6, axis=0) for part in (room.color, room.depth, room.pose)),
                    room.color_k, room.depth_k, None)  # fmt: skip
    verdicts = {verdict.check: verdict for verdict in examined(still)}
    assert verdicts["views"].state == "open" and verdicts["views"].said == "the camera hardly moves"
    assert not doctor.faults(list(verdicts.values()))


def test_quaternions_of_the_other_order():
    rng = np.random.default_rng(0)
    for w, x, y, z in rng.normal(size=(8, 4)):
        for place, read in ((0, (w, x, y, z)), (3, (y, z, w, x))):
            # Read as x y z w if w stood first, and as w x y z if it stood last.
            own = np.array(read if place == 0 else (*read[1:], read[0]))
            meant = (x, y, z, w) if place == 0 else np.roll(own, 1)
            assert same_turn(reordered(turn(*own)[None], place)[0], turn(*meant))


def turn(x, y, z, w):
    """The rotation of a quaternion, by how it turns a vector: v + 2 w (u x v) + 2 u x (u x v)."""
    u, w = np.array([x, y, z]) / (n := np.linalg.norm([x, y, z, w])), w / n
    return np.stack([v + 2 * w * np.cross(u, v) + 2 * np.cross(u, np.cross(u, v)) for v in np.eye(3)], axis=1)


def same_turn(a, b):
    return np.allclose(a, b, atol=1e-9)


def test_kernels_beside_plain_numpy(room):
    sample = Sample(in_memory(room))
    own = sample.geometry.of(np.array([0, 1, 5]))
    grey, step, share = sample.greys[[0, 1, 5]], 7, 0.03
    args = own.depth, own.keep, own.pose, np.linalg.inv(own.pose), own.pinhole
    turns = np.array([[[1.0, 0, 0], [0, 1, 0]], [[0, 1, 0], [-1, 0, 1]]])
    counts = kernels.compare(*args, step, share)
    alike = kernels.likeness(*args, grey, sample.lens[:3], turns, step, share, 5)
    fx, fy, cx, cy = own.pinhole[0]
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    lens = sample.lens[0]
    height, width = own.depth.shape[1:]
    expected = np.zeros((2, 2))
    for i in range(3):
        row, column = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
        row, column = (part[own.keep[i, row, column]] for part in (row, column))
        here = np.linalg.inv(k) @ (np.stack([column, row, np.ones(len(row))]) * own.depth[i, row, column])
        for j in {0, 1, 2} - {i}:
            there = (np.linalg.inv(own.pose[j]) @ own.pose[i] @ np.vstack([here, np.ones(len(row))]))[:3]
            u, v = np.floor(k @ there / there[2] + 0.5)[:2].astype(int)
            seen = (there[2] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
            measured = np.where(seen, own.depth[j, v.clip(0, height - 1), u.clip(0, width - 1)], 0)
            gap = measured - there[2]
            same = (measured > 0) & (np.abs(gap) <= share * measured)
            rest = (measured > 0) & ~same
            assert counts[i, j].tolist() == [same.sum(), (rest & (gap > 0)).sum(), (rest & (gap < 0)).sum()]
            square_of = np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]]])
            squares = [(square_of @ place / place[2])[:, same] for place in (here, there)]
            inside = np.all([(square >= 0) & (square < 1) for square in squares], axis=(0, 1))
            if inside.sum() < 5:
                continue
            for t, turned in enumerate(turns):
                values = []
                for frame, square in zip((i, j), squares, strict=True):
                    x, y = turned @ np.vstack([square[:, inside], np.ones(inside.sum())])
                    at = (y * 120).astype(int).clip(0, 119), (x * 160).astype(int).clip(0, 159)
                    values.append(grey[frame][at].astype(float))
                expected[t] += inside.sum() * np.corrcoef(*values)[0, 1], inside.sum()
    np.testing.assert_allclose(alike, expected, rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    write_scan(tmp_path / "corner", frames=8)
    return tmp_path / "corner"


def rewrite(folder, change):
    for path in folder.glob("*.pose.txt"):
        np.savetxt(path, change(np.loadtxt(path)))


@pytest.mark.parametrize("way_out", WRITTEN)
def test_the_reading_that_is_named_mends_it(folder, way_out):
    change, readings = WRITTEN[way_out]
    rewrite(folder, change)
    for said, expected in ((Said(), [f"read them with {way_out}"]), (Said(**vars(readings)), [])):
        (scene,) = find_scenes(folder, said=said)
        assert [verdict.remedy for verdict in doctor.faults(doctor.examine(scene, scene.points()))] == expected


def test_a_way_of_writing_and_back():
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    for change, readings in WRITTEN.values():
        np.testing.assert_allclose(readings.camera_to_world(change(pose)), pose, atol=1e-12)
        np.testing.assert_allclose(readings.written(pose), change(pose), atol=1e-12)


def test_on_the_command_line(folder, room, tmp_path):
    write_labels(tmp_path / "labels", frames=8)
    (tmp_path / "labels/._0.png").write_bytes(b"")
    rewrite(folder, np.linalg.inv)

    def run(words, *options):
        command = [sys.executable, "-m", "hicl", *words.split(), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("next:")]
        return done.returncode, done.stdout, lines[-1]

    preprocess = "preprocess rgbd --root corner --out cache --teacher labels --labels-dir labels --workers 1"
    code, _, line = run(preprocess)
    assert code == 1 and line.startswith("hicl: error: corner: no point is visible in any of 8 frames; poses: ")
    assert line.endswith("; read them with --poses world-to-camera")
    code, _, line = run(preprocess, "--poses", "world-to-camera")
    assert code == 0
    share = re.fullmatch(r"  corner: ([0-9.]+) % of the points are seen, by [0-9.]+ frames each", line)[1]
    assert float(share) > 50

    write(CASES[0].change(room), tmp_path / "room")
    code, told, line = run("doctor room --json found.json")
    assert code == 1 and line == "1 scene examined, 1 with faults"
    assert re.search(r"FAULT poses +\d+ % .*\n +-> read them with --poses world-to-camera\n", told)
    found = json.loads((tmp_path / "found.json").read_text())["room"]
    assert [row["check"] for row in found if row["state"] == "fault"] == ["poses"]
    code, told, line = run("doctor room --poses world-to-camera")
    assert code == 0 and "FAULT" not in told and line == "1 scene examined, 0 with faults"


def test_what_is_told_of_a_run():
    few = {"b": coverage.Seen(100, 50, 120), "a": coverage.Seen(100, 5, 5, "only 5.0 % …")}
    assert coverage.told(few, {"a": ["poses: so"]}) == [
        "  a: 5.0 % of the points are seen, by 1.0 frames each",
        "  b: 50.0 % of the points are seen, by 2.4 frames each",
        "hicl: warning: a: only 5.0 % …; poses: so",
    ]
    many = {f"s{i}": coverage.Seen(100, 50 + i, 2 * (50 + i), "odd") for i in range(13)}
    lines = coverage.told(many, {})
    assert lines[0] == "  mostly 56.0 % of the points are seen, by 2.0 frames each; least in s0, 50.0 %"
    assert len(lines) == 12 and lines[-1] == "hicl: warning: and so of 3 more scenes"
    assert coverage.told({}, {}) == []


def test_coverage_that_is_too_little():
    point = np.arange(100, dtype=np.int32)
    assert coverage.seen(1000, point, 4).doubt == "only 10.0 % of its points are seen by any frame"
    assert coverage.seen(100, point, 4).doubt == "most of its points are seen by one frame only"
    assert coverage.seen(100, point, 2).doubt == "", "two frames may well stand side by side"
    assert coverage.seen(100, np.repeat(point, 2), 4) == coverage.Seen(100, 100, 200)
