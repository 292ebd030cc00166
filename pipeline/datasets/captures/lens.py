"""Intrinsics as JSON files have them."""

from pathlib import Path
from typing import Any

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.captures.capture import Size, read_json
from hicl.pipeline.datasets.scene import Camera

_NUMBERS = (("fx", "fl_x", "focal_x"), ("fy", "fl_y", "focal_y"), ("cx", "ppx"), ("cy", "ppy"))
_SIZE = (("height", "h"), ("width", "w"))
_MATRICES = ("intrinsic_matrix", "camera_matrix", "intrinsic", "K")
_PARTS = ("camera", "intrinsics", "color", "rgb", "depth")


def read_json_camera(path: Path, size: Size) -> Camera:
    """Of a file with fx, fy, cx, cy or a matrix, and the size it is for, else `size`; also one level further down.

    A matrix of 9 numbers in a row is Open3D's, column by column. Raises `HiclError`.
    """
    found = camera_of(read_json(path), size)
    if found is None:
        raise HiclError(f"{path}: no intrinsics; expected fx, fy, cx, cy, or a 3x3 matrix as intrinsic_matrix")
    return found


def camera_of(about: Any, size: Size) -> Camera | None:
    """The camera that a JSON object describes; None where it describes none, or not by sensible numbers."""
    if not isinstance(about, dict):
        return None
    try:
        k = [float(_first(about, names)) for names in _NUMBERS] if _first(about, _NUMBERS[0]) is not None else None
        if k is None and (matrix := _first(about, _MATRICES)) is not None:
            full = np.array(matrix, float)
            full = full.reshape(3, 3).T if full.shape == (9,) else full
            k = [full[0, 0], full[1, 1], full[0, 2], full[1, 2]]
        said = [_first(about, names) for names in _SIZE]
        height, width = (int(own) if own else other for own, other in zip(said, size, strict=True))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if k is None:
        inner = (camera_of(about[name], size) for name in _PARTS if name in about)
        return next((camera for camera in inner if camera is not None), None)
    fx, fy, cx, cy = map(float, k)
    sound = np.isfinite(k).all() and min(fx, fy) > 0 and height > 0 and width > 0
    return Camera(fx, fy, cx, cy, height, width) if sound else None


def _first(about: dict, names: tuple[str, ...]) -> Any:
    return next((about[name] for name in names if name in about), None)
