"""TUM's RGB-D benchmark: `rgb.txt` and `depth.txt`, "time file" a line, and `groundtruth.txt`.

A line of the last is "time tx ty tz qx qy qz qw", camera to world with x right, y down, z forward. Nothing is in step:
a colour image goes with the depth image and the pose that are nearest in time, within 0.02 s, as the benchmark's own
`associate.py` does it. Depth has 5000 units a metre and is registered to colour. (cvg.cit.tum.de/data/datasets/
rgbd-dataset/file_formats.) Intrinsics are the benchmark's, of the sensor that the folder's name tells (freiburg1, 2 or
3), else those that ROS assumes, unless a file of them is there.
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.captures import plain
from hicl.pipeline.datasets.captures.capture import Capture, Shot, Size, motion, nearest, rescaled, rotation, rows
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "TUM's RGB-D benchmark"
WANTS = (("rgb.txt",), ("depth.txt",), ("groundtruth.txt",))
_STEP = 0.02  # seconds
_KINECTS = {
    "freiburg1": Camera(517.3, 516.5, 318.6, 255.3, 480, 640),
    "freiburg2": Camera(520.9, 521.0, 325.1, 249.7, 480, 640),
    "freiburg3": Camera(535.4, 539.2, 320.1, 247.6, 480, 640),
}
_ANY = Camera(525.0, 525.0, 319.5, 239.5, 480, 640)


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    lists = [folder / name for (name,) in WANTS]
    color, depth = (rows(path, 2, words=1) for path in lists[:2])
    poses = rows(lists[2], 8)
    seconds = [np.array([float(row[0]) for row in found]) for found in (color, depth, poses)]
    for path, found in zip(lists, seconds, strict=True):
        if not len(found):
            raise HiclError(f"{path}: no line with a time")
    of_depth, of_pose = (nearest(times, seconds[0], _STEP) for times in seconds[1:])
    shots = {}
    for (time, name, *_), d, p in zip(color, of_depth.tolist(), of_pose.tolist(), strict=True):
        if d >= 0 and p >= 0:
            pose = partial(_pose, [float(x) for x in poses[p][1:8]], f"{lists[2]}: {poses[p][0]}")
            shots[time] = Shot(folder / name, folder / depth[d][1], pose).looked_for()
    if not shots:
        raise HiclError(f"{folder}: no image of rgb.txt has depth and a pose within {_STEP} s; is it one clock?")
    own = plain.intrinsics(folder)
    known = next((camera for name, camera in _KINECTS.items() if name in str(folder.resolve())), None)
    notes = [f"{folder}: {len(color) - len(shots)} of {len(color)} images have no depth or pose within {_STEP} s"]
    notes = notes if len(shots) < len(color) else []
    if not own and known is None:
        notes.append(f"{folder}: no intrinsics, no freiburg1 to 3 in its name: taken as {_ANY.fx:g} px of focal length")
    cameras = partial(plain.cameras, folder) if own else partial(_cameras, known or _ANY)
    return Capture(shots, (*lists, *own), Said(5000.0), cameras, notes=tuple(notes))


def _pose(row: list[float], where: str) -> np.ndarray:
    return motion(rotation(row[3], row[4], row[5], row[6], where), row[:3])


def _cameras(own: Camera, color: Size, depth: Size) -> tuple[Camera, Camera]:
    return rescaled(own, color), rescaled(own, depth)
