"""Files of posed RGB-D folders: colour, 16-bit depth, poses and intrinsics as text. Each error names the file."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera, checked_pose
from hicl.pipeline.datasets.sens import assert_plausible, decode_color


def read_color(path: Path, camera: Camera | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of the camera's size. Raises `FrameError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: can't be read ({error.strerror})") from None
    return decode_color(data, str(path), camera and (camera.height, camera.width))


def read_depth(path: Path, camera: Camera | None = None, scale: float = 1000.0) -> np.ndarray:
    """float32 [h, w] metres, 0 = nothing measured, of a 16-bit image with `scale` units a metre. Raises `FrameError`.

    65535 means "nothing measured" as well (7-Scenes).
    """
    try:
        data = path.read_bytes()  # of a file, Pillow would ask for as many bytes at once as a chunk says it has
        with Image.open(io.BytesIO(data)) as image:
            assert_plausible(image, len(data))
            raw = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameError(f"{path}: depth doesn't decode ({getattr(error, 'strerror', None) or error})") from None
    if raw.ndim != 2 or raw.dtype not in (np.dtype("uint16"), np.dtype("int32")):
        raise FrameError(f"{path}: depth is {raw.dtype} with shape {raw.shape}, expected a 16-bit grey image")
    if camera is not None and raw.shape != (camera.height, camera.width):
        raise FrameError(f"{path}: depth is {raw.shape[0]}x{raw.shape[1]}, expected {camera.height}x{camera.width}")
    return np.where(raw >= 65535, 0, raw).astype(np.float32) / np.float32(scale)


def _numbers(path: Path, error_type: type[HiclError]) -> np.ndarray:
    try:
        lines = path.read_text().replace(",", " ").splitlines()
        return np.array([line.split() for line in lines if line.strip()], float)
    except FileNotFoundError:
        raise error_type(f"{path}: missing") from None
    except (OSError, ValueError) as error:
        raise error_type(f"{path}: not a matrix of numbers ({str(error).splitlines()[0]})") from None


def read_pose(path: Path) -> np.ndarray:
    """Camera to world, float64 [4, 4]. Raises `FrameError` if it isn't a finite rigid motion."""
    return checked_pose(_numbers(path, FrameError), str(path))


def read_intrinsics(path: Path, size: tuple[int, int]) -> Camera:
    """A 3x3 or 4x4 matrix, or the four numbers fx fy cx cy, for images of `size` (H, W). Raises `HiclError`."""
    matrix = _numbers(path, HiclError)
    if matrix.shape in ((3, 3), (4, 4)):
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    elif matrix.shape == (1, 4):
        fx, fy, cx, cy = matrix[0]
    else:
        raise HiclError(f"{path}: intrinsics have shape {matrix.shape}, expected 3x3, 4x4 or 'fx fy cx cy'")
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise HiclError(f"{path}: focal lengths {fx:g} and {fy:g} must be positive")
    return Camera(float(fx), float(fy), float(cx), float(cy), *size)


def read_label(path: Path, n_classes: int) -> np.ndarray:
    """uint8 [h, w] class indices, 255 = none. Raises `HiclError` if it doesn't decode or holds an unknown class."""
    try:
        data = path.read_bytes()  # of a file, Pillow would ask for as many bytes at once as a chunk says it has
        with Image.open(io.BytesIO(data)) as image:
            assert_plausible(image, len(data))
            label = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HiclError(f"{path}: label image doesn't decode ({error})") from None
    if label.ndim != 2 or label.dtype.kind not in "ui":
        raise HiclError(f"{path}: {label.dtype} with shape {label.shape}, expected a grey image of class indices")
    unknown = label[(label >= n_classes) & (label != 255)]
    if len(unknown):
        raise HiclError(f"{path}: unknown class {unknown[0]}; the list has {n_classes}, from 0, and 255 means none")
    return label.astype(np.uint8)
