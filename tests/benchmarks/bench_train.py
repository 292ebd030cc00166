"""Speed of the trainer on made-up rooms: what a step costs, and whether the processor that trains ever waits for data.

    python tests/benchmarks/bench_train.py                     rooms of ScanNet's size, --preset scannet
    python tests/benchmarks/bench_train.py --preset miniature  rooms of the miniature's size
    python tests/benchmarks/bench_train.py --vs-spconv         on a CPU, every step as PyTorch and spconv do it as well

ScanNet's 120 epochs are 144,000 scene visits; half an hour for them is 80 scenes/s. The last line says what share of
that was reached here, and the lines above what holds it back.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from synthetic_rooms import make_cache

from hicl.cache.opening import open_cache
from hicl.train import distributed, layers, minkunet, order, stream
from hicl.train.config import load
from hicl.train.kernels import label_histogram, voxelise, warm_up
from hicl.train.learner import Learner
from hicl.train.objectives import Inputs, correlation
from hicl.train.taught import Needs

TARGET = 80  # scenes/s
# Points, views, size and furniture of a room, and width of the teacher.
ROOMS = {
    "scannet": dict(n_points=150_000, n_views=30, size=4.5, boxes=14, width=512),
    "miniature": dict(n_points=26_000, n_views=24, size=4.0, boxes=12, width=64),
}

# What a step did before, by the attribute that does it now: spconv's Native algorithm on voxels as they come; the
# features of all voxels, from which scores and tokens were taken; in the heads, the library for products and the
# attention that PyTorch chooses. Beside these, `_compare` leaves the optimisers' steps to PyTorch as well, and has the
# collector walk through what imports left.
CONVOLUTIONS = {
    (layers, "convolve"): lambda layer, x: layer(x),
    (minkunet, "in_order"): lambda *x: (*x, None),
}
REST = {
    (Inputs, "scores"): property(lambda inputs: inputs.features @ inputs.text.T),
    (Inputs, "features_of"): lambda inputs, rows: inputs.features[rows],
    (correlation, "products_by_onednn"): lambda: False,
    (layers, "products_by_onednn"): lambda: False,
}


def timed(function, repeat: int) -> float:
    """Milliseconds a call, the best of `repeat`."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=ROOMS, default="scannet")
    parser.add_argument("--steps", type=int, default=0, help="measured steps; default 4 on a CPU, 100 on a GPU")
    parser.add_argument("--rooms", type=int, default=16)
    parser.add_argument("--batch", type=int, default=0, help="default: the preset's; 2 for scannet on a CPU")
    parser.add_argument("--workers", type=int, default=-1, help="default: all cores but one")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--vs-spconv", action="store_true", help="only compare the CPU's step with the former")
    parser.add_argument("--set", action="append", default=[], help="key=json value")
    args = parser.parse_args()

    group = distributed.start(args.device)
    gpu = group.device.type == "cuda"
    steps = args.steps or (100 if gpu else 4)
    workers = args.workers if args.workers >= 0 else max(1, min(14, len(os.sched_getaffinity(0)) - 1))
    overrides = {"experiment": "V", "stream.workers": workers, "schedule.absolute": True}
    overrides |= {"schedule.attention_epoch": 0.0, "schedule.feedback_epoch": 0.0}
    overrides |= {key: json.loads(value) for key, value in (s.split("=", 1) for s in args.set)}
    batch = args.batch or (2 if args.preset == "scannet" and not gpu else 0)
    config = load(args.preset, None, overrides | ({"schedule.batch": batch} if batch else {}))
    if args.threads or config.threads:
        torch.set_num_threads(args.threads or config.threads)
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores,"
          f" torch {torch.__version__} {torch.cuda.get_device_name() if gpu else 'CPU'},"
          f" {torch.get_num_threads()} threads, {workers} workers, preset {args.preset}")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        path = make_cache(Path(folder) / "cache", train=args.rooms, val=0, **ROOMS[args.preset])
        cache = open_cache(path)
        source = stream.make_source(cache, Needs("refined"), config.heads, 0, config.reading)
        warm_up()
        _bench_scene(cache, source, config)
        plan = [step for epoch in range(10_000) for step in _plan(source, config, epoch)][: steps + 3]
        learner = Learner(config, torch.from_numpy(cache.text.copy()), group)
        if args.vs_spconv:
            _compare(learner, stream.make_batch(cache, source, *plan[0]), steps)
        else:
            _bench_steps(learner, source, plan, gpu)


def _plan(source, config, epoch):
    return [(epoch, scenes) for scenes in order.epoch_order(len(source.scenes), config.schedule.batch, 0, epoch)]


def _bench_scene(cache, source, config) -> None:
    scene = cache.scene(source.scenes[0])
    names = ("points/xyz", "pairs/indptr", "pairs/point", "pairs/refined")
    xyz, indptr, point, label = (scene.read(name) for name in names)
    coords, _, voxel_of_point = voxelise(xyz, config.stream.voxel_size)
    print(f"a room: {len(xyz)} points, {len(coords)} voxels of {100 * config.stream.voxel_size:.0f} cm,"
          f" {len(indptr) - 1} views, {len(point)} pairs")  # fmt: skip
    read = timed(lambda: [cache.scene(source.scenes[0]).read(name) for name in names], 5)
    print(f"  open and map arrays  {read:8.2f} ms")
    print(f"  voxelise             {timed(lambda: voxelise(xyz, config.stream.voxel_size), 5):8.2f} ms")
    for views in (2, 8):
        arguments = indptr, np.arange(views), point, label, voxel_of_point, len(coords), len(cache.classes)
        print(f"  histogram, {views} views   {timed(lambda a=arguments: label_histogram(*a), 5):8.2f} ms")
    ms = timed(lambda: stream.make_batch(cache, source, 0, [0]), 5)
    print(f"  whole sample         {ms:8.2f} ms, so {1000 / ms:.0f} scenes/s and worker")


def _compare(learner, batch, steps) -> None:
    """The same batch as we compute it and as it was done before, in turn, from the same weights."""
    begin = {name: tensor.clone() for name, tensor in learner.modules["net"].state_dict().items()}
    ways = {"ours": {}, "our convolutions alone": REST, "before": CONVOLUTIONS | REST}
    times, losses = {name: [] for name in ways}, {}
    for _ in range(steps):
        for name, former in ways.items():
            with contextlib.ExitStack() as stack:
                for (owner, attribute), value in former.items():
                    stack.enter_context(mock.patch.object(owner, attribute, value))
                for optimiser in (learner.sgd, learner.adamw):
                    for group in optimiser.param_groups:
                        group["fused"] = None if former else True
                gc.unfreeze() if former else gc.freeze()
                for _ in range(2):  # the first finds memory and caches as another way left them, and isn't counted
                    learner.modules["net"].load_state_dict(begin)
                    start = time.process_time()
                    losses.setdefault(name, learner.step(batch))
                    took = time.process_time() - start
                times[name].append(took)
    first = [each["ce"] for each in losses.values()]
    if np.ptp(first) > 1e-5 * abs(first[0]):
        raise SystemExit(f"the ways disagree in the first step's L_ce: {first}")
    print(f"the first step's L_ce is {first[0]:.6f} in each way")
    before = np.array(times["before"])
    print(f"a step of {sum(batch.voxels)} voxels, processor time, least, and median ratio to before:")
    for name, values in times.items():
        values = np.array(values)
        print(f"  {name:22}  {1000 * values.min():6.0f} ms  {np.median(values / before):.2f}")


class Steps(NamedTuple):
    """What some steps took: milliseconds of the median one, scenes and points a second, the share of the time spent
    waiting for data, scenes and voxels of a step, and microseconds a voxel."""

    ms: float
    rate: float
    points: float
    waiting: float
    scenes: float
    voxels: float
    per_voxel: float


def run_steps(learner, source, plan, gpu) -> Steps:
    """Train the steps of a plan, the first three of which aren't counted: workers start in them, and spconv tunes."""
    waits, works, scenes, points, voxels = [], [], 0, 0, 0
    batches = stream.batches(source, plan, pin=gpu)
    for i in range(len(plan)):
        start = time.perf_counter()
        batch = next(batches)
        got = time.perf_counter()
        learner.step(batch)
        if gpu:
            torch.cuda.synchronize()
        end = time.perf_counter()
        if i >= 3:
            waits.append(got - start), works.append(end - got)
            scenes, points, voxels = scenes + len(batch.scenes), points + batch.points, voxels + sum(batch.voxels)
    total, steps = sum(waits) + sum(works), len(works)
    return Steps(
        ms=1000 * float(np.median(works)),
        rate=scenes / total,
        points=points / total,
        waiting=sum(waits) / total,
        scenes=scenes / steps,
        voxels=voxels / steps,
        per_voxel=1e6 * sum(works) / voxels,
    )


def _bench_steps(learner, source, plan, gpu) -> None:
    took = run_steps(learner, source, plan, gpu)
    print(f"a step of {took.scenes:.0f} scenes, {took.voxels:.0f} voxels, experiment V with all losses:"
          f" {took.ms:.0f} ms (median), {took.per_voxel:.1f} µs a voxel")  # fmt: skip
    print(f"  {took.rate / took.scenes:.2f} steps/s, {took.points:.0f} points/s,"
          f" {100 * took.waiting:.1f} % of the time waiting for data")  # fmt: skip
    if gpu:
        print(f"  {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory")
    print(f"  {took.rate:.2f} scenes/s of {TARGET} wanted for ScanNet in half an hour:"
          f" {100 * took.rate / TARGET:.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
