"""Labels at pixels from class scores on the teacher's patch grid, without ever making a dense image of features."""

from collections.abc import Callable

import numpy as np

from hicl.pipeline.kernels import sample as kernels


def label_pixels(scores: np.ndarray, pixel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The best class at each pixel of an image of `size` (height, width).

    scores: float32 [h, w, C], C <= 255, on a grid that covers the whole image. pixel: uint16 [P, 2] (row, column).
    Returns uint8 [P]; ties go to the lowest class. Raises ValueError for a pixel outside of the image.

    Scores are interpolated bilinearly at the pixel's centre, column (c + 0.5)·w/W - 0.5 of the grid, held at its edges:
    torch's `interpolate(mode="bilinear", align_corners=False)` to the full image, as MaskCLIP and CLIP2Scene do
    (runnanchen/CLIP2Scene f37dae7, model/maskclip_model.py:889-895), but only at the pixels asked for. Taking the
    nearest patch instead changes one label in six.
    """
    if scores.ndim == 3 and scores.shape[2] > 255:
        raise ValueError(f"scores: expected at most 255 classes, found {scores.shape[2]}")
    return _sampled(kernels.label_pixels, scores, pixel, size)


SHARPNESS = 100.0
"""What CLIP's scores are multiplied with before a softmax: the inverse of its temperature."""


def denoised(scores: np.ndarray, sureness: float, sharpness: float = SHARPNESS) -> np.ndarray:
    """Scores float32 [h, w, C] of a view in which a class that is nowhere sure is the last choice everywhere: one whose
    softmax of `sharpness` times the scores stays below `sureness` gets the view's lowest score. Where none is sure, all
    stay.

    MaskCLIP's prompt denoising (chongzhou96/MaskCLIP, mmseg/models/decode_heads/maskclip_head.py:130-135, with 0.5);
    there such a class gets -100, which would outweigh all other views where scores are summed up.
    """
    share = np.exp(sharpness * (scores - scores.max(axis=2, keepdims=True)))
    unsure = (share / share.sum(axis=2, keepdims=True)).max(axis=(0, 1)) < sureness
    return scores if unsure.all() else np.where(unsure, scores.min(), scores)


def scores_at(scores: np.ndarray, pixel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The scores themselves at each pixel, float32 [P, C]; arguments and errors as of `label_pixels`."""
    return _sampled(kernels.scores_at, scores, pixel, size)


def _sampled(kernel: Callable, scores: np.ndarray, pixel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if scores.ndim != 3 or 0 in scores.shape:
        raise ValueError(f"scores: expected shape [h, w, C] with at least one class, found {list(scores.shape)}")
    scores, pixel = np.ascontiguousarray(scores, np.float32), np.ascontiguousarray(pixel, np.uint16)
    found, inside = kernel(scores, pixel, *map(int, size))
    if not inside:
        raise ValueError(f"pixel: expected within {size[0]} x {size[1]}, found up to {pixel.max(axis=0).tolist()}")
    return found
