"""The teacher's patch features in 8 bits, and class scores straight from them."""

import numpy as np

from hicl.pipeline.kernels import sample as kernels


def quantise(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float [..., d] -> codes int8 [..., d] and scale float32 [...]; scale · codes is the grid but for rounding.

    A patch's largest component becomes 127. Half the bytes of float16: see `tests/benchmarks/bench_bytes.py` for the
    labels that this changes.
    """
    largest = np.abs(grid).max(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(largest[..., None] > 0, np.rint(grid * (127 / largest[..., None])), 0)
    return codes.astype(np.int8), (largest / 127).astype(np.float32)


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
