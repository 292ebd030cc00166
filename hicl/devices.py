"""Where PyTorch computes, and by which library."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from hicl.errors import HiclError


def computes_bf16(device: str) -> bool:
    """Whether it is a GPU with units for bfloat16; older ones emulate it, slower than float32."""
    import torch

    return device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)


def checked_device(device: str) -> str:
    """`cpu` or `cuda` for --device auto, cpu or cuda. Raises `HiclError` for another, or where there is no GPU."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise HiclError(f"--device {device}: unknown; known are auto, cpu, cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise HiclError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return "cuda" if cuda and device != "cpu" else "cpu"


@functools.cache
def products_by_onednn() -> bool:
    """Whether oneDNN multiplies float32 matrices on this CPU faster than what PyTorch chooses, and as exactly.

    It chooses Intel's MKL, which on AMD's processors leaves AVX-512 idle: 111 GFLOP/s of one core of an EPYC of the
    fifth generation, of which oneDNN reaches 257. (The fourth generation computes 512 bits in two halves, and reaches
    about 100 either way.) The way there is the precision "medium", which allows bfloat16 inside a product; oneDNN takes
    that up with AMX alone, and rounds as float32 does on these, which don't have it. Where there is a GPU, whose
    products "medium" would round, the answer is no.
    """
    import torch
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    has, name = get_host_cpu_features(), get_host_cpu_name()
    wide = has.get("avx512f", False) and not has.get("amx-tile", False)
    zen = int(name.removeprefix("znver")) if name.startswith("znver") else 0
    return wide and zen >= 5 and not torch.cuda.is_available()


@dataclass
class _Regions:
    """How many `fastest_products` are open: the precision is the process's, and threads open theirs side by side."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    outside: str = ""


_regions = _Regions()


@contextlib.contextmanager
def fastest_products() -> Iterator[None]:
    """Have PyTorch's float32 products inside computed by oneDNN, if `products_by_onednn`.

    For matrices of few different sizes: oneDNN makes a program for each, and keeps a thousand of them, a megabyte each.
    """
    import torch

    if not products_by_onednn():
        yield
        return
    with _regions.lock:
        if not _regions.count:
            _regions.outside = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("medium")
        _regions.count += 1
    try:
        yield
    finally:
        with _regions.lock:
            _regions.count -= 1
            if not _regions.count:
                torch.set_float32_matmul_precision(_regions.outside)
