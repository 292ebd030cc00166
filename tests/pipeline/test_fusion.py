import numpy as np
import pytest
import reference

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.fusion import fuse_depth
from hicl.pipeline.partition import knn_sets

CAMERA = Camera(fx=60, fy=60, cx=31.5, cy=23.5, height=48, width=64)


def room(pose, noise=0.0, seed=0):
    """What CAMERA sees of a wall at z = 2 (red) and a floor at y = 0.5 (blue); y points down."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:48, :64]
    ray = np.stack([(column - CAMERA.cx) / CAMERA.fx, (row - CAMERA.cy) / CAMERA.fy, np.ones((48, 64))], axis=-1)
    ray = ray @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        wall = (2 - pose[2, 3]) / ray[..., 2]
        floor = (0.5 - pose[1, 3]) / ray[..., 1]
    floor[floor <= 0] = np.inf
    depth = np.minimum(wall, floor) + noise * rng.standard_normal((48, 64))
    color = np.where((floor < wall)[..., None], [10, 20, 200], [200, 20, 10]).astype(np.uint8)
    return color, depth.astype(np.float32), pose


def views(n, noise=0.0):
    for i in range(n):
        pose = np.eye(4)
        angle = 0.2 * np.sin(i)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = 0.1 * np.cos(i), 0.05 * np.sin(2 * i), 0.1 * np.sin(i)
        yield room(pose, noise, seed=i)


# At 2 m, a pixel of CAMERA is 3 cm wide.
COARSE = dict(voxel=0.05, min_hits=2, max_jump=0.2)
RAW = dict(min_hits=1, max_jump=1e9, smooth=0, voxel=0.05)


def test_raw_means_equal_the_plain_ones():
    frames = list(views(3))
    points = fuse_depth(iter(frames), CAMERA, CAMERA, **RAW)
    expected = reference.fuse(frames, CAMERA, 0.05)
    cells = sorted(expected)  # ordered by voxel
    assert np.allclose(points.xyz, [expected[c][0] for c in cells], atol=1e-5)
    assert np.abs(points.rgb - np.array([expected[c][1] for c in cells])).max() <= 0.5 + 1e-6
    assert points.xyz.dtype == np.float32 and points.rgb.dtype == np.uint8 and points.sight.dtype == np.float32
    assert points.faces is None and points.label is None
    hits = np.array([expected[c][2] for c in cells])
    fewer = fuse_depth(frames, CAMERA, CAMERA, **RAW | {"min_hits": 4})
    assert np.array_equal(fewer.xyz, points.xyz[hits >= 4])


def test_sight_points_at_the_camera():
    pose = np.eye(4)
    pose[:3, 3] = 0.1, 0.2, 0.3
    points = fuse_depth([room(pose)], CAMERA, CAMERA, **RAW)
    toward = pose[:3, 3] - points.xyz
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    assert np.allclose(points.sight, toward, atol=0.02)


def test_the_order_of_frames_hardly_matters():
    frames = list(views(4))
    a, b = (fuse_depth(order, CAMERA, CAMERA, **COARSE, smooth=0) for order in (frames, frames[::-1]))
    assert np.allclose(a.xyz, b.xyz, atol=1e-5) and np.allclose(a.sight, b.sight, atol=1e-5)
    a, b = (fuse_depth(frames, CAMERA, CAMERA, **COARSE) for _ in range(2))
    assert np.array_equal(a.xyz, b.xyz)


def test_noise_is_smoothed_to_one_layer_and_sets_are_the_surfaces():
    frames = list(views(12, noise=0.04))
    raw = fuse_depth(frames, CAMERA, CAMERA, **COARSE, smooth=0)
    points = fuse_depth(frames, CAMERA, CAMERA, **COARSE)
    assert len(points.xyz) < 0.8 * len(raw.xyz)

    def off(xyz):
        return np.median(np.minimum(np.abs(xyz[:, 2] - 2), np.abs(xyz[:, 1] - 0.5)))

    assert off(points.xyz) < 0.5 * off(raw.xyz) and off(points.xyz) < 0.01
    ids = knn_sets(points.xyz, toward=points.sight, radius=0.25)
    wall, floor = points.xyz[:, 1] < 0.35, points.xyz[:, 2] < 1.8
    main = [np.bincount(ids[part]).argmax() for part in (wall, floor)]
    assert main[0] != main[1]
    assert (ids[wall] == main[0]).mean() > 0.9 and (ids[floor] == main[1]).mean() > 0.9


def test_both_sides_of_a_thin_wall_stay_apart():
    depth = np.full((48, 64), 1.0, np.float32)
    color = np.zeros((48, 64, 3), np.uint8)
    behind = np.diag([-1.0, 1, -1, 1])  # turned round, looking back from z = 2.06
    behind[2, 3] = 2.06
    frames = [(color, depth, np.eye(4)), (color + 200, depth, behind)]
    points = fuse_depth(frames, CAMERA, CAMERA, min_hits=1, voxel=0.03)
    assert np.abs(np.abs(points.xyz[:, 2] - 1.03) - 0.03).max() < 1e-3
    assert set(points.rgb.ravel().tolist()) == {0, 200}


def test_flying_pixels_are_rejected():
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, :32] = 1.0
    depth[:, 32] = 1.5  # mixed on the outline
    color = np.zeros((48, 64, 3), np.uint8)
    points = fuse_depth([(color, depth, np.eye(4))], CAMERA, CAMERA, min_hits=1, smooth=0)
    assert set(np.round(points.xyz[:, 2], 3).tolist()) == {1.0, 2.0}


def test_what_was_not_measured_or_is_too_far_is_left_out():
    depth = np.full((48, 64), 65.535, np.float32)
    depth[:, :20] = 0
    depth[:, 20:25] = np.nan
    depth[10:30, 40:50] = 2
    color = np.full((48, 64, 3), 7, np.uint8)
    points = fuse_depth([(color, depth, np.eye(4))], CAMERA, CAMERA, min_hits=1, smooth=0, max_jump=100)
    assert np.allclose(points.xyz[:, 2], 2) and (points.rgb == 7).all()


def test_colour_is_read_with_the_colour_camera():
    camera = Camera(fx=120, fy=120, cx=20.0, cy=47, height=96, width=40)  # twice as fine, the left third only
    color = np.zeros((96, 40, 3), np.uint8)
    color[..., 0] = np.arange(40)
    depth = np.full((48, 64), 1.0, np.float32)
    points = fuse_depth([(color, depth, np.eye(4))], CAMERA, camera, min_hits=1, smooth=0, voxel=0.001)
    column = np.floor(120 * points.xyz[:, 0] + 20 + 0.5)
    assert 0 < len(points.xyz) < 48 * 64 / 2
    assert np.abs(points.rgb[:, 0] - column).max() <= 1  # halves may round either way in float32


def test_min_views_counts_frames():
    frame = room(np.eye(4))
    with pytest.raises(HiclError, match="no voxel"):
        fuse_depth([frame], CAMERA, CAMERA, **COARSE, min_views=2)
    assert len(fuse_depth([frame, frame], CAMERA, CAMERA, min_views=2, min_hits=2, smooth=0).xyz)


def test_lost_poses_are_left_out_and_wrong_sizes_refused():
    good = room(np.eye(4))
    lost = (*good[:2], np.full((4, 4), -np.inf))
    a, b = (fuse_depth(frames, CAMERA, CAMERA, **COARSE) for frames in ([lost, good], [good]))
    assert np.array_equal(a.xyz, b.xyz)
    with pytest.raises(HiclError, match="no voxel"):
        fuse_depth([lost], CAMERA, CAMERA)
    with pytest.raises(FrameError, match="depth image: expected 48 x 64"):
        fuse_depth([(good[0], good[1][:40], good[2])], CAMERA, CAMERA)
    with pytest.raises(FrameError, match="colour image: expected 48 x 64"):
        fuse_depth([(good[0][:40], good[1], good[2])], CAMERA, CAMERA)
