"""The teacher's patch features: the grid they lie on, how a scene's are collected, and class scores straight from them.

They are kept in 8 bits: int8 codes [h, w, d] times a float32 scale [h, w] are features of unit length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from hicl.pipeline.kernels import sample as kernels

Features = tuple[np.ndarray, np.ndarray]
"""Codes int8 [B, h, w, d] and scale float32 [B, h, w] of B images."""

IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class PatchGrid:
    """How a teacher cuts an image.

    patch: rows and columns of pixels in a patch. short_side: pixels that the shorter side is resized to, rounded to
    whole patches; with `squash`, the longer one too. interpolation: "bicubic" or "bilinear".
    """

    patch: tuple[int, int]
    short_side: int
    interpolation: str = "bicubic"
    squash: bool = False

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches for an image of this size."""
        if self.squash:
            height = width = self.short_side
        scale = self.short_side / min(height, width)
        rows, columns = round(height * scale / self.patch[0]), round(width * scale / self.patch[1])
        return max(1, rows), max(1, columns)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] to whole patches, uint8 [h · patch rows, w · patch columns, 3]."""
        rows, columns = self.shape(*image.shape[:2])
        size = (columns * self.patch[1], rows * self.patch[0])
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[self.interpolation.upper()]))


class FeatureReader:
    """Reads the images of one scene, in order, some at once.

    request: takes resized images, uint8 [B, H, W, 3], and returns what gives their features. It is asked for those only
    when more images have come together: a teacher in another process reads while this one decodes.
    """

    def __init__(
        self, grid: PatchGrid, request: Callable[[np.ndarray], Callable[[], Features]], at_once: int = IMAGES_AT_ONCE
    ):
        self._grid, self._request, self._at_once = grid, request, at_once
        self._images: list[np.ndarray] = []
        self._requested: Callable[[], Features] | None = None
        self._read: list[Features] = []

    def add(self, image: np.ndarray) -> None:
        """image: uint8 [H, W, 3], of the size of the others."""
        self._images.append(self._grid.resize(image))
        if len(self._images) == self._at_once:
            self._send()

    def features(self) -> Features:
        """Those of all images added, of at least one."""
        if self._images:
            self._send()
        self._receive()
        codes, scales = zip(*self._read, strict=True)
        return np.concatenate(codes), np.concatenate(scales)

    def _send(self) -> None:
        self._receive()
        self._requested = self._request(np.stack(self._images))
        self._images.clear()

    def _receive(self) -> None:
        if self._requested is not None:
            self._read.append(self._requested())
            self._requested = None


class Folded(NamedTuple):
    """Words that count as classes: embedding float32 [W, d], unit length, and the class of each, int [W]; as none where
    that is C."""

    embedding: np.ndarray
    place: np.ndarray

    def scores(self, codes: np.ndarray, scale: np.ndarray, text: np.ndarray) -> np.ndarray:
        """As `class_scores`, a class by the best of its own text and its words; where words count as none, those' best
        in a column behind the others. float32 [h, w, C or C + 1]."""
        every = class_scores(codes, scale, np.concatenate([text, self.embedding]))
        count = len(text)
        best = np.full((*every.shape[:2], max(count, int(self.place.max()) + 1)), -np.inf, np.float32)
        best[:, :, :count] = every[:, :, :count]
        for word, place in enumerate(self.place, count):
            np.maximum(best[:, :, place], every[:, :, word], out=best[:, :, place])
        return best


def class_scores(codes: np.ndarray, scale: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Dot products of a view's patches with texts: codes int8 [h, w, d], scale float32 [h, w], text float32 [C, d] ->
    float32 [h, w, C].

    Not a library's matrix product: the last bit of those may depend on the number of threads, and with it a label.
    """
    h, w, d = codes.shape
    if text.shape[1] != d:
        raise ValueError(f"text: expected shape [C, {d}], found {list(text.shape)}")
    flat, transposed = np.ascontiguousarray(codes).reshape(-1, d), np.ascontiguousarray(text.T, np.float32)
    return kernels.score_patches(flat, np.ascontiguousarray(scale).ravel(), transposed).reshape(h, w, len(text))
