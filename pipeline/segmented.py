"""What a 2D segmenter's images say at the pixels of pairs: classes, or masks without a name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.pipeline.datasets.images import read_label, read_mask

Arrays = dict[str, np.ndarray]


def labels_at(files: list[Path], names: tuple[str, ...], ids: str, frames: list[str], arrays: Arrays) -> np.ndarray:
    """pairs/raw, uint8 [P], from one label image a view. names, ids: see `images.read_label`; the rest as of `_at`.

    Raises `HiclError` for an unknown class, or if all images are missing.
    """
    found = np.full(len(arrays["pairs/pixel"]), NO_LABEL, np.uint8)
    return _at(files, "--labels-dir", lambda file: read_label(file, names, ids), frames, arrays, found)


def masks_at(files: list[Path], frames: list[str], arrays: Arrays) -> np.ndarray:
    """pairs/mask, int32 [P], from one image of masks a view: any number from 1 is a mask, 0 is none; two masks of
    different images have nothing to do with each other. Raises `HiclError` as `labels_at`."""
    found = np.zeros(len(arrays["pairs/pixel"]), np.int32)
    return _at(files, "--masks-dir", read_mask, frames, arrays, found)


def _at(
    files: list[Path],
    option: str,
    read: Callable[[Path], np.ndarray],
    frames: list[str],
    arrays: Arrays,
    found: np.ndarray,
) -> np.ndarray:
    """`found`, with what the views' images have at their pairs; where a view has no image it stays as it is.

    frames: the views' names; an image is called like its frame, or, where that is a number, has the same. It may have
    any resolution.
    """
    by_frame = {_number(file.stem): file for file in files}
    indptr, pixel, none = arrays["pairs/indptr"], arrays["pairs/pixel"], True
    for view, frame in enumerate(frames):
        if file := by_frame.get(_number(frame)):
            none, image = False, read(file)
            own = slice(indptr[view], indptr[view + 1])
            # The centre of a pixel of the view, in an image of another resolution.
            row, column = ((pixel[own] + 0.5) * image.shape / arrays["views/size"][view]).astype(np.int64).T
            found[own] = image[row, column]
    if none:
        wanted = ", ".join(f"{frame}.png" for frame in frames[:3])
        raise HiclError(f"{option}: no image for any frame of this scene; expected {wanted} …")
    return found


def _number(name: str) -> int | str:
    """000012 and 12 are one frame."""
    return int(name) if name.isdecimal() else name
