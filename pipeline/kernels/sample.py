"""Kernels of `hicl.pipeline.sampling`."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def taps(fine, coarse):
    """For each of `fine` pixels: the lower of the two `coarse` cells around its centre, and the upper one's share."""
    lower = np.empty(fine, np.int64)
    share = np.empty(fine, np.float32)
    for i in range(fine):
        x = min(max((i + 0.5) * coarse / fine - 0.5, 0.0), coarse - 1.0)
        lower[i] = min(np.int64(x), max(coarse - 2, 0))
        share[i] = x - lower[i]
    return lower, share


@kernel
def _interpolate(scores, i, j, down, right, out):
    """Scores between the cells (i, j) and (i + 1, j + 1), at the shares of the latter, into `out`."""
    h, w, n_classes = scores.shape
    a, b = scores[i, j], scores[i, min(j + 1, w - 1)]
    c, d = scores[min(i + 1, h - 1), j], scores[min(i + 1, h - 1), min(j + 1, w - 1)]
    up, left = np.float32(1) - down, np.float32(1) - right
    for k in range(n_classes):
        out[k] = up * (left * a[k] + right * b[k]) + down * (left * c[k] + right * d[k])


@kernel
def label_pixels(scores, pixel, height, width):
    h, w, n_classes = scores.shape
    rows, down = taps(height, h)
    columns, right = taps(width, w)
    labels = np.empty(pixel.shape[0], np.uint8)
    mixed = np.empty(n_classes, np.float32)
    for p in range(pixel.shape[0]):
        y, x = pixel[p, 0], pixel[p, 1]
        _interpolate(scores, rows[y], columns[x], down[y], right[x], mixed)
        best = 0
        for k in range(1, n_classes):
            if mixed[k] > mixed[best]:
                best = k
        labels[p] = best
    return labels


@kernel
def scores_at(scores, pixel, height, width):
    h, w, n_classes = scores.shape
    rows, down = taps(height, h)
    columns, right = taps(width, w)
    out = np.empty((pixel.shape[0], n_classes), np.float32)
    for p in range(pixel.shape[0]):
        y, x = pixel[p, 0], pixel[p, 1]
        _interpolate(scores, rows[y], columns[x], down[y], right[x], out[p])
    return out
