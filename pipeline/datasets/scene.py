"""What every dataset yields: a scene with its points and its posed RGB-D frames.

Conventions: metres; `pose` is camera to world with x right, y down, z forward; a pixel's centre has integer
coordinates, so a pinhole camera sees (x, y, z) at column fx·x/z + cx and row fy·y/z + cy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hicl.errors import FrameError


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; focal lengths and principal point in pixels of an image of this size."""

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int


@dataclass(frozen=True)
class Points:
    """A scene's surface.

    xyz: float32 [N, 3], the dataset's own frame. rgb: uint8 [N, 3]. faces: int32 [T, 3], or None for a cloud.
    label: uint8 [N] in the dataset's class order, 255 = none, or None without ground truth; for evaluation only.
    normal: float32 [N, 3] of unit length when the source brings its own. sight: float32 [N, 3], any vector from the
    point towards the sensor that saw it, to orient estimated normals by.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    faces: np.ndarray | None = None
    label: np.ndarray | None = None
    normal: np.ndarray | None = None
    sight: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """One posed RGB-D frame. color: uint8 [H, W, 3]; depth: float32 [h, w], metres along z, 0 = nothing measured."""

    color: np.ndarray
    depth: np.ndarray
    pose: np.ndarray


def checked_pose(pose: np.ndarray, where: str = "pose") -> np.ndarray:
    """A camera-to-world matrix as float64 [4, 4]. Raises `FrameError` unless it is finite and a rigid motion, roughly.

    ScanNet writes -inf where tracking was lost; zeros, transposed poses and intrinsics are met as well.
    """
    pose = np.asarray(pose, np.float64)
    if pose.shape != (4, 4):
        raise FrameError(f"{where}: pose has shape {pose.shape}, expected (4, 4)")
    if not np.isfinite(pose).all():
        raise FrameError(f"{where}: pose is not finite (the scanner lost track)")
    (a, b, c, _), (d, e, f, _), (g, h, i, _), (x, y, z, w) = pose.tolist()
    # Python's own numbers: for nine of them NumPy takes ten times as long.
    lengths = max(abs(a * a + d * d + g * g - 1), abs(b * b + e * e + h * h - 1), abs(c * c + f * f + i * i - 1))
    angles = max(abs(a * b + d * e + g * h), abs(a * c + d * f + g * i), abs(b * c + e * f + h * i))
    handed = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) > 0
    if not (lengths <= 0.1 and angles <= 0.1 and handed) or max(abs(x), abs(y), abs(z), abs(w - 1)) > 1e-3:
        raise FrameError(f"{where}: pose is not a rigid motion, camera to world")
    return pose


class Scene(Protocol):
    """A scene as the pipeline reads it: a dataclass of little more than names, which other processes get. Everything is
    read when it is asked for, nothing before; what is kept of it is kept outside the fields, and stays behind in a copy
    by `dataclasses.replace`, and when the scene is pickled."""

    id: str
    color_camera: Camera
    depth_camera: Camera
    frame_ids: np.ndarray
    """int32 [F]: the frames chosen by the dataset's frame step; a frame that can't be used is still listed."""

    def points(self) -> Points: ...

    def frame(self, frame_id: int) -> Frame:
        """Read one frame. Raises `FrameError` where this frame alone is unusable (decoding, pose, size)."""
        ...

    def shipped_sets(self) -> np.ndarray | None:
        """int32 [N] over-segmentation that came with the scan, or None."""
        ...

    def point_files(self) -> list[Path]:
        """Files that `points` and `shipped_sets` read."""
        ...

    def frame_files(self) -> list[Path]:
        """Files that `frame` reads."""
        ...
