"""Projection of sweeps against a plain twin, and what hides what against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import FrameError
from hicl.pipeline import lidar
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels import pinhole as kernels

CAMERA = Camera(60.0, 62.0, 39.0, 31.0, 64, 80)


def pose_of(rng):
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3] = turn * np.sign(np.linalg.det(turn))
    pose[:3, 3] = rng.normal(size=3)
    return pose


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_project_against_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 8, (400, 3)).astype(np.float32)
    valid, pose = rng.random(400) < 0.8, pose_of(rng)
    at = (xyz - pose[:3, 3]) @ pose[:3, :3]
    u, v = (at[:, :2] / at[:, 2:] * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]).T
    seen = valid & (at[:, 2] > 1) & (u > 1) & (u < 79) & (v > 1) & (v < 63)
    point, pixel, hidden = lidar.project(xyz, valid, pose, CAMERA, None)
    np.testing.assert_array_equal(point, np.flatnonzero(seen))
    np.testing.assert_array_equal(pixel, np.column_stack([np.rint(v), np.rint(u)])[seen])
    assert hidden == 0 and point.dtype == np.int32 and pixel.dtype == np.uint16


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 4]))
def test_hidden_against_its_definition(seed, cell):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    place = np.column_stack([rng.uniform(1, 79, n), rng.uniform(1, 63, n), rng.uniform(1, 40, n)])
    wide, high = rng.uniform(0, 20, n), rng.uniform(0, 30, n)
    found = kernels.hidden(place, wide, high, (64, 80), cell, 0.1, 0.5)
    own = (place[:, :2] // cell).astype(int)
    middle = (own + 0.5) * cell
    for p in range(n):
        apart = np.abs(place[:, :2] - middle[p])
        across = (apart[:, 0] <= wide / 2) | (own[:, 0] == own[p, 0])
        covers = across & ((apart[:, 1] <= high / 2) | (own[:, 1] == own[p, 1]))
        nearest = place[covers, 2].min()
        assert found[p] == (place[p, 2] - nearest > 0.1 * place[p, 2] + 0.5)


def scan(columns=1080):
    """Rays of the LiDAR from its place on a roof, unit length [M, 3]."""
    azimuth = np.repeat(-np.arange(columns) * 2 * np.pi / columns, 32)
    elevation = np.tile(np.deg2rad(np.linspace(-30.67, 10.67, 32)), columns)
    return np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 1)


def test_a_van_hides_what_the_lidar_sees_over_it():
    """A van 8 m ahead, 1.7 m high; the LiDAR at 1.84 m sees over it to a wall at 30 m, the camera at 1.5 m doesn't."""
    sensor, camera_at = np.array([0.94, 0, 1.84]), np.array([1.7, 0, 1.5])
    rays = scan()
    rays = rays[rays[:, 0] > 0.5]
    to_ground = np.where(rays[:, 2] < 0, -sensor[2] / np.minimum(rays[:, 2], -1e-9), np.inf)
    to_wall, to_van = (30 - sensor[0]) / rays[:, 0], (8 - sensor[0]) / rays[:, 0]
    at_van = sensor + rays * to_van[:, None]
    on_van = (np.abs(at_van[:, 1]) < 1) & (at_van[:, 2] < 1.7) & (to_van < to_ground)
    xyz = sensor + rays * np.where(on_van, to_van, np.minimum(to_ground, to_wall))[:, None]
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[:3, 3] = camera_at
    camera = Camera(1266.0, 1266.0, 800.0, 450.0, 900, 1600)
    valid = np.ones(len(xyz), bool)
    every, _, _ = lidar.project(xyz.astype(np.float32), valid, pose, camera, None)
    kept, _, n_hidden = lidar.project(xyz.astype(np.float32), valid, pose, camera, sensor)
    # The truth: the camera's own ray to the point passes the van's front.
    toward = xyz[every] - camera_at
    meets = camera_at + toward * ((8 - camera_at[0]) / toward[:, :1])
    blocked = (np.abs(meets[:, 1]) < 1) & (meets[:, 2] < 1.7) & (meets[:, 2] > 0) & (toward[:, 0] > 8 - 1.7 + 0.01)
    gone = ~np.isin(every, kept)
    assert blocked.sum() > 50 and n_hidden == gone.sum()
    assert (gone & blocked).sum() > 0.8 * blocked.sum()  # found
    assert (gone & ~blocked).sum() < 0.02 * len(every)  # and little else: a rim around the van


def test_a_pose_that_is_none():
    with pytest.raises(FrameError, match="not a rigid motion"):
        lidar.project(np.zeros((3, 3), np.float32), np.ones(3, bool), np.diag([2.0, 1, 1, 1]), CAMERA, None)
