"""The kernels of sparse convolution on a CPU: products of rows that lie apart, added where they belong."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

MOST_COLUMNS = 256  # of a call of a kernel
# Rows of a buffer lie this far apart: a constant, so that the compiler knows that they don't overlap, and no power of
# two, so that they don't share the lines of the processor's cache.
_STRIDE = np.uint64(MOST_COLUMNS + 16)


def kernel(function: F) -> F:
    """The function compiled, in numba's cache beside its own file; sums of products may take the processor's fused
    multiply-add, which rounds once where two operations round twice."""
    compiled: Any = numba.njit(cache=True, fastmath={"contract"}, nogil=True, error_model="numpy")(function)
    return compiled


@kernel
def add_products(inputs, outputs, counts, x, weight, out, start, stop):
    """out[outputs[k, p]] += x[inputs[k, p]] @ weight[k], in columns start to stop, for p < counts[k] of every k.

    Four pairs and four input channels at a time, so that what is loaded is used four times.

    Args:
        inputs, outputs: [K, n] int32. counts: [K] int64.
        x: [·, I] float32. weight: [K, I, O] float32. out: [·, O] float32.
    """
    channels, width, columns = x.shape[1], np.uint64(weight.shape[2]), np.uint64(stop - start)
    sums = np.empty(4 * (MOST_COLUMNS + 16), np.float32)
    for k in range(len(counts)):
        w, n = weight[k].reshape(-1), counts[k]
        for p in range(0, n, 4):
            last = n - 1
            a = np.uint32(inputs[k, p])
            b = np.uint32(inputs[k, min(p + 1, last)])
            c = np.uint32(inputs[k, min(p + 2, last)])
            d = np.uint32(inputs[k, min(p + 3, last)])
            sums[:] = 0
            whole = channels // 4 * 4
            for i in range(0, whole, 4):
                a0, a1, a2, a3 = x[a, i], x[a, i + 1], x[a, i + 2], x[a, i + 3]
                b0, b1, b2, b3 = x[b, i], x[b, i + 1], x[b, i + 2], x[b, i + 3]
                c0, c1, c2, c3 = x[c, i], x[c, i + 1], x[c, i + 2], x[c, i + 3]
                d0, d1, d2, d3 = x[d, i], x[d, i + 1], x[d, i + 2], x[d, i + 3]
                r0 = np.uint64(i) * width + np.uint64(start)
                r1, r2, r3 = r0 + width, r0 + np.uint64(2) * width, r0 + np.uint64(3) * width
                for j in range(columns):
                    w0, w1, w2, w3 = w[r0 + j], w[r1 + j], w[r2 + j], w[r3 + j]
                    jb, jc, jd = j + _STRIDE, j + np.uint64(2) * _STRIDE, j + np.uint64(3) * _STRIDE
                    sums[j] = sums[j] + a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                    sums[jb] = sums[jb] + b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
                    sums[jc] = sums[jc] + c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
                    sums[jd] = sums[jd] + d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3
            for i in range(whole, channels):
                r0 = np.uint64(i) * width + np.uint64(start)
                for j in range(columns):
                    w0 = w[r0 + j]
                    jb, jc, jd = j + _STRIDE, j + np.uint64(2) * _STRIDE, j + np.uint64(3) * _STRIDE
                    sums[j] += x[a, i] * w0
                    sums[jb] += x[b, i] * w0
                    sums[jc] += x[c, i] * w0
                    sums[jd] += x[d, i] * w0
            for q in range(min(4, n - p)):
                row, base = np.uint32(outputs[k, p + q]), np.uint64(q) * _STRIDE
                for j in range(columns):
                    out[row, np.uint64(start) + j] += sums[base + j]


@kernel
def add_outer_products(inputs, outputs, counts, x, y, out, start, stop):
    """out[k] += Σ over p < counts[k] of the outer product of x[inputs[k, p]] and y[outputs[k, p]], in columns start to
    stop: the weights' gradient. Shapes as of `add_products`; y is [·, O] and out [K, I, O]."""
    channels, columns = x.shape[1], np.uint64(stop - start)
    rows = np.empty(4 * (MOST_COLUMNS + 16), np.float32)
    total = np.empty(channels * (MOST_COLUMNS + 16), np.float32)
    for k in range(len(counts)):
        n = counts[k]
        total[:] = 0
        for p in range(0, n, 4):
            last = n - 1
            for q in range(4):
                row, base = np.uint32(outputs[k, min(p + q, last)]), np.uint64(q) * _STRIDE
                weight = np.float32(p + q <= last)
                for j in range(columns):
                    rows[base + j] = weight * y[row, np.uint64(start) + j]
            a = np.uint32(inputs[k, p])
            b = np.uint32(inputs[k, min(p + 1, last)])
            c = np.uint32(inputs[k, min(p + 2, last)])
            d = np.uint32(inputs[k, min(p + 3, last)])
            whole = channels // 2 * 2
            for i in range(0, whole, 2):
                a0, b0, c0, d0 = x[a, i], x[b, i], x[c, i], x[d, i]
                a1, b1, c1, d1 = x[a, i + 1], x[b, i + 1], x[c, i + 1], x[d, i + 1]
                r0 = np.uint64(i) * _STRIDE
                r1 = r0 + _STRIDE
                for j in range(columns):
                    ya, yb = rows[j], rows[j + _STRIDE]
                    yc, yd = rows[j + np.uint64(2) * _STRIDE], rows[j + np.uint64(3) * _STRIDE]
                    total[r0 + j] = total[r0 + j] + a0 * ya + b0 * yb + c0 * yc + d0 * yd
                    total[r1 + j] = total[r1 + j] + a1 * ya + b1 * yb + c1 * yc + d1 * yd
            for i in range(whole, channels):
                r0 = np.uint64(i) * _STRIDE
                for j in range(columns):
                    ya, yb = rows[j], rows[j + _STRIDE]
                    yc, yd = rows[j + np.uint64(2) * _STRIDE], rows[j + np.uint64(3) * _STRIDE]
                    total[r0 + j] += x[a, i] * ya + x[b, i] * yb + x[c, i] * yc + x[d, i] * yd
        for i in range(channels):
            for j in range(columns):
                out[k, i, np.uint64(start) + j] += total[np.uint64(i) * _STRIDE + j]
