"""The kernels of sparse convolution on a CPU: which voxels are neighbours, and products of rows that lie apart."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_features

from hicl.train.tiles import COLUMNS, outer_tile, product_tile

F = TypeVar("F", bound=Callable[..., Any])

_BYTES = 4  # of a float32
# AVX2 has registers for the sums of 6 rows and a tile, and fewer for those of a gradient, whose rows are loaded beside
# them. AVX-512 has four times as many: there two tiles are taken at once, and a value that is loaded is used twice.
_TILES, _OUTER_ROWS = (2, 8) if get_host_cpu_features().get("avx512f") else (1, 4)
_product_of_6, _wide_product_of_6 = product_tile(6), product_tile(6, _TILES)
_outer_of_1, _outer_of_many, _wide_outer_of_many = (
    outer_tile(1),
    outer_tile(_OUTER_ROWS),
    outer_tile(_OUTER_ROWS, _TILES),
)
_PART = 512  # rows
_IN_REACH = 6144  # floats that the rows of a tile's pairs may take, to stay in the first cache


def kernel(function: F) -> F:
    """The function compiled, in numba's cache beside its own file."""
    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


@kernel
def add_products(inputs, outputs, counts, x, weight, out, start, stop):
    """out[outputs[k, p]] += x[inputs[k, p]] @ weight[k], for p < counts[k] of every k, in tiles start to stop of 16
    columns.

    A part of every offset's pairs after the other: where voxels lie in the order of their places, and so their pairs,
    the rows of a part stay in the second cache for all offsets and tiles.

    Args:
        inputs, outputs: [K, n] int32; outputs[k] has no row twice. counts: [K] int64.
        x: [·, I] float32. weight: [K, T, I, 16] float32, by tiles. out: [·, 16 T] float32. All contiguous.
    """
    channels, x_bytes, out_bytes = x.shape[1], x.shape[1] * _BYTES, out.shape[1] * _BYTES
    nowhere = np.empty(_TILES * COLUMNS, np.float32)
    parts = len(out) // _PART + 1
    for part, k in np.ndindex(parts, len(counts)):
        begin, last = counts[k] * part // parts, counts[k] * (part + 1) // parts - 1
        for tile in range(start, stop, _TILES):
            of_tile = weight.ctypes.data + (k * weight.shape[1] + tile) * channels * COLUMNS * _BYTES
            first_x, first_out = x.ctypes.data, out.ctypes.data + tile * COLUMNS * _BYTES
            for p in range(begin, last + 1, 6):
                b, c, d, e, f = min(p + 1, last), min(p + 2, last), min(p + 3, last), min(p + 4, last), min(p + 5, last)
                rows = (
                    first_x + inputs[k, p] * x_bytes,
                    first_x + inputs[k, b] * x_bytes,
                    first_x + inputs[k, c] * x_bytes,
                    first_x + inputs[k, d] * x_bytes,
                    first_x + inputs[k, e] * x_bytes,
                    first_x + inputs[k, f] * x_bytes,
                )
                sums = (
                    first_out + outputs[k, p] * out_bytes,
                    first_out + outputs[k, b] * out_bytes if p + 1 <= last else nowhere.ctypes.data,
                    first_out + outputs[k, c] * out_bytes if p + 2 <= last else nowhere.ctypes.data,
                    first_out + outputs[k, d] * out_bytes if p + 3 <= last else nowhere.ctypes.data,
                    first_out + outputs[k, e] * out_bytes if p + 4 <= last else nowhere.ctypes.data,
                    first_out + outputs[k, f] * out_bytes if p + 5 <= last else nowhere.ctypes.data,
                )
                if tile + _TILES <= stop:
                    _wide_product_of_6(rows, channels, of_tile, sums)
                else:
                    _product_of_6(rows, channels, of_tile, sums)


@kernel
def add_outer_products(inputs, outputs, counts, x, y, out, start, stop):
    """out[k] += Σ over p < counts[k] of the outer product of x[inputs[k, p]] and y[outputs[k, p]], in tiles start to
    stop: the weights' gradient. Shapes as of `add_products`; y is [·, 16 T] and out [K, I, 16 T]."""
    channels, width = x.shape[1], y.shape[1]
    x_bytes, y_bytes = channels * _BYTES, width * _BYTES
    at_once = max(16, _IN_REACH // (channels + COLUMNS * (stop - start)))
    parts = len(y) // _PART + 1
    for part, k in np.ndindex(parts, len(counts)):
        begin, end = counts[k] * part // parts, counts[k] * (part + 1) // parts
        for p in range(begin, end, at_once):
            n, skipped = min(at_once, end - p), (k * inputs.shape[1] + p) * _BYTES
            x_rows, y_rows = inputs.ctypes.data + skipped, outputs.ctypes.data + skipped
            for tile in range(start, stop, _TILES):
                column = tile * COLUMNS * _BYTES
                to, from_y = out.ctypes.data + k * channels * y_bytes + column, y.ctypes.data + column
                whole = channels // _OUTER_ROWS * _OUTER_ROWS
                for i in range(0, whole, _OUTER_ROWS):
                    from_x, row = x.ctypes.data + i * _BYTES, to + i * y_bytes
                    if tile + _TILES <= stop:
                        _wide_outer_of_many(from_x, x_rows, x_bytes, from_y, y_rows, y_bytes, n, row, y_bytes)
                    else:
                        _outer_of_many(from_x, x_rows, x_bytes, from_y, y_rows, y_bytes, n, row, y_bytes)
                for i in range(whole, channels):
                    from_x = x.ctypes.data + i * _BYTES
                    for beside in range(0, min(_TILES, stop - tile) * COLUMNS * _BYTES, COLUMNS * _BYTES):
                        row = to + i * y_bytes + beside
                        _outer_of_1(from_x, x_rows, x_bytes, from_y + beside, y_rows, y_bytes, n, row, y_bytes)


@kernel
def find_neighbours(keys, order, steps, inputs, outputs):
    """The pairs of a convolution of 3x3x3: voxels whose keys differ by the step of an offset.

    As keys ascend, so do their partners: each offset is one walk through two sorted lists, and each pair serves the
    opposite offset, turned round.

    Args:
        keys: [V] int64, ascending. order: [V] int32, the row of each. steps: [13] int64, key of an offset's input less
            that of its output, for the first 13 of 27.
        inputs, outputs: [27, V] int32, filled as of `add_products`.

    Returns:
        counts [27] int64; in the middle each voxel meets itself.
    """
    counts, n = np.zeros(27, np.int64), len(keys)
    for k in range(13):
        found, other = 0, 0
        for i in range(n):
            wanted = keys[i] + steps[k]  # before keys[i]
            while keys[other] < wanted:
                other += 1
            if keys[other] == wanted:
                inputs[k, found] = outputs[26 - k, found] = order[other]
                outputs[k, found] = inputs[26 - k, found] = order[i]
                found += 1
        counts[k] = counts[26 - k] = found
    for i in range(n):  # assigned as a whole, rows would compile an error's message of their shapes, as much again
        inputs[13, i] = outputs[13, i] = order[i]
    counts[13] = n
    return counts


@kernel
def find_children(keys, order, coords, inputs, outputs):
    """The pairs of a convolution of 2x2x2 by steps of 2, whose outputs are cells of 2x2x2 voxels.

    Args:
        keys: [V] int64, ascending: of the voxels' cells. order: [V] int32, the row of each.
        coords: [V, 4] int32, the voxels.
        inputs, outputs: [8, V] int32, filled as of `add_products`.

    Returns:
        counts [8] int64, and firsts [cells] int32: a voxel of each cell.
    """
    counts, firsts, cells = np.zeros(8, np.int64), np.empty(len(keys), np.int32), 0
    for i in range(len(keys)):
        row = order[i]
        if i == 0 or keys[i] != keys[i - 1]:
            firsts[cells] = row
            cells += 1
        k = (coords[row, 1] & 1) * 4 + (coords[row, 2] & 1) * 2 + (coords[row, 3] & 1)
        inputs[k, counts[k]], outputs[k, counts[k]] = row, cells - 1
        counts[k] += 1
    return counts, firsts[:cells]


def warm_up() -> None:
    """Compile the kernels, as `kernels.warm_up`."""
    keys, row, pairs = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros((2, 27, 1), np.int32)
    inputs, outputs = pairs
    find_neighbours(keys, row, np.zeros(13, np.int64), inputs, outputs)
    find_children(keys, row, np.zeros((1, 4), np.int32), inputs, outputs)
    x, y = np.zeros((1, 1), np.float32), np.zeros((1, COLUMNS), np.float32)
    add_products(inputs, outputs, keys, x, y[None, None].copy(), y.copy(), 0, 1)
    add_outer_products(inputs, outputs, keys, x, y, y[None].copy(), 0, 1)
