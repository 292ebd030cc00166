"""Files of posed RGB-D folders: colour, poses and intrinsics as text, label images. Each error names the file."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import nyu40
from hicl.pipeline.datasets.scene import Camera, checked_camera, checked_pose
from hicl.pipeline.datasets.sens import assert_plausible, decode_color
from hicl.read import told_apart


def read_color(path: Path, camera: Camera | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of the camera's size. Raises `FrameError`."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise FrameError(f"{path}: can't be read ({getattr(error, 'strerror', error)})") from None
    return decode_color(data, str(path), (camera.height, camera.width) if camera else None)


def decoded(path: Path) -> np.ndarray:
    """An image's pixels as they stand. Raises what Pillow raises, and `ValueError` for an implausible size."""
    data = path.read_bytes()  # of a file, Pillow would ask for as many bytes at once as a chunk says it has
    with Image.open(io.BytesIO(data)) as image:
        assert_plausible(image, len(data))
        return np.asarray(image)


def _numbers(path: Path, error_type: type[HiclError]) -> np.ndarray:
    try:
        content = path.read_bytes()
        if said := told_apart(content):
            raise error_type(f"{path}: not a matrix of numbers{said}")
        lines = content.decode("utf-8-sig").replace(",", " ").splitlines()
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
    return _pinhole(_numbers(path, HiclError), path, size)


def read_3rscan_intrinsics(path: Path, kind: str, size: tuple[int, int]) -> Camera:
    """Of 3RScan's `_info.txt`, for its "color" or "depth" images of `size` (H, W). Raises `HiclError`."""
    key = f"m_calibration{kind.capitalize()}Intrinsic"
    try:
        found = re.search(rf"^\s*{key}\s*=(.*)$", path.read_text(), re.MULTILINE)
        matrix = np.array(found[1].split() if found else [], float).reshape(4, 4)
    except (OSError, ValueError):
        raise HiclError(f"{path}: no {key} with the 16 numbers of a matrix") from None
    return checked_camera(_pinhole(matrix, path, size), str(path))


def _pinhole(matrix: np.ndarray, path: Path, size: tuple[int, int]) -> Camera:
    if matrix.shape in ((3, 3), (4, 4)):
        if matrix[2, :2].any() and not matrix[:2, 2].any():
            raise HiclError(f"{path}: the matrix is transposed; expected the rows fx 0 cx, 0 fy cy, 0 0 1")
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    elif matrix.shape == (1, 4):
        fx, fy, cx, cy = matrix[0]
    else:
        raise HiclError(f"{path}: intrinsics have shape {matrix.shape}, expected 3x3, 4x4 or 'fx fy cx cy'")
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise HiclError(f"{path}: focal lengths {fx:g} and {fy:g} must be positive")
    return Camera(float(fx), float(fy), float(cx), float(cy), *size)


def why(path: Path, error: Exception) -> str:
    """What is wrong with an image that doesn't decode."""
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
        return told_apart(file.read(512)) or f" ({str(error).split(' <_io.BytesIO')[0]})"
    return f" ({getattr(error, 'strerror', None) or error})"


def read_label(path: Path, names: tuple[str, ...], ids: str = "classes") -> np.ndarray:
    """uint8 [h, w] places in `names`, 255 = none. ids: what the image holds, those places ("classes") or "nyu40".

    Raises `HiclError` if it doesn't decode or holds an unknown class.
    """
    try:
        label = decoded(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HiclError(f"{path}: label image doesn't decode{why(path, error)}") from None
    if label.ndim != 2 or label.dtype.kind not in "ui":
        raise HiclError(f"{path}: {label.dtype} with shape {label.shape}, expected a grey image of class indices")
    return label_classes(label, names, ids, str(path))


def read_mask(path: Path) -> np.ndarray:
    """int32 [h, w]: the number of each pixel's mask, 0 = none. Raises `HiclError` if it isn't a grey image of such."""
    try:
        mask = decoded(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HiclError(f"{path}: image of masks doesn't decode{why(path, error)}") from None
    if mask.ndim != 2 or mask.dtype.kind not in "ui" or (mask.size and mask.min() < 0):
        raise HiclError(f"{path}: {mask.dtype} with shape {mask.shape}, expected a grey image of masks' numbers from 0")
    return mask.astype(np.int32)


def label_classes(label: np.ndarray, names: tuple[str, ...], ids: str, where: str) -> np.ndarray:
    """uint8, the shape of `label`, of integers: places in `names`, 255 = none. Raises `HiclError`; see `read_label`."""
    if ids == "nyu40":
        return nyu40.to_classes(label, where, names)
    unknown = label[(label < 0) | ((label >= len(names)) & (label != 255))]
    if len(unknown):
        other = "; NYU40 ids are read with --label-ids nyu40" if label[label != 255].max() <= nyu40.MOST else ""
        raise HiclError(
            f"{where}: unknown class {unknown.flat[0]}; the list has {len(names)}, from 0, and 255 means none{other}"
        )
    return label.astype(np.uint8)
