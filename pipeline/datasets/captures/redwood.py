"""Redwood's and Open3D's captures: `depth/`, `color/` (or `rgb/`, `image/`) and a trajectory, `*.log`.

Five lines a frame: three numbers, of which the third is that of the depth image, from 1, and four lines of camera to
world with x right, y down, z forward. (redwood-data.org/indoor/fileformat.html.) Where the third numbers tell nothing,
as a fitness would, items stand in the images' order. Depth is in millimetres. Colour images are as many as depth
images, or go with them by the time behind the dash of their names, in microseconds. Intrinsics are those of a file
beside (Open3D's `intrinsic.json`), else a PrimeSense's.
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.captures import plain
from hicl.pipeline.datasets.captures.capture import Capture, Shot, Size, nearest, rescaled, rows
from hicl.pipeline.datasets.namings import DEPTHS, by_name, in_order
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "Redwood's trajectory"
_COLORS = ("color", "rgb", "image", "images")
WANTS = (("*.log",), tuple(f"{name}/*" for name in _COLORS), ("depth/*",))
_PRIMESENSE = Camera(525.0, 525.0, 319.5, 239.5, 480, 640)
_LATE = 20_000.0  # microseconds


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    logs = sorted(path for path in folder.glob("*.log") if not path.name.startswith("."))
    logs = [path for path in logs if "traj" in path.name] or logs  # Open3D's sample has an odometry.log beside
    if len(logs) > 1:
        raise HiclError(f"{folder}: {logs[0].name} and {logs[1].name}: leave one .log, the trajectory")
    try:
        numbers = [list(map(float, row)) for row in rows(logs[0], 3)]
    except ValueError:
        numbers = [[]]
    if len(numbers) % 5 or any(len(row) != (3 if place % 5 == 0 else 4) for place, row in enumerate(numbers)):
        raise HiclError(f"{logs[0]}: not a trajectory of three numbers and four lines of a matrix a frame")
    poses = [np.array(numbers[start + 1 : start + 5]) for start in range(0, len(numbers), 5)]
    depths = by_name(folder / "depth", DEPTHS)
    parent = next(folder / name for name in _COLORS if (folder / name).is_dir())
    images = by_name(parent, (".jpg", ".jpeg", ".png"))
    depth_names, image_names = in_order(list(depths)), in_order(list(images))
    image_of = _beside(depth_names, image_names, parent)
    place = [int(row[2]) - 1 for row in numbers[::5]]
    if len(set(place)) < len(place) or not all(0 <= at < len(depths) for at in place):
        place = list(range(len(poses)))
    if len(poses) > len(depths):
        raise HiclError(f"{logs[0]}: {len(poses)} poses, but {len(depths)} images in depth/")
    shots = {}
    for at, pose in zip(place, poses, strict=True):
        if (image := image_of[at]) is not None:
            shots[depth_names[at]] = Shot(images[image], depths[depth_names[at]], partial(np.copy, pose))
    own = plain.intrinsics(folder)
    cameras = partial(plain.cameras, folder) if own else _cameras
    notes = (f"{folder}: no intrinsics: taken as a PrimeSense's, {_PRIMESENSE.fx:g} px of focal length at 640x480",)
    return Capture(shots, (logs[0], *own), Said(1000.0), cameras, notes=() if own else notes)


def _beside(depths: list[str], images: list[str], parent: Path) -> list[str | None]:
    """The colour image of each depth image."""
    if len(depths) == len(images):
        return list(images)
    try:
        have, wanted = (np.array([float(name.rpartition("-")[2]) for name in names]) for names in (images, depths))
    except ValueError:
        raise HiclError(f"{parent}: {len(images)} images for {len(depths)} in depth/, no times to tell by") from None
    return [images[at] if at >= 0 else None for at in nearest(have, wanted, _LATE).tolist()]


def _cameras(color: Size, depth: Size) -> tuple[Camera, Camera]:
    return rescaled(_PRIMESENSE, color), rescaled(_PRIMESENSE, depth)
