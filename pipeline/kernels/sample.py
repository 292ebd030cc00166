"""Kernels of `hicl.pipeline.sampling`."""

import numpy as np

from hicl.pipeline.kernels import kernel

# What two interpolated scores can differ by through rounding alone, relative to the largest of them.
_ROUNDING = np.float32(1e-5)


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
def _contenders(a, b, c, d, out):
    """The classes, ascending, that can be best somewhere between four patches of scores; returns how many.

    An interpolated score lies between the lowest and the highest of its four. So the class whose lowest is highest
    beats every class whose highest is below that, wherever in the cell a pixel lies.
    """
    floor = np.float32(-np.inf)
    size = np.float32(0)
    for k in range(len(a)):
        floor = max(floor, min(min(a[k], b[k]), min(c[k], d[k])))
        size = max(size, max(max(abs(a[k]), abs(b[k])), max(abs(c[k]), abs(d[k]))))
    floor -= _ROUNDING * size
    count = 0
    for k in range(len(a)):
        if not max(max(a[k], b[k]), max(c[k], d[k])) < floor:  # written so that a NaN stays in
            out[count] = k
            count += 1
    return count


@kernel
def label_pixels(scores, pixel, height, width):
    """Labels u1 [P], and whether every pixel lies in the image.

    A cell's contenders, and their scores at its four patches, are gathered when the first pixel falls into it: the
    other pixels find all they need side by side.
    """
    h, w, n_classes = scores.shape
    rows, down_of = taps(height, h)
    columns, right_of = taps(width, w)
    labels = np.empty(pixel.shape[0], np.uint8)
    contenders = np.empty((h * w, n_classes), np.uint8)
    corners = np.empty((h * w, n_classes, 4), np.float32)
    count = np.zeros(h * w, np.int64)
    one = np.float32(1)
    for p in range(pixel.shape[0]):
        y, x = pixel[p, 0], pixel[p, 1]
        if y >= height or x >= width:
            return labels, False
        i, j = rows[y], columns[x]
        cell = i * w + j
        if count[cell] == 0:
            i1, j1 = min(i + 1, h - 1), min(j + 1, w - 1)
            a, b, c, d = scores[i, j], scores[i, j1], scores[i1, j], scores[i1, j1]
            count[cell] = _contenders(a, b, c, d, contenders[cell])
            for m in range(count[cell]):
                k = contenders[cell, m]
                corners[cell, m, 0], corners[cell, m, 1] = a[k], b[k]
                corners[cell, m, 2], corners[cell, m, 3] = c[k], d[k]
        best = 0
        if count[cell] > 1:
            down, right = down_of[y], right_of[x]
            up, left = one - down, one - right
            own = corners[cell]
            most = up * (left * own[0, 0] + right * own[0, 1]) + down * (left * own[0, 2] + right * own[0, 3])
            for m in range(1, count[cell]):
                mixed = up * (left * own[m, 0] + right * own[m, 1]) + down * (left * own[m, 2] + right * own[m, 3])
                best = m if mixed > most else best
                most = mixed if mixed > most else most
        labels[p] = contenders[cell, best]
    return labels, True


@kernel
def scores_at(scores, pixel, height, width):
    """Scores f4 [P, C], and whether every pixel lies in the image."""
    h, w, n_classes = scores.shape
    rows, down_of = taps(height, h)
    columns, right_of = taps(width, w)
    out = np.empty((pixel.shape[0], n_classes), np.float32)
    one = np.float32(1)
    for p in range(pixel.shape[0]):
        y, x = pixel[p, 0], pixel[p, 1]
        if y >= height or x >= width:
            return out, False
        i, j = rows[y], columns[x]
        i1, j1 = min(i + 1, h - 1), min(j + 1, w - 1)
        a, b, c, d = scores[i, j], scores[i, j1], scores[i1, j], scores[i1, j1]
        down, right = down_of[y], right_of[x]
        up, left = one - down, one - right
        for k in range(n_classes):
            out[p, k] = up * (left * a[k] + right * b[k]) + down * (left * c[k] + right * d[k])
    return out, True


@kernel
def score_patches(codes, scale, text):
    """codes i1 [P, d], scale f4 [P], text f4 [d, C] -> f4 [P, C] = scale · codes · text.

    Each sum runs over d in order, so its last bit depends on nothing else. Four patches and four channels at a time:
    the loop over classes, which becomes vectors, then has enough to do for each row of text that it reads.
    """
    n_patches, d = codes.shape
    n_classes = text.shape[1]
    sums = np.zeros((n_patches + 3, n_classes), np.float32)
    four = np.empty((4, d), np.float32)
    for p in range(0, n_patches, 4):
        for m in range(4):
            own = min(p + m, n_patches - 1)
            for k in range(d):
                four[m, k] = np.float32(codes[own, k])
        s0, s1, s2, s3 = sums[p], sums[p + 1], sums[p + 2], sums[p + 3]
        whole = d - d % 4
        for k in range(0, whole, 4):
            t0, t1, t2, t3 = text[k], text[k + 1], text[k + 2], text[k + 3]
            a0, a1, a2, a3 = four[0, k], four[0, k + 1], four[0, k + 2], four[0, k + 3]
            b0, b1, b2, b3 = four[1, k], four[1, k + 1], four[1, k + 2], four[1, k + 3]
            c0, c1, c2, c3 = four[2, k], four[2, k + 1], four[2, k + 2], four[2, k + 3]
            d0, d1, d2, d3 = four[3, k], four[3, k + 1], four[3, k + 2], four[3, k + 3]
            for c in range(n_classes):
                s0[c] = (((s0[c] + a0 * t0[c]) + a1 * t1[c]) + a2 * t2[c]) + a3 * t3[c]
                s1[c] = (((s1[c] + b0 * t0[c]) + b1 * t1[c]) + b2 * t2[c]) + b3 * t3[c]
                s2[c] = (((s2[c] + c0 * t0[c]) + c1 * t1[c]) + c2 * t2[c]) + c3 * t3[c]
                s3[c] = (((s3[c] + d0 * t0[c]) + d1 * t1[c]) + d2 * t2[c]) + d3 * t3[c]
        for k in range(whole, d):
            for c in range(n_classes):
                s0[c] += four[0, k] * text[k, c]
                s1[c] += four[1, k] * text[k, c]
                s2[c] += four[2, k] * text[k, c]
                s3[c] += four[3, k] * text[k, c]
    for p in range(n_patches):
        for c in range(n_classes):
            sums[p, c] *= scale[p]
    return sums[:n_patches]
