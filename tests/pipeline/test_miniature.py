"""The miniature's rooms and files: determinism, layout, classes, and agreement between mesh and depth."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from hicl.errors import HiclError
from hicl.pipeline.datasets.scannet import NYU40_IDS, find_scenes
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels.paint import paint
from hicl.pipeline.kernels.raster import BASIN, BOX, CYLINDER, ELLIPSOID, SHEET, nearest_solid, render, solid_distance
from hicl.pipeline.miniature import mesh, scan, writing
from hicl.pipeline.miniature.rooms import KINDS, build_room, room_kind
from hicl.pipeline.miniature.solids import about_z, block, drum, pack
from hicl.pipeline.miniature.style import Style
from hicl.pipeline.miniature.textures import plain
from hicl.pipeline.miniature.walk import look_at

CAMERA = Camera(100.0, 101.0, 39.2, 30.4, 60, 80)


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("miniature") / "set"
    scan.write_dataset(out, scenes=2, seed=5)
    return out


def test_same_seed_gives_same_files_with_workers(dataset, tmp_path):
    again, reported = tmp_path / "again", []
    scan.write_dataset(again, scenes=2, seed=5, workers=2, progress=reported.append)
    assert files(again) == files(dataset)
    assert sorted(reported) == ["scene0000_00", "scene0001_00"]


def test_other_seed_gives_other_bytes(dataset, tmp_path):
    (tmp_path / "scans").mkdir()
    scan.write_scene(tmp_path, 6, 0)
    name = "scans/scene0000_00/scene0000_00"
    for ending in (".sens", "_vh_clean_2.ply", "_vh_clean_2.labels.ply"):
        assert (tmp_path / (name + ending)).read_bytes() != (dataset / (name + ending)).read_bytes()


def test_killed_run_goes_on(dataset, tmp_path):
    """What a kill leaves behind: a marker, whole scenes, and a part of one under another name."""
    out = tmp_path / "killed"
    shutil.copytree(dataset, out)
    whole, cut = out / "scans" / "scene0000_00", out / "scans" / "scene0001_00"
    part = out / "scans" / ".scene0001_00.part"
    cut.rename(part)
    (part / "scene0001_00.sens").write_bytes(b"half")
    (part / "more").write_bytes(b"")
    (out / "scannetv2_train.txt").unlink()
    (out / "scannetv2_val.txt").unlink()
    marker = json.loads((out / "miniature.json").read_text()) | {"complete": False}
    (out / "miniature.json").write_text(json.dumps(marker))
    inode = os.stat(whole).st_ino
    scan.write_dataset(out, scenes=2, seed=5)
    assert os.stat(whole).st_ino == inode
    assert files(out) == files(dataset)


def test_refusals(dataset, tmp_path):
    with pytest.raises(HiclError, match="other settings.*seed"):
        scan.write_dataset(dataset, scenes=2, seed=6)
    with pytest.raises(HiclError, match="teacher was trained on"):
        scan.write_dataset(tmp_path / "x", scenes=1, seed=writing.FIRST_TEACHER_SEED)
    with pytest.raises(HiclError, match="between 1 and"):
        scan.write_dataset(tmp_path / "x", scenes=0, seed=0)
    with pytest.raises(HiclError, match="for validation"):
        scan.write_dataset(tmp_path / "x", scenes=2, seed=0, val_scenes=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(HiclError, match="not empty"):
        scan.write_dataset(tmp_path / "mine", scenes=1, seed=0)


def test_layout_and_meshes(dataset):
    settings = json.loads((dataset / "miniature.json").read_text())
    assert settings["format"] == "hicl-miniature" and settings["frame_step"] == 1 and settings["complete"] is True
    assert (dataset / "scannetv2_train.txt").read_text().split() == ["scene0000_00"]
    assert (dataset / "scannetv2_val.txt").read_text().split() == ["scene0001_00"]
    assert sorted(p.name for p in (dataset / "scans").iterdir()) == [f"scene000{i}_00" for i in range(2)]
    stem = dataset / "scans" / "scene0001_00" / "scene0001_00"
    mesh_ply, label_ply = (PlyData.read(f"{stem}_vh_clean_2{end}.ply") for end in ("", ".labels"))
    for ply in (mesh_ply, label_ply):
        assert not ply.text and ply.byte_order == "<"
        names = [p.name for p in ply["vertex"].properties]
        assert names[:7] == ["x", "y", "z", "red", "green", "blue", "alpha"]
    vertex, labelled = mesh_ply["vertex"].data, label_ply["vertex"].data
    assert labelled["label"].dtype == np.dtype("<u2")
    for axis in "xyz":
        assert np.array_equal(vertex[axis], labelled[axis])
    faces = np.stack(mesh_ply["face"]["vertex_indices"])
    assert np.array_equal(faces, np.stack(label_ply["face"]["vertex_indices"]))
    assert 12_000 < len(vertex) < 50_000 and faces.min() == 0 and faces.max() == len(vertex) - 1
    known = np.isin(labelled["label"], NYU40_IDS).mean()
    assert 0.75 < known < 0.99


def test_sens_by_an_independent_parse(dataset):
    data = (dataset / "scans" / "scene0000_00" / "scene0000_00.sens").read_bytes()
    version, length = struct.unpack_from("<IQ", data)
    assert version == 4
    at = 12 + length
    color_k, _, depth_k, depth_extrinsic = np.frombuffer(data, "<f4", 64, at).reshape(4, 4, 4)
    at += 256
    assert struct.unpack_from("<2i4If", data, at) == (2, 1, 320, 240, 160, 120, 1000.0)
    (count,) = struct.unpack_from("<Q", data, at + 28)
    at += 36
    assert count == scan.FRAMES
    assert np.array_equal(depth_extrinsic, np.eye(4))
    # The depth camera isn't the colour camera at half the size.
    assert abs(color_k[0, 0] / depth_k[0, 0] - 2) > 1e-3
    for _ in range(count):
        pose = np.frombuffer(data, "<f4", 16, at).reshape(4, 4)
        *_, n_color, n_depth = struct.unpack_from("<4Q", data, at + 64)
        at += 96
        assert data[at : at + 2] == b"\xff\xd8"
        depth = np.frombuffer(zlib.decompress(data[at + n_color : at + n_color + n_depth]), "<u2")
        assert depth.size == 160 * 120 and 0.3 < (depth > 0).mean() <= 1
        assert np.isneginf(pose).all() or np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-5)
        at += n_color + n_depth
    assert struct.unpack_from("<Q", data, at) == (0,) and at + 8 == len(data)


def test_depth_agrees_with_the_mesh(dataset):
    """Of the vertices that a frame's depth doesn't hide, most lie within 5 cm of it."""
    scenes, missing = find_scenes(dataset)
    assert missing == 0 and [split for _, split in scenes] == ["train", "val"]
    scene = scenes[0][0]
    assert len(scene.frame_ids) == scan.FRAMES
    xyz, camera, near, open_ = scene.points().xyz, scene.depth_camera, 0, 0
    for frame_id in scene.frame_ids[::3]:
        try:
            frame = scene.frame(int(frame_id))
        except HiclError:
            continue
        x, y, z = ((xyz - frame.pose[:3, 3]) @ frame.pose[:3, :3]).T
        ahead = z > 0.1
        column = np.rint(camera.fx * x[ahead] / z[ahead] + camera.cx).astype(int)
        row = np.rint(camera.fy * y[ahead] / z[ahead] + camera.cy).astype(int)
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        measured, z = frame.depth[row[inside], column[inside]], z[ahead][inside]
        shown = (measured > 0) & (z < measured + 0.08)
        near += (np.abs(measured - z) < 0.05)[shown].sum()
        open_ += shown.sum()
    assert near / open_ > 0.8


def test_every_class_in_a_few_rooms():
    assert sorted(room_kind(3, i) for i in range(7)) == sorted(KINDS)
    seen = set()
    for index in range(14):
        room = build_room(3, index)
        solids = pack(room.solids)
        surface = mesh.surface(mesh.distance_field(room, solids), solids, 2.1)
        seen |= set(solids.label[surface.solid].tolist())
    assert seen >= set(NYU40_IDS)
    assert seen - set(NYU40_IDS)  # and clutter


def test_renderer_against_ray_box_intersection():
    """A turned box and the floor, pixel by pixel."""
    turn = about_z(0.4)
    solids = pack([
        block((-5, 5), (-5, 5), (-1, 0), 2, plain((0.5, 0.5, 0.5))),
        block((-0.4, 0.4), (-0.3, 0.3), (-0.5, 0.5), 3, plain((0.5, 0.5, 0.5))).moved(turn, np.array([0.1, 0.2, 0.5])),
    ])  # fmt: skip
    pose = look_at(np.array([1.8, -1.1, 1.4]), np.array([0.0, 0.1, 0.4]), 0.1)
    c = CAMERA
    index, depth = render(pose, c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
    rows, columns = np.mgrid[: c.height, : c.width]
    ray = np.stack([(columns - c.cx) / c.fx, (rows - c.cy) / c.fy, np.ones_like(rows)], -1) @ pose[:3, :3].T
    expected = np.full((2, c.height, c.width), np.inf)
    for p in range(2):
        o, d = (pose[:3, 3] - solids.centre[p]) @ solids.axes[p], ray @ solids.axes[p]
        with np.errstate(divide="ignore"):
            t = np.stack([(-solids.size[p, :3] - o) / d, (solids.size[p, :3] - o) / d])
        enter, leave = t.min(0).max(-1), t.max(0).min(-1)
        expected[p] = np.where((enter < leave) & (enter > 0), enter, np.inf)
    nearest = expected.min(0)
    assert np.array_equal(index >= 0, np.isfinite(nearest))
    seen = np.isfinite(nearest)
    np.testing.assert_allclose(depth[seen], nearest[seen], rtol=1e-9)
    assert np.array_equal(index[seen], expected.argmin(0)[seen])
    assert len(np.unique(index[seen])) == 2


def test_renderer_against_ray_cylinder_intersection():
    solids = pack([drum((-0.3, 0.3), (-0.3, 0.3), (-0.5, 0.5), 3, plain((0.5, 0.5, 0.5)))])
    c, eye = CAMERA, np.array([0.0, -2.0, 0.0])
    _, depth = render(look_at(eye, np.zeros(3)), c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
    # A pixel in the row and column of the axis looks straight at the mantle, 1.7 m away.
    column, row = round(c.cx), round(c.cy)
    x, z = (column - c.cx) / c.fx, -(row - c.cy) / c.fy
    a, b, k = x * x + 1, -2 * 2.0, 4 - 0.09
    assert depth[row, column] == pytest.approx((-b - np.sqrt(b * b - 4 * a * k)) / (2 * a), abs=2e-3)
    assert abs(z) < 0.01


@pytest.mark.parametrize("kind", [BOX, CYLINDER, ELLIPSOID, SHEET, BASIN])
def test_distance_is_a_lower_bound(kind):
    """Sphere tracing is safe: the distance never changes faster than the point moves."""
    rng = np.random.default_rng(kind)
    size = np.array([0.5, 0.35, 0.4, 0.06, 0.2])
    a = rng.uniform(-1, 1, (400, 3))
    b = a + rng.normal(0, 0.05, a.shape)
    change = [solid_distance(kind, *q, size) - solid_distance(kind, *p, size) for p, q in zip(a, b, strict=True)]
    assert (np.abs(change) <= np.linalg.norm(b - a, axis=1) * 1.001 + 1e-12).all()
    assert solid_distance(kind, 3.0, 0.0, 0.0, size) > 0


def test_nearest_solid_against_all_distances():
    solids = pack(build_room(0, 0).solids[:30])
    points = np.random.default_rng(0).uniform(0, 3, (40, 3))
    which, distance = nearest_solid(points, *solids.shape)
    local = np.einsum("pba,npb->npa", solids.axes, points[:, None] - solids.centre)
    every = [[solid_distance(k, *x, s) for k, x, s in zip(solids.kind, row, solids.size, strict=True)] for row in local]
    assert np.array_equal(which, np.argmin(every, 1))
    np.testing.assert_allclose(distance, np.min(every, 1), atol=1e-12)


def test_textures_are_bounded_and_repeat():
    room = build_room(0, 0)
    solids = pack(room.solids)
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(solids.kind), 500).astype(np.int32)
    local, normal = rng.uniform(-1, 1, (500, 3)), rng.normal(0, 1, (500, 3))
    args = (local, normal, index, solids.size, solids.texture, solids.color, solids.detail)
    color = paint(*args)
    assert color.dtype == np.float32 and color.min() >= 0 and color.max() <= 1
    assert np.array_equal(color, paint(*args))


def test_style_leaves_rooms_as_they_are_and_is_the_same_over_all_of_them(dataset, tmp_path):
    scan.write_dataset(tmp_path / "styled", scenes=2, seed=5, style=Style(1.0, 0.5))
    for name in ("scene0000_00", "scene0001_00"):
        plain, styled = (find_one(root, name) for root in (dataset, tmp_path / "styled"))
        assert all(np.array_equal(plain[axis], styled[axis]) for axis in "xyz")
        assert not np.array_equal(plain["red"], styled["red"])
    with pytest.raises(HiclError, match=r"other settings \(style differ\)"):
        scan.write_dataset(dataset, scenes=2, seed=5, style=Style(1.0))
    with pytest.raises(HiclError, match="--style 1 --shared 2: must be"):
        Style(1.0, 2.0)
    for shared in (0.0, 0.5, 1.0):
        style, rng = Style(1.0, shared), np.random.default_rng(0)
        looks = np.array([[style.picture(rng, room) for _ in range(8)] for room in map(style.room, [rng] * 4000)])
        assert np.allclose(looks.std((0, 1)), 1, atol=0.03)
        alike = (looks[:, 0] * looks[:, 1]).mean(0)  # covariance of two pictures of a room
        assert np.allclose(alike, shared, atol=0.06)


def find_one(root: Path, name: str) -> np.ndarray:
    return PlyData.read(next(root.rglob(f"{name}_vh_clean_2.ply")))["vertex"].data
