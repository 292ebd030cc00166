"""Sparse convolution on a CPU: what spconv's Native algorithm computes, from its weights.

Native gathers the rows of an offset, multiplies them and scatters the products, each through memory. Here six pairs at
a time are multiplied where they lie, and added where they belong.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from hicl.train.products import add_outer_products, add_products, find_children, find_neighbours
from hicl.train.tiles import COLUMNS

# Multiplications that are worth a thread.
_WORTH_A_THREAD = 1 << 24


@dataclass(frozen=True)
class Pairs:
    """Which rows of a convolution's input reach which rows of its output.

    inputs, outputs: [K, ≥ count] int32, rows of each of K offsets, each at most once. counts: [K] int64, how many of
    them count. rows: number of the output's.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    counts: np.ndarray
    rows: int

    def turned(self, rows: int) -> "Pairs":
        """The same from the output's rows to the input's, of which there are `rows`."""
        return Pairs(self.outputs, self.inputs, self.counts, rows)

    def only(self, rows: slice) -> "Pairs":
        """Those that reach some of the output's rows, which are counted from the first of them."""
        near = [
            np.flatnonzero((reached[:count] >= rows.start) & (reached[:count] < rows.stop))
            for reached, count in zip(self.outputs, self.counts, strict=True)
        ]
        counts = np.array([len(chosen) for chosen in near], np.int64)
        inputs, outputs = np.zeros((2, len(counts), counts.max()), np.int32)
        for k, chosen in enumerate(near):
            inputs[k, : len(chosen)], outputs[k, : len(chosen)] = (
                self.inputs[k, chosen],
                self.outputs[k, chosen] - rows.start,
            )
        return Pairs(inputs, outputs, counts, rows.stop - rows.start)


def own_pairs(rows: int) -> Pairs:
    """Those of a 1x1x1 convolution: each voxel with itself."""
    row = np.arange(rows, dtype=np.int32)[None]
    return Pairs(row, row, np.array([rows]), rows)


def same_pairs(coords: np.ndarray) -> Pairs:
    """The pairs of a 3x3x3 convolution that keeps the voxels [V, 4] int32: scene, then x, y, z ≥ 0, each once."""
    extent = coords.max(axis=0) + 3  # with a cell before and one behind, so that rows' ends don't meet
    keys, order = _sorted_keys(coords + np.array([0, 1, 1, 1], np.int32), extent)
    offsets = np.stack(np.meshgrid(*3 * [[-1, 0, 1]], indexing="ij"), axis=-1).reshape(-1, 3)[:13]
    steps = (offsets[:, 0] * np.int64(extent[2]) + offsets[:, 1]) * extent[3] + offsets[:, 2]
    inputs, outputs = np.empty((2, 27, len(coords)), np.int32)
    counts = find_neighbours(keys, order, steps, inputs, outputs)
    return Pairs(inputs, outputs, counts, len(coords))


def halved_pairs(coords: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """The pairs of a 2x2x2 convolution by steps of 2, and its output's voxels [cells, 4] int32, in order of x, y, z."""
    cells = coords >> np.array([0, 1, 1, 1], np.int32)
    keys, order = _sorted_keys(cells, cells.max(axis=0) + 1)
    inputs, outputs = np.empty((2, 8, len(coords)), np.int32)
    counts, firsts = find_children(keys, order, coords, inputs, outputs)
    return Pairs(inputs, outputs, counts, len(firsts)), cells[firsts]


def _sorted_keys(cells: np.ndarray, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number [V] int64 for each cell [V, 4] below an extent [4], ascending, and the row int32 of each."""
    keys = places(cells, extent)
    order = keys.argsort(kind="stable")
    return keys[order], order.astype(np.int32)


def places(cells: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """A number [V] int64 for each cell [V, D] below an extent [D], ascending by its first column, then its second, …"""
    place = np.zeros(len(cells), np.int64)
    for column, length in zip(cells.T, extent.tolist(), strict=True):
        place = place * length + column
    return place


def convolve(x: torch.Tensor, weight: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Each output row: the sum over its pairs of the input row times the weight of the pair's offset.

    Args:
        x: [n, I] float32.
        weight: [O, …, I] float32, the K offsets in between, as spconv keeps it.

    Returns:
        [pairs.rows, O] float32, differentiable in both; the same bits on any number of threads.
    """
    return _Convolution.apply(x, weight, pairs)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        return _products(x, weight.flatten(1, -2).transpose(0, 1), pairs)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        pairs, gradient = ctx.pairs, gradient.contiguous()
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _products(gradient, weight.flatten(1, -2).permute(1, 2, 0), pairs.turned(len(x)))
        if ctx.needs_input_grad[1]:
            to_weight = _outer_products(x, gradient, pairs).permute(2, 0, 1).reshape(weight.shape)
        return to_x, to_weight, None


def _products(x: torch.Tensor, weight_KOI: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """[pairs.rows, O]: each pair's row of x [n, I] times its offset's weights, added to the row of its output."""
    offsets, width, channels = weight_KOI.shape
    missing = -width % COLUMNS
    padded_KOI = F.pad(weight_KOI, (0, 0, 0, missing)) if missing else weight_KOI
    tiles_KTIC = padded_KOI.reshape(offsets, -1, COLUMNS, channels).transpose(2, 3).contiguous()
    out = x.new_zeros(pairs.rows, width + missing)
    _by_tiles(add_products, pairs, x, tiles_KTIC, out)
    return out[:, :width].contiguous() if missing else out


def _outer_products(x: torch.Tensor, y: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """[K, I, O]: the sum over an offset's pairs of the outer product of the rows of x and y."""
    width = y.shape[1]
    missing = -width % COLUMNS
    y = F.pad(y, (0, missing)) if missing else y
    out_KIO = x.new_zeros(len(pairs.counts), x.shape[1], width + missing)
    _by_tiles(add_outer_products, pairs, x, y, out_KIO)
    return out_KIO[..., :width]


def _by_tiles(kernel: Callable[..., None], pairs: Pairs, *tensors: torch.Tensor) -> None:
    """Run a kernel for all columns of the last tensor, on as many threads as PyTorch may use and the work is worth."""
    *_, out = arrays = [tensor.detach().numpy() for tensor in tensors]
    tiles = out.shape[-1] // COLUMNS
    work = int(pairs.counts.sum()) * tensors[0].shape[1] * out.shape[-1]
    parts = min(torch.get_num_threads(), 1 + work // _WORTH_A_THREAD, tiles)
    run = partial(kernel, pairs.inputs, pairs.outputs, pairs.counts, *arrays)
    if parts == 1:
        run(0, tiles)
    else:
        ends = [tiles * part // parts for part in range(parts + 1)]
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(run, ends, ends[1:]))
