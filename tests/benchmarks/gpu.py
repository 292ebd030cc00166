"""All that a GPU has to show, in one run of eight minutes: that it computes what the CPU computes, then how fast.

    python tests/benchmarks/gpu.py              on a GPU, at ScanNet's size
    python tests/benchmarks/gpu.py --small      on whatever there is, to see that it runs to its end

First the CPU's answers are asked for: of both networks and their gradients, of the heads and the losses, and of the
teacher; where the device's differ by more than its arithmetic explains, nothing is timed. Then a training step at
ScanNet's size in float32, with TF32 in the convolutions, and with bfloat16 in the dense layers as well: scenes a
second, the share of the time that it waits for data, memory. Then the teacher's images a second, and what all of
ScanNet takes.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
import bench_teacher
from bench_train import ROOMS, run_steps
from rooms import scannet_sized
from synthetic_rooms import make_cache

from hicl.cache.opening import open_cache
from hicl.devices import checked_device
from hicl.train import distributed, layers, order, stream
from hicl.train.config import Config, load
from hicl.train.distributed import Group
from hicl.train.kernels import warm_up
from hicl.train.learner import Learner
from hicl.train.stream import Batch
from hicl.train.taught import Needs

SCENE_VISITS, FRAMES = 120 * 1201, 24_902  # of training on ScanNet, and of scannet_frames_25k
ALL_LOSSES = {
    "experiment": "V",
    "schedule.absolute": True,
    "schedule.attention_epoch": 0.0,
    "schedule.feedback_epoch": 0.0,
}
# (name, TF32, bf16) of the arithmetics, and how far losses and gradients may lie from the CPU's, relative to the
# largest: TF32 keeps 10 bits of a product's factors and bfloat16 8, through 30 layers.
ARITHMETICS = (("fp32", False, "off", 1e-3), ("tf32", True, "off", 0.05), ("bf16", True, "on", 0.2))
NETWORKS = {"MinkUNet": {}, "SPVCNN": {"model.network": "spvcnn"}}


def arithmetic(tf32: bool) -> None:
    """Whether float32 products may be rounded to TF32, in PyTorch and in spconv."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    layers.spconv.constants.SPCONV_ALLOW_TF32 = tf32


def learner_on(device: torch.device, config: Config, text: np.ndarray) -> Learner:
    """With heads that do something: as they begin, they give back what they get."""
    learner = Learner(config, torch.from_numpy(text.copy()), Group(0, 1, device))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for head in learner.objective.heads.values():
            for parameter in head.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=random).to(device)
    return learner


def losses_and_gradients(learner: Learner, batch: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The terms of a batch, and the gradients of their total by the parameters of the network and the heads."""
    terms = learner.terms(batch.to(learner.group.device))
    learner.objective.total(terms).backward()
    gradients = {
        f"{module}.{name}": parameter.grad.detach().double().cpu()
        for module, net in learner.modules.items()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }
    return {name: value.item() for name, value in terms.items()}, gradients


def agree(cache_path: Path, overrides: dict, device: torch.device) -> None:
    """Losses and gradients of the same weights and the same batch, here and there."""
    cache = open_cache(cache_path)
    print(f"a step on {device}, against the CPU in fp32: the largest difference of a loss and of a gradient, relative:")
    for network, change in NETWORKS.items():
        for name, tf32, bf16, most in ARITHMETICS:
            config = load("scannet", None, overrides | change | {"optim.bf16": bf16})
            source = stream.make_source(cache, Needs("refined"), config.heads, 0, config.reading)
            batch = stream.make_batch(cache, source, 0, [0, 1])
            if name == ARITHMETICS[0][0]:
                wanted, gradients = losses_and_gradients(learner_on(torch.device("cpu"), config, cache.text), batch)
            there = learner_on(device, config, cache.text)  # which lets spconv use TF32 on a GPU
            arithmetic(tf32)
            found, theirs = losses_and_gradients(there, batch)
            loss = max(abs(found[term] - wanted[term]) / max(abs(wanted[term]), 1e-3) for term in wanted)
            norm = {key: gradient.norm() for key, gradient in gradients.items()}
            gradient = max(
                float((theirs[key] - gradients[key]).norm() / max(norm[key], 1e-3 * max(norm.values())))
                for key in gradients
            )
            print(f"  {network:8} {name}: {loss:.1e}, {gradient:.1e}", flush=True)
            assert found.keys() == wanted.keys() and theirs.keys() == gradients.keys()
            assert loss < most and gradient < 10 * most, f"{network}, {name}: not what the CPU computes"


def train(cache_path: Path, overrides: dict, device: torch.device, steps: int) -> float:
    """Print what each arithmetic reaches; the best rate, scenes/s."""
    cache, gpu, best = open_cache(cache_path), device.type == "cuda", 0.0
    workers = max(1, min(14, len(os.sched_getaffinity(0)) - 1))
    for network, change in NETWORKS.items():
        for name, tf32, bf16, _ in ARITHMETICS if gpu else ARITHMETICS[:1]:
            config = load("scannet", None, overrides | change | {"optim.bf16": bf16, "stream.workers": workers})
            source = stream.make_source(cache, Needs("refined"), config.heads, 0, config.reading)
            plan = order.plan(len(source.scenes), config.schedule.batch, 0, 10_000)[: steps + 3]
            learner = learner_on(device, config, cache.text)
            arithmetic(tf32)
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            took = run_steps(learner, source, plan, gpu)
            memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if gpu else ""
            print(
                f"  {network:8} {name}: {took.rate:7.2f} scenes/s, a step of {took.scenes:.0f} scenes and"
                f" {took.voxels:,.0f} voxels {took.ms:.0f} ms, {100 * took.waiting:.1f} % waiting for data{memory}",
                flush=True,
            )
            if network == "MinkUNet":
                best = max(best, took.rate)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that it runs to its end")
    args = parser.parse_args()
    begin = time.perf_counter()
    device = torch.device(checked_device(args.device))
    distributed.start(device.type)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
    print(f"{name}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}")
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        # Agreement: of a size that a CPU computes in seconds, with the published network's number of layers.
        few = make_cache(Path(folder) / "few", train=2, val=0, n_points=3_000, n_views=6, width=64)
        narrow = {"model.stem": 16, "model.planes": [16, 16, 32, 32, 32, 32, 16, 16], "heads.tokens": 128}
        agree(few, ALL_LOSSES | narrow, device)
        room = scannet_sized(4 if args.small else bench_teacher.FRAMES)
        bench_teacher.agree(room, device.type)

        print("training, experiment V with all losses:")
        small = {"schedule.batch": 2} | narrow if args.small else {}
        path = few if args.small else make_cache(Path(folder) / "cache", train=32, val=0, **ROOMS["scannet"])
        rate = train(path, ALL_LOSSES | small, device, 1 if args.small else 60)
        print(f"  all of ScanNet, {SCENE_VISITS:,} scene visits, at the best rate: {SCENE_VISITS / rate / 60:.0f} min")

        config = bench_teacher.write_vit(Path(folder) / "vit.safetensors")
        images = bench_teacher.speeds(config, device.type, 0 if args.small else 4, (1,) if args.small else (8, 32, 128))
        print(f"  all of ScanNet, {FRAMES:,} frames, at the best rate: {FRAMES / images / 60:.1f} min of the device")
    print(f"{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
