"""Sliding windows: a larger image read in parts of the size that a tower was trained on.

What SCLIP, NACLIP, ResCLIP and SC-CLIP are measured with (wangf3014/SCLIP, clip_segmentor.py `forward_slide`: 224
pixels every 112). They average the classes' scores where windows overlap; here the unit features are averaged, of which
scores are inner products, so that both come to the same on a patch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from hicl.errors import HiclError


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin, so that they cover the length: every `stride`, and the last one ends where it ends."""
    return [min(start, length - window) for start in range(0, max(length - window, 0) + stride, stride)]


@dataclass(frozen=True)
class Windows:
    """patch: pixels in a patch, (rows, columns). side, stride: patches of a window, and from one to the next, in rows
    and columns. A window is no larger than the image."""

    patch: tuple[int, int]
    side: tuple[int, int]
    stride: tuple[int, int]

    @staticmethod
    def of(patch: tuple[int, int], side: int, stride: int | None) -> "Windows":
        """Of pixels, rounded to whole patches; stride None: half a window. Raises `HiclError` for less than a patch."""
        if side < max(patch):
            raise HiclError(f"--window {side}: less than one patch of {patch[0]}x{patch[1]}")
        sides, strides = ([max(1, round(size / each)) for each in patch] for size in (side, stride or side / 2))
        return Windows(patch, (sides[0], sides[1]), (strides[0], strides[1]))

    def read(self, pixels: np.ndarray, read: Callable[[np.ndarray], torch.Tensor]) -> torch.Tensor:
        """Images of whole patches, uint8 [B, H, W, 3], to unit features [B, h, w, d].

        read: the same for the windows of all images, uint8 [N, side, side, 3].
        """
        shape = pixels.shape[1] // self.patch[0], pixels.shape[2] // self.patch[1]
        side = min(self.side[0], shape[0]), min(self.side[1], shape[1])
        if side == shape:
            return read(pixels)
        rows, columns = (starts(*axis) for axis in zip(shape, side, self.stride, strict=True))
        places = [(slice(row, row + side[0]), slice(column, column + side[1])) for row in rows for column in columns]
        found = read(np.concatenate([self._cut(pixels, *place) for place in places])).split(len(pixels))
        total = found[0].new_zeros(len(pixels), *shape, found[0].shape[-1])
        for place, features in zip(places, found, strict=True):
            total[:, *place] += features
        return F.normalize(total, dim=-1)

    def _cut(self, pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        high, wide = self.patch
        return pixels[:, rows.start * high : rows.stop * high, columns.start * wide : columns.stop * wide]
