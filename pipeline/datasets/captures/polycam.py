"""Polycam's raw data: `keyframes/` with images, cameras and depth, named by time in microseconds.

Each camera is a JSON with `t_00` to `t_23`, the upper rows of camera to world in ARKit's axes, which are OpenGL's (x
right, y up, z back; the world's y is up), and with `fx fy cx cy width height`. Depth is 16-bit, in millimetres, smaller
than the image and of the same view. `corrected_images` and `corrected_cameras` are without distortion and optimised,
and go first. (PolyCam/polyform, README, "Polycam's data format".)
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, read_json
from hicl.pipeline.datasets.captures.lens import camera_of
from hicl.pipeline.datasets.namings import by_name
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "Polycam's raw data"
WANTS = (
    ("keyframes/corrected_cameras/*.json", "keyframes/cameras/*.json"),
    ("keyframes/corrected_images/*.jpg", "keyframes/images/*.jpg"),
    ("keyframes/depth/*.png",),
)


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    place = folder / "keyframes"
    corrected = (place / "corrected_cameras").is_dir() and (place / "corrected_images").is_dir()
    kind = "corrected_" * corrected
    shots = {}
    for name, image in by_name(place / f"{kind}images", (".jpg", ".jpeg", ".png")).items():
        camera = place / f"{kind}cameras" / f"{name}.json"
        depth = place / "depth" / f"{name}.png"
        files = (camera,)
        shots[name] = Shot(image, depth, partial(_pose, camera), partial(_camera, camera), files=files).looked_for()
    return Capture(shots, said=Said(1000.0, axes="opengl"))


def _pose(path: Path) -> np.ndarray:
    try:
        about = read_json(path)
        rows = [[float(about[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
    except (HiclError, KeyError, TypeError, ValueError):
        raise FrameError(f"{path}: no pose; expected t_00 to t_23") from None
    return np.array([*rows, [0, 0, 0, 1]], float)


def _camera(path: Path) -> Camera:
    found = camera_of(read_json(path), (0, 0))
    if found is None:
        raise FrameError(f"{path}: no camera; expected fx, fy, cx, cy, width and height")
    return found
