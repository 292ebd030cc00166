"""The table that `bench_stages.py` prints: a stage's clock, its peers', and the machine's own limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hicl.devices import fastest_products


@dataclass
class Stage:
    """name, what it is timed on, ours, peers by name with the factor that scales their time to the same work, and the
    limit: what it is, and milliseconds. before: what is done before each run, off the clock."""

    name: str
    on: str
    ours: Callable
    peers: dict[str, tuple[Callable, float]]
    limit: tuple[str, float]
    before: Callable = lambda: None


def best_ms(
    function: Callable, runs: int, before: Callable = lambda: None, clock: Callable = time.perf_counter
) -> float:
    """The fastest of some runs after a first one: whatever else the machine does only ever adds."""
    function()
    times = []
    for _ in range(runs):
        before()
        start = clock()
        function()
        times.append(clock() - start)
    return 1000 * min(times)


class Machine:
    """What one core does: bytes read and written a millisecond, and multiplications and additions a millisecond."""

    def __init__(self):
        source, target = np.ones(1 << 25, np.float32), np.empty(1 << 25, np.float32)
        self._bytes = 2 * source.nbytes / best_ms(lambda: np.copyto(target, source), 5)
        a = np.ones((1024, 1024), np.float32)
        b = torch.from_numpy(a)
        torch.set_num_threads(1)
        with fastest_products():
            self._flops = 2 * 1024**3 / min(best_ms(lambda: a @ a, 5), best_ms(lambda: b @ b, 5))

    def moving(self, *arrays: np.ndarray) -> tuple[str, float]:
        n_bytes = sum(a.nbytes for a in arrays)
        return f"{n_bytes / 1e6:.1f} MB of memory", n_bytes / self._bytes

    def multiplying(self, flops: float) -> tuple[str, float]:
        return f"{flops / 1e9:.2f} GFLOP", flops / self._flops

    def __str__(self) -> str:
        return f"one core: {self._bytes / 1e6:.1f} GB/s copied, {self._flops / 1e6:.0f} GFLOP/s in fp32 matrix products"


HEAD = f"{'stage':<24}{'ms':>8}  {'instead':<18}{'ms':>10}{'times':>7}  {'limit':<22}{'ms':>8}{'reached':>9}  on"


def print_stage(stage: Stage, runs: int) -> float:
    """A line for each peer. Returns milliseconds of ours."""
    ms = best_ms(stage.ours, runs, stage.before)
    what, least = stage.limit
    tail = f"  {what:<22}{least:>8.2f}{least / ms:>8.0%}  {stage.on}"
    head = f"{stage.name:<24}{ms:>8.2f}"
    for peer, (function, factor) in stage.peers.items():
        slow = factor * best_ms(function, min(runs, 5), stage.before)
        print(f"{head}  {peer:<18}{slow:>10.1f}{slow / ms:>7.1f}{tail}", flush=True)
        head, tail = " " * 32, ""
    return ms
