"""Are poses what they are taken for: camera to world, in the axes of the camera?"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from hicl.pipeline.datasets.captures.settings import AXES, POSES
from hicl.pipeline.datasets.scene import Readings
from hicl.pipeline.doctor.sample import Geometry, Sample

NAME = "poses"
# Columns: a robot's body axes, x ahead, y left, z up, in a camera's (ROS REP 103).
_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def readings(sample: Sample) -> Iterator[tuple[str, Geometry]]:
    """(what to do, what the frames mean then), for each other way that poses are written."""
    own = sample.geometry
    pose = own.pose.copy()
    pose[:, :3, 3] += sample.scene.origin
    now = sample.scene.readings or Readings()
    written = np.stack([now.written(p) for p in pose])
    for poses, axes in product(POSES, AXES):
        if (poses, axes) == (now.poses, now.axes):
            continue
        other = replace(now, poses=poses, axes=axes)
        if sample.scene.readings is not None:
            options = f"--poses {poses}" * (poses != now.poses), f"--axes {axes}" * (axes != now.axes)
            told = f"read them with {' '.join(filter(None, options))}"
        else:
            told = f"they fit when read as {poses} in {axes} axes"
        yield told, replace(own, pose=np.stack([other.camera_to_world(w) for w in written]))
    told = "they fit when taken as a robot's body: x ahead, y left, z up; write the camera's"
    yield told, replace(own, pose=pose @ _BODY)
    turned = pose.copy()
    turned[:, :3, :3] = pose[:, :3, :3].transpose(0, 2, 1)
    yield "their rotations fit when transposed, their places as they are; write them so", replace(own, pose=turned)
    for place, name in ((0, "first"), (3, "last")):
        anew = pose.copy()
        anew[:, :3, :3] = reordered(pose[:, :3, :3], place)
        told = f"their rotations fit as quaternions whose w stands {name}; convert them anew"
        yield told, replace(own, pose=anew)


def reordered(rotation: np.ndarray, place: int) -> np.ndarray:
    """Rotations float64 [F, 3, 3] of quaternions whose w stood at `place`, 0 or 3, and was looked for at the other."""
    found = []
    for r in rotation:
        # The quaternion is the main eigenvector of Bar-Itzhack's matrix (J. Guidance 23, 2000); here (x, y, z, w).
        k = np.array(
            [
                [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
                [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
                [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
                [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
            ]
        )
        read = np.linalg.eigh(k)[1][:, -1]
        x, y, z, w = np.roll(read, -1) if place == 0 else np.roll(read, 1)
        found.append(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
    return np.array(found)
