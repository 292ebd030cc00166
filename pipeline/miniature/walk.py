"""Where the cameras stand: a hand-held walk round a room, and the two cameras of the sensor."""

import numpy as np

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels.raster import nearest_solid
from hicl.pipeline.miniature.rooms import Room
from hicl.pipeline.miniature.solids import Packed


def draw_cameras(rng: np.random.Generator) -> tuple[Camera, Camera]:
    """Colour 320x240 and depth 160x120 with intrinsics of their own, as in ScanNet: not just scaled by two."""
    f = 288 + rng.uniform(-4, 4)
    color = Camera(f, f * 1.003, 159.6 + rng.uniform(-2, 2), 119.2 + rng.uniform(-2, 2), 240, 320)
    g = 141.5 + rng.uniform(-1.5, 1.5)
    depth = Camera(g, g, 79.3 + rng.uniform(-1, 1), 59.7 + rng.uniform(-1, 1), 120, 160)
    return color, depth


def look_at(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Pose float64 [4, 4], camera to room (x right, y down, z forward), at `eye` towards `target`."""
    z = target - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * x + s * y, -s * x + c * y, z], 1)
    pose[:3, 3] = eye
    return pose


def _stand(rng: np.random.Generator, room: Room, solids: Packed, wanted: np.ndarray) -> np.ndarray:
    """The first place between `wanted` and the middle of the room that has 30 cm of air round it."""
    middle = np.array([room.extent[0] / 2, room.extent[1] / 2, wanted[2]])
    steps = np.linspace(0, 1, 9)[:, None]
    places = np.concatenate([wanted + (middle - wanted) * steps, middle + rng.uniform(-0.8, 0.8, (8, 3)) * [1, 1, 0]])
    places[-1, 2] = room.extent[2] - 0.4
    _, gap = nearest_solid(places, *solids.shape)
    return places[np.argmax(gap > 0.3)] if (gap > 0.3).any() else places[np.argmax(gap)]


def walk(rng: np.random.Generator, room: Room, solids: Packed, frames: int) -> list[np.ndarray]:
    """Poses float64 [4, 4] of a walk round the room: two looks across it, then one at something near by, and so on."""
    w, d, _ = room.extent
    start, sense = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    furniture = np.nonzero(~np.isin(solids.label, [1, 2, 22, 20]))[0]
    poses = []
    for i in range(frames):
        angle = start + sense * 2 * np.pi * i / frames + rng.normal(0, 0.05)
        reach = rng.uniform(0.5, 0.75)
        around = np.array([np.cos(angle) * w / 2, np.sin(angle) * d / 2])
        height = 1.45 + 0.15 * np.sin(2.1 * angle) + rng.normal(0, 0.05)
        eye = _stand(rng, room, solids, np.array([*(np.array([w, d]) / 2 + reach * around), height]))
        if i % 3 < 2 or len(furniture) == 0:
            aim = np.array([*(np.array([w, d]) / 2 - rng.uniform(0.2, 0.7) * around), rng.uniform(0.3, 1.1)])
            aim[:2] += rng.normal(0, 0.4, 2)
        else:
            aim = solids.centre[rng.choice(furniture)].copy()
        if np.linalg.norm((aim - eye)[:2]) < 0.5:  # Never straight down.
            aim[:2] = eye[:2] - around * 0.5
        poses.append(look_at(eye, aim, rng.normal(0, 0.04)))
    return poses
