"""The ego car: how it moves, and the sensors on its roof.

Frames as in nuScenes: the ego frame has x ahead, y left, z up from the ground below the rear axle; the LiDAR's own has
y ahead and x to the right; a camera's x right, y down, z ahead. Poses are float64 [4, 4], from the inner frame to the
outer.Places and angles are about those of nuScenes' cars.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.miniature.solids import about_x, about_z
from hicl.pipeline.miniature.street.layout import Street

WIDTH, HEIGHT = 400, 225  # a quarter of nuScenes'
PERIOD = 0.05  # seconds of a turn of the LiDAR
COLUMNS, RINGS = 1084, 32
ELEVATION = np.radians(np.linspace(-30.67, 10.67, RINGS))
SEAM = np.radians(105.0)  # where a turn ends and the next begins, from ahead to the left

# Channel: x, y, z metres and yaw degrees in the ego frame, focal length as a share of the width.
_MOUNTS = {
    "CAM_FRONT": (1.70, 0.0, 1.51, 0.0, 0.791),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -56.0, 0.788),
    "CAM_BACK_RIGHT": (1.01, -0.48, 1.56, -110.0, 0.787),
    "CAM_BACK": (0.03, 0.0, 1.58, 180.0, 0.506),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.56, 109.0, 0.786),
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 0.795),
}
CHANNELS = tuple(_MOUNTS)


@dataclass(frozen=True)
class Rig:
    """lidar, cameras: sensor to ego. intrinsics: by channel."""

    lidar: np.ndarray
    cameras: dict[str, np.ndarray]
    intrinsics: dict[str, Camera]


def rigid(turn: np.ndarray, shift: Sequence[float] | np.ndarray) -> np.ndarray:
    """Pose of a rotation float64 [3, 3] and a translation."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, shift
    return pose


def inverse(pose: np.ndarray) -> np.ndarray:
    """The inverse of a rigid pose."""
    return rigid(pose[:3, :3].T, -pose[:3, :3].T @ pose[:3, 3])


def about_y(angle: float) -> np.ndarray:
    """Rotation float64 [3, 3] by `angle` radians about y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def draw_rig(rng: np.random.Generator) -> Rig:
    """One car's sensors: each sits a little otherwise than planned, and is calibrated."""

    def shaky(scale: float) -> np.ndarray:
        x, y, z = np.radians(rng.normal(0, scale, 3))
        return about_z(z) @ about_y(y) @ about_x(x)

    lidar = rigid(about_z(-np.pi / 2) @ shaky(0.4), np.array([0.94, 0.0, 1.84]) + rng.normal(0, 0.01, 3))
    optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # of a camera that looks ahead
    cameras, intrinsics = {}, {}
    for name, (x, y, z, yaw, focal) in _MOUNTS.items():
        turn = about_z(np.radians(yaw)) @ optical @ shaky(0.5)
        cameras[name] = rigid(turn, np.array([x, y, z]) + rng.normal(0, 0.01, 3))
        f = WIDTH * focal * rng.uniform(0.998, 1.002)
        cx, cy = WIDTH * 0.51 + rng.normal(0, 2), HEIGHT * 0.54 + rng.normal(0, 2)
        intrinsics[name] = Camera(f, f, cx, cy, HEIGHT, WIDTH)
    return Rig(lidar, cameras, intrinsics)


def fired(name: str) -> float:
    """Seconds from the end of a LiDAR's turn back to when a camera fires, as the beam passes its middle."""
    turned = (SEAM - np.radians(_MOUNTS[name][3])) / (2 * np.pi)
    return PERIOD * (turned % 1 - 1)


@dataclass(frozen=True)
class Drive:
    """The ego car's way: at `speed` metres a second, turning `rate` radians a second, nodding and leaning a little."""

    lane: float
    speed: float
    yaw: float
    rate: float
    pitch: float
    roll: float
    phase: float

    def pose(self, t: float) -> np.ndarray:
        """Ego to street at t seconds; the ego frame's origin stays on the ground."""
        yaw = self.yaw + self.rate * t
        if abs(self.rate) < 1e-6:
            x, y = self.speed * t * np.cos(yaw), self.speed * t * np.sin(yaw)
        else:
            x = self.speed / self.rate * (np.sin(yaw) - np.sin(self.yaw))
            y = self.speed / self.rate * (np.cos(self.yaw) - np.cos(yaw))
        pitch = self.pitch * np.sin(5.0 * t + self.phase)
        roll = self.roll * np.sin(3.1 * t + 2 * self.phase)
        return rigid(about_z(yaw) @ about_y(pitch) @ about_x(roll), [x, self.lane + y, 0.0])


def draw_drive(rng: np.random.Generator, street: Street) -> Drive:
    """A way along the lane that changes it slowly, so that rotation matters too."""
    rate = np.radians(rng.uniform(-7, 7))
    pitch, roll = np.radians(rng.uniform(0.2, 0.8, 2))
    yaw = -rate * 0.4 + np.radians(rng.normal(0, 1.0))
    return Drive(street.lane, street.speed, yaw, rate, pitch, roll, rng.uniform(0, 6))
