"""Depth images: 16-bit PNG, PGM or TIFF, floats in TIFF or EXR, arrays in `.npy`. Each error names the file."""

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.images import decoded, why
from hicl.pipeline.datasets.scene import Camera


def read_depth(path: Path, camera: Camera | None = None, scale: float = 1000.0) -> np.ndarray:
    """float32 [h, w] metres, 0 = nothing measured, of a file with `scale` units a metre. Raises `FrameError`."""
    return metres(read_raw(path), scale, str(path), camera)


def metres(raw: np.ndarray, scale: float, where: str, camera: Camera | None = None) -> np.ndarray:
    """The same of what stands in a file. 65535 means "nothing measured" as well (7-Scenes), and so does in floats what
    isn't finite or positive."""
    whole = raw.dtype in (np.dtype("uint16"), np.dtype("int32"))
    if raw.ndim != 2 or not (whole or raw.dtype.kind == "f"):
        raise FrameError(
            f"{where}: depth is {raw.dtype} with shape {raw.shape}, expected a 16-bit grey image or floats"
        )
    if camera is not None and raw.shape != (camera.height, camera.width):
        raise FrameError(f"{where}: depth is {raw.shape[0]}x{raw.shape[1]}, expected {camera.height}x{camera.width}")
    if whole:
        return np.where(raw >= 65535, 0, raw).astype(np.float32) / np.float32(scale)
    return np.where(np.isfinite(raw) & (raw > 0), raw, 0).astype(np.float32) / np.float32(scale)


def read_raw(path: Path) -> np.ndarray:
    """The numbers of a depth image [h, w] as they stand there. Raises `FrameError`, `HiclError` without a reader."""
    kind = path.suffix.lower()
    read = {".pgm": _read_pgm, ".npy": _read_npy, ".exr": _read_exr}.get(kind, decoded)
    try:
        return read(path)
    except HiclError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameError(f"{path}: depth doesn't decode{why(path, error)}") from None


def is_float(path: Path) -> bool:
    """Whether a depth image holds floats, by its header alone; False where it can't be read."""
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            return _loaded(path, "r").dtype.kind == "f"
        if kind in (".tif", ".tiff"):
            with Image.open(path) as image:
                return image.mode == "F"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return kind == ".exr"


def _read_pgm(path: Path) -> np.ndarray:
    """uint16 [h, w] of a binary grey map, as it stands there: Pillow stretches values to 65535 where the header names
    another largest one. Raises ValueError. (Netpbm's pgm(5): two bytes a pixel, the higher first.)"""
    data = path.read_bytes()
    header = re.match(rb"P5" + 3 * rb"(?:\s+|#[^\n]*\n)+(\d{1,6})" + rb"\s", data)
    if not header:
        raise ValueError("no header of a binary .pgm")
    width, height, most = map(int, header.groups())
    if not 255 < most < 65536:
        raise ValueError(f"its largest value is {most}, not of 16 bits")
    if len(data) - header.end() != 2 * width * height:
        raise ValueError(f"{len(data) - header.end()} bytes for {width}x{height} pixels of 2 bytes")
    return np.frombuffer(data, ">u2", offset=header.end()).reshape(height, width).astype(np.uint16)


def _read_npy(path: Path) -> np.ndarray:
    """An array of NumPy's, a last axis of one left out; whole numbers as int32."""
    array = _loaded(path)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return array.astype(np.int32) if array.dtype.kind in "ui" else array


def _loaded(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Raises OSError or ValueError: NumPy parses a header as Python, and raises what its tokenizer does as well."""
    try:
        return np.load(path, mmap_mode, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"no array of NumPy's: {str(error).splitlines()[0] if str(error) else 'damaged'}") from None


def _read_exr(path: Path) -> np.ndarray:
    """float32 [h, w]: the channel Z, Y or R of an EXR image, else its only one."""
    try:
        import OpenEXR
    except ImportError:
        raise HiclError(f"{path}: EXR images need `pip install 'hicl[captures]'`") from None
    path.stat()  # said in the system's words
    try:
        channels: dict[str, Any] = OpenEXR.File(str(path), separate_channels=True).channels()
    except Exception:  # what its C++ raises tells of parts and chunks
        raise ValueError("truncated, or no EXR image") from None
    name = next((name for name in ("Z", "Y", "R", "depth") if name in channels), min(channels))
    return np.asarray(channels[name].pixels, np.float32)
