"""The mesh that is fused from depth: its tables beside their definition, its surface beside shapes that are known."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from scans import write_scan
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline.datasets import rgbd
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels.marching import triangles_of
from hicl.pipeline.run import _passes
from hicl.pipeline.tsdf import fuse_mesh, large_pieces

CAMERA = Camera(fx=100, fy=100, cx=47.5, cy=35.5, height=72, width=96)
CORNERS = np.array([(n & 1, n >> 1 & 1, n >> 2) for n in range(8)])


def ends(edge):
    corner, axis = divmod(edge, 3)
    return corner, corner | 1 << axis


@pytest.mark.parametrize("case", range(256))
def test_a_cells_triangles_cut_its_corners_apart(case):
    found = triangles_of(case)
    inside = np.array([case >> n & 1 for n in range(8)], bool)
    cut = {edge for triangle in found for edge in triangle}
    every = {3 * n + axis for n in range(8) for axis in range(3) if not n >> axis & 1}
    assert cut == {edge for edge in every if inside[ends(edge)[0]] != inside[ends(edge)[1]]}
    # Sides that two triangles share run both ways; the others lie on the cell's faces.
    sides = Counter((t[m], t[(m + 1) % 3]) for t in found for m in range(3))
    assert all(count == 1 for count in sides.values())
    middle = {edge: CORNERS[list(ends(edge))].mean(axis=0) for edge in cut}
    for a, b in sides:
        if (b, a) not in sides:
            assert ((middle[a] == middle[b]) & np.isin(middle[a], (0, 1))).any()
    # Seen from outside they turn counter-clockwise: the cell's part that they bound is around the inside corners.
    for corner in np.flatnonzero(inside):
        if sum(inside[corner ^ 1 << axis] for axis in range(3)) == 0:  # one by itself
            own = [t for t in found if all(corner in ends(edge) for edge in t)]
            assert len(own) == 1
            a, b, c = (middle[edge] for edge in own[0])
            assert np.cross(b - a, c - a) @ (a - CORNERS[corner]) > 0


def test_neighbours_meet_on_their_common_face():
    """What a case draws on its upper face along x, its neighbour draws on its lower face, the other way round."""
    low, high = [n for n in range(8) if not n & 1], [n for n in range(8) if n & 1]

    def drawn(case, corners):
        found = triangles_of(case)
        sides = {(t[m], t[(m + 1) % 3]) for t in found for m in range(3)}
        on_face = {e for e in range(24) if set(ends(e)) <= set(corners)}
        return {(a, b) for a, b in sides if {a, b} <= on_face and (b, a) not in sides}

    for face in range(16):
        upper = sum(1 << n for bit, n in enumerate(high) if face >> bit & 1)
        lower = sum(1 << n for bit, n in enumerate(low) if face >> bit & 1)
        for other in (0, 5, 9, 15):
            mine = drawn(upper | sum(1 << n for bit, n in enumerate(low) if other >> bit & 1), high)
            theirs = drawn(lower | sum(1 << n for bit, n in enumerate(high) if other >> bit & 1), low)
            assert {(a - 3, b - 3) for a, b in mine} == {(b, a) for a, b in theirs}


def look(eye, target):
    forward = (target - eye) / np.linalg.norm(target - eye)
    aside = np.cross(forward, [0.123, 0.456, 1.0])
    aside /= np.linalg.norm(aside)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([aside, np.cross(forward, aside), forward], axis=1), eye
    return pose


CENTRE, RADIUS = np.array([0.3, -0.2, 5.1]), 0.4


def ball(pose):
    """What CAMERA sees of a ball, red above its centre, blue below."""
    row, column = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(column - CAMERA.cx) / CAMERA.fx, (row - CAMERA.cy) / CAMERA.fy, np.ones(row.shape)], axis=-1)
    world, eye = rays @ pose[:3, :3].T, pose[:3, 3] - CENTRE
    a, b, c = (world**2).sum(-1), world @ eye, eye @ eye - RADIUS**2
    root = b * b - a * c
    depth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, 0)
    above = (eye + depth[..., None] * world)[..., 2] > 0
    return np.where(above[..., None], [200, 20, 10], [10, 20, 200]).astype(np.uint8), depth.astype(np.float32), pose


def around(n=14):
    golden = np.pi * (3 - np.sqrt(5))
    z = 1 - 2 * (np.arange(n) + 0.5) / n
    ring = np.sqrt(1 - z * z)
    angle = golden * np.arange(n)
    return [
        ball(look(CENTRE + 1.4 * np.array(d), CENTRE))
        for d in zip(ring * np.cos(angle), ring * np.sin(angle), z, strict=True)
    ]


# A pixel is 1 cm wide there; outlines are exact, so none flies.
HOW = dict(voxel=0.03, min_hits=1, max_jump=10.0)


def test_a_ball_seen_from_all_sides_is_closed_and_round():
    frames = around()
    found = fuse_mesh(frames, CAMERA, CAMERA, **HOW)
    mesh = trimesh.Trimesh(found.xyz, found.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.euler_number == 2
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.05)  # positive: normals point outwards
    off = np.linalg.norm(found.xyz - CENTRE, axis=1) - RADIUS
    assert np.abs(off).max() < 0.03 and np.abs(off).mean() < 0.006
    red = found.rgb[found.xyz[:, 2] > CENTRE[2] + 0.08]
    assert (np.abs(red - np.array([200, 20, 10.0])) <= 1).all()
    assert found.keep_faces and found.xyz.dtype == np.float32 and found.faces.dtype == np.int32
    again = fuse_mesh(iter(frames), CAMERA, CAMERA, **HOW)
    assert np.array_equal(again.xyz, found.xyz) and np.array_equal(again.faces, found.faces)
    # A lattice of blocks has no place that it prefers.
    shift = np.array([-7.0, 2.11, -5.03])
    moved = [
        (color, depth, np.vstack([np.column_stack([p[:3, :3], p[:3, 3] + shift]), [0, 0, 0, 1]]))
        for color, depth, p in frames
    ]
    there = fuse_mesh(moved, CAMERA, CAMERA, **HOW)
    assert np.abs(np.linalg.norm(there.xyz - shift - CENTRE, axis=1) - RADIUS).mean() < 0.006


def test_what_few_frames_saw_and_small_pieces_are_left_out():
    frames = around()
    alone = fuse_mesh(frames[:1], CAMERA, CAMERA, **HOW)
    toward = alone.xyz - CENTRE
    assert (toward @ (frames[0][2][:3, 3] - CENTRE) > 0).mean() > 0.95  # the side that it saw
    with pytest.raises(HiclError, match="no surface of 100 vertices of 0.03 m was seen by 3 frames"):
        fuse_mesh(frames[:2], CAMERA, CAMERA, **HOW | {"min_hits": 3})
    with pytest.raises(HiclError, match="no surface"):
        fuse_mesh(frames, CAMERA, CAMERA, **HOW, max_depth=0.5)
    faces = np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6]], np.int32)
    assert large_pieces(faces, 8, 4).tolist() == [True] * 4 + [False] * 4
    assert large_pieces(faces, 8, 2).tolist() == [True] * 7 + [False]


@pytest.mark.parametrize("surface", ["cloud", "mesh"])
def test_each_frame_that_is_fused_is_a_step_of_progress(surface, tmp_path):
    write_scan(tmp_path / "corner")
    settings = rgbd.Settings(surface=surface, voxel=0.05)
    ((scene, _),) = rgbd.source(tmp_path / "corner", settings).scenes
    about = SimpleNamespace(scene=scene, todo={"points", "views"})
    assert not scene.fuses and _passes(about) == 1
    (tmp_path / "corner/corner.ply").unlink()
    ((scene, _),) = rgbd.source(tmp_path / "corner", settings).scenes
    about.scene, ticks = scene, []
    found = scene.fused(lambda: ticks.append(1))
    assert scene.fuses and len(ticks) == 4 and _passes(about) == 2
    np.testing.assert_array_equal(found.xyz, scene.points().xyz)
    about.todo = {"labels"}
    assert _passes(about) == 1


def test_from_frames_to_a_labelled_mesh(tmp_path):
    write_scan(tmp_path / "scans/corner")
    (tmp_path / "scans/corner/corner.ply").unlink()
    command = ["preprocess", "rgbd", "--root", str(tmp_path / "scans"), "--out", str(tmp_path / "cache")]
    command += ["--surface", "mesh", "--voxel", "0.05", "--workers", "1", "--device", "cpu"]
    command += ["--clip", "hicl-miniature", "--weights", "hicl-miniature"]
    result = CliRunner().invoke(commands.app, command)
    assert result.exit_code == 0, result.output
    scene = open_cache(tmp_path / "cache").scene("corner")
    faces = scene.read("points/face")
    assert len(faces) > 500 and faces.max() < len(scene.read("points/xyz"))
    sides = np.abs(scene.read("points/xyz")).min(axis=1)  # the corner's planes are those of the axes
    assert np.median(sides) < 0.01
    out = tmp_path / "corner.glb"
    result = CliRunner().invoke(commands.app, ["export", "--cache", str(tmp_path / "cache"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert sum(len(part.faces) for part in trimesh.load(out, process=False).geometry.values()) == len(faces)
