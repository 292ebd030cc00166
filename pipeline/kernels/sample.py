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
def label_pixels(scores, pixel, height, width):
    h, w, n_classes = scores.shape
    rows, row_share = taps(height, h)
    columns, column_share = taps(width, w)
    one = np.float32(1)
    labels = np.empty(pixel.shape[0], np.uint8)
    mixed = np.empty(n_classes, np.float32)
    for p in range(pixel.shape[0]):
        i, j = rows[pixel[p, 0]], columns[pixel[p, 1]]
        down, right = row_share[pixel[p, 0]], column_share[pixel[p, 1]]
        a, b = scores[i, j], scores[i, min(j + 1, w - 1)]
        c, d = scores[min(i + 1, h - 1), j], scores[min(i + 1, h - 1), min(j + 1, w - 1)]
        up, left = one - down, one - right
        for k in range(n_classes):
            mixed[k] = up * (left * a[k] + right * b[k]) + down * (left * c[k] + right * d[k])
        best = 0
        for k in range(1, n_classes):
            if mixed[k] > mixed[best]:
                best = k
        labels[p] = best
    return labels
