"""Apple's ARKitScenes, raw or 3dod: `lowres_wide/`, `lowres_depth/`, `lowres_wide_intrinsics/` and `lowres_wide.traj`.

A line of the trajectory is "time rx ry rz tx ty tz", world to camera as an axis times an angle in radians and metres,
with x right, y down, z forward. Files are named `<video>_<time>`; an intrinsics file, "width height fx fy cx cy", may
be off by a millisecond, and a frame without a pose within 5 ms is left out. Depth is in millimetres.
(apple/ARKitScenes: DATA.md, threedod/benchmark_scripts/utils/tenFpsDataLoader.py.)
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, motion, nearest, rows
from hicl.pipeline.datasets.captures.lens import camera_of
from hicl.pipeline.datasets.namings import by_name
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "ARKitScenes"
_FOLDERS = ("", "*_frames/")  # of the raw data, of 3dod
WANTS = tuple(
    tuple(f"{folder}{name}" for folder in _FOLDERS)
    for name in ("lowres_wide.traj", "lowres_wide/*.png", "lowres_depth/*.png", "lowres_wide_intrinsics/*.pincam")
)
_LATE, _OFF = 0.005, 0.0015  # seconds, of a pose and of intrinsics


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    path = next(path for pattern in WANTS[0] for path in folder.glob(pattern))
    place = path.parent
    poses = np.array([list(map(float, row[:7])) for row in rows(path, 7)])
    images = by_name(place / "lowres_wide", (".png", ".jpg"))
    lenses = by_name(place / "lowres_wide_intrinsics", (".pincam",))
    if not len(poses) or not lenses:
        raise HiclError(f"{path}: no poses, or no intrinsics in lowres_wide_intrinsics")
    names = list(images)
    times, written = _times(names, place), list(lenses)
    of_pose, of_lens = nearest(poses[:, 0], times, _LATE), nearest(_times(written, place), times, _OFF)
    shots = {}
    for name, p, c in zip(names, of_pose.tolist(), of_lens.tolist(), strict=True):
        if p >= 0 and c >= 0:
            lens = lenses[written[c]]
            pose = partial(_pose, poses[p])
            depth = place / "lowres_depth" / f"{name}.png"
            shots[name.rpartition("_")[2]] = Shot(images[name], depth, pose, partial(_camera, lens), files=(lens,))
    if not shots:
        raise HiclError(f"{path}: no image has a pose within {_LATE} s and intrinsics")
    left = len(names) - len(shots)
    notes = (f"{folder}: {left} of {len(names)} images have no pose within {_LATE} s, or no intrinsics",)
    found = {name: shot.looked_for() for name, shot in shots.items()}
    return Capture(found, (path,), Said(1000.0, "world-to-camera"), notes=notes if left else ())


def _times(names: list[str], place: Path) -> np.ndarray:
    try:
        return np.array([float(name.rpartition("_")[2]) for name in names])
    except ValueError:
        raise HiclError(f"{place}: {names[0]} has no time behind its last underscore") from None


def _pose(row: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(row[1:4]))
    x, y, z = row[1:4] / angle if angle else (0.0, 0.0, 0.0)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return motion(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, row[4:7])


def _camera(path: Path) -> Camera:
    numbers = [list(map(float, row[:6])) for row in rows(path, 6)]
    if len(numbers) != 1:
        raise FrameError(f"{path}: expected one line, width height fx fy cx cy")
    names = ("width", "height", "fx", "fy", "cx", "cy")
    found = camera_of(dict(zip(names, numbers[0], strict=True)), (0, 0))
    if found is None:
        raise FrameError(f"{path}: {numbers[0]} is no camera, width height fx fy cx cy")
    return found
