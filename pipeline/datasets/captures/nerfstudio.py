"""nerfstudio's `transforms.json`, which `ns-process-data` makes of Polycam, Record3D and others, and Instant-NGP's.

Poses are camera to world in OpenGL's axes, x right, y up, z back. Intrinsics `fl_x fl_y cx cy` for images of `w` by `h`
stand at the top or with a frame; pixel centres lie at halves, half a pixel from ours. Depth, 16-bit or `.npy`, is in
millimetres unless `depth_unit_scale_factor` says metres a unit. (docs.nerf.studio, "Data conventions"; the half pixel:
nerfstudio/cameras/cameras.py, `get_image_coords`.)
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, bent, is_scale, read_json
from hicl.pipeline.datasets.captures.lens import camera_of
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "nerfstudio's transforms.json"
FILE = "transforms.json"
WANTS = ((FILE,),)
_SEEN = 0.5  # pixels: a lens that bends less isn't worth a word


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    path = folder / FILE
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames) or not frames:
        raise HiclError(f"{path}: no list of frames")
    if not any("depth_file_path" in frame for frame in frames):
        raise HiclError(f"{path}: no frame has a depth_file_path, and without depth no surface is found")
    shots: dict[str, Shot] = {}
    lenses = []
    for number, frame in enumerate(frames):
        about = {key: value for key, value in content.items() if key != "frames"} | frame
        color, depth = (folder / str(frame.get(key, "")) for key in ("file_path", "depth_file_path"))
        where = f"{path}: frame {number}"
        lenses.append(_camera(about, where))
        pose = partial(_pose, frame.get("transform_matrix"), where)
        own = Shot(color, depth, pose, partial(_camera, about, where)).looked_for()
        shots[_name(color, shots)] = own
    scale = content.get("depth_unit_scale_factor", 1e-3)
    if not is_scale(scale):
        raise HiclError(f"{path}: depth_unit_scale_factor is {scale!r}")
    bends = max(bent(camera, _radial(content | frame)) for camera, frame in zip(lenses, frames, strict=True))
    notes = (f"{path}: its lens bends corners by {bends:.0f} pixels, which is passed over; undistorted images fit",)
    return Capture(shots, (path,), Said(1 / scale, axes="opengl"), notes=notes if bends > _SEEN else ())


def _name(color: Path, taken: dict[str, Shot]) -> str:
    """A frame's: its image's, with its folder's where another has the same."""
    name = color.stem.removeprefix("frame_")
    return f"{color.parent.name}_{name}" if name in taken else name


def _pose(matrix: object, where: str) -> np.ndarray:
    try:
        pose = np.array(matrix, float)
    except (TypeError, ValueError):
        pose = np.zeros(0)
    if pose.shape not in ((4, 4), (3, 4)):
        raise FrameError(f"{where}: no transform_matrix of 4x4 numbers")
    return pose if len(pose) == 4 else np.vstack([pose, [0, 0, 0, 1]])


def _camera(about: dict, where: str) -> Camera:
    if "FISHEYE" in str(about.get("camera_model", "")):
        raise HiclError(f"{where}: camera_model {about['camera_model']}; undistort the images to a pinhole's")
    found = camera_of(about, (0, 0))
    if found is None:
        raise HiclError(f"{where}: needs fl_x, fl_y, cx, cy, w and h")
    return Camera(found.fx, found.fy, found.cx - 0.5, found.cy - 0.5, found.height, found.width)


def _radial(about: dict) -> list[float]:
    return [float(about.get(name) or 0) for name in ("k1", "k2", "k3")]
