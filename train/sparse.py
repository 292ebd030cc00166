"""Sparse convolution on a CPU: what spconv's Native algorithm computes, from its pairs and its weights.

Native gathers the rows of an offset, multiplies them and scatters the products, each through memory. Here four pairs
at a time are multiplied where they lie, and added where they belong.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hicl.train.products import MOST_COLUMNS, add_outer_products, add_products

# Multiplications that are worth a thread, and the fewest columns that one takes.
_WORTH_A_THREAD, _FEWEST_COLUMNS = 1 << 24, 16


@dataclass(frozen=True)
class Pairs:
    """Which rows of a convolution's input reach which rows of its output.

    inputs, outputs: [K, ≥ count] int32, rows of each of K offsets, each at most once. counts: [K] int64, how many of
    them count. rows: number of the output's. center: the offset at which every row reaches itself, whose count is 0.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    counts: np.ndarray
    rows: int
    center: int | None = None


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
        weight_KIO = weight.flatten(1, -2).permute(1, 2, 0).contiguous()
        if pairs.center is None:
            out = x.new_zeros(pairs.rows, weight.shape[0])
        else:
            out = x @ weight_KIO[pairs.center]
        _by_columns(add_products, pairs.inputs, pairs.outputs, pairs.counts, x, weight_KIO, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        pairs, gradient = ctx.pairs, gradient.contiguous()
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            weight_KOI = weight.flatten(1, -2).transpose(0, 1).contiguous()
            to_x = torch.zeros_like(x) if pairs.center is None else gradient @ weight_KOI[pairs.center]
            _by_columns(add_products, pairs.outputs, pairs.inputs, pairs.counts, gradient, weight_KOI, to_x)
        if ctx.needs_input_grad[1]:
            to_weight = x.new_zeros(len(pairs.counts), x.shape[1], gradient.shape[1])
            if pairs.center is not None:
                torch.mm(x.T, gradient, out=to_weight[pairs.center])
            _by_columns(add_outer_products, pairs.inputs, pairs.outputs, pairs.counts, x, gradient, to_weight)
            to_weight = to_weight.permute(2, 0, 1).reshape(weight.shape)
        return to_x, to_weight, None


def _by_columns(
    kernel: Callable[..., None], first: np.ndarray, second: np.ndarray, counts: np.ndarray, *tensors: torch.Tensor
) -> None:
    """Run a kernel for all columns of the last tensor, on as many threads as PyTorch may use and the work is worth."""
    *_, out = arrays = [tensor.detach().numpy() for tensor in tensors]
    width = out.shape[-1]
    work = int(counts.sum()) * tensors[0].shape[1] * width
    parts = min(torch.get_num_threads(), 1 + work // _WORTH_A_THREAD, -(-width // _FEWEST_COLUMNS))
    size = min(-(-width // (parts * _FEWEST_COLUMNS)) * _FEWEST_COLUMNS, MOST_COLUMNS)
    run = partial(kernel, first, second, counts, *arrays)
    starts = range(0, width, size)
    if parts == 1:
        for start in starts:
            run(start, min(start + size, width))
    else:
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(lambda start: run(start, min(start + size, width)), starts))
