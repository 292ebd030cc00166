"""Every model name of open_clip: whether its image tower is read densely, and how fast beside its own pooled forward.

    python tests/benchmarks/bench_towers.py [--speed] [NAME ...]

Each is built as it is, with its own widths, blocks and pooling, but two blocks deep (four stages of one), and with
random numbers in all its tensors, so that none may be skipped; then the test that every teacher has to pass when it is
loaded: its parts, put together again, against the model's own vector of an image.

--speed instead takes one model a family in its whole depth, at the size that it was trained on: images/s of its own
pooled forward on one core, then by the time of that what dense readings of the same image take (limits: MaskCLIP 1.1,
NACLIP 1.2, SC-CLIP 1.4), and what MaskCLIP takes a pixel in windows of half the size, beside the whole image. All take
turns; medians of each turn's ratios of processor time.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np
import open_clip
import timm
import torch
from open_clip.model import _build_vision_tower
from open_clip.transformer import VisionTransformer

from hicl.errors import HiclError
from hicl.pipeline.teacher import towers
from hicl.pipeline.teacher.readouts import load
from hicl.pipeline.teacher.windows import Windows

# One a family, of a size that a core reads in a second or so.
SPEED = ("RN50", "ViT-B-16", "coca_ViT-B-32", "ViT-B-16-SigLIP2", "PE-Core-B-16", "MobileCLIP2-B", "EVA02-B-16")
SPEED += ("ViTamin-B", "convnext_base", "MobileCLIP2-S2")
TURNS = 5
# What readings may take, by the time of the pooled forward.
LIMITS = {"maskclip": 1.1, "naclip": 1.2, "scclip": 1.4}
MORE_PIXELS = 9 / 4  # windows of half an image's side, every half of that: three by three


def shallow(name: str) -> dict:
    """What makes a tower two blocks deep, or four stages of one, whatever else it is."""
    if name.startswith(("convnext", "swin")):
        return {"depths": (1, 1, 1, 1)}
    if name.startswith("fastvit"):
        return {"layers": (1,) * (5 if name.endswith(("mci3", "mci4")) else 4)}
    return {"depth": 2}


def visual(name: str, whole: bool):
    """The image tower of a model, of random numbers."""
    config = open_clip.get_model_config(name)
    vision, create = dict(config["vision_cfg"]), timm.create_model
    if "layers" in vision and not whole:
        vision["layers"] = [1, 1, 1, 1] if isinstance(vision["layers"], list) else 2

    def made(name: str, **options):
        return create(name, **options, **({} if whole else shallow(name)))

    with mock.patch("timm.create_model", made):
        built = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    built.eval().requires_grad_(False)
    random = torch.Generator().manual_seed(1)
    for value in built.parameters():
        spread = 0.1 if value.ndim == 1 else 0.1 * value.abs().mean().clamp(min=0.02)
        value += spread * torch.randn(value.shape, generator=random)
    return built


def family(built) -> str:
    """Kind of its blocks and how it pools."""
    if isinstance(built, VisionTransformer):
        if built.attn_pool is not None:
            return "open_clip ViT, learnt queries (CoCa)"
        return f"open_clip ViT, {'class token' if built.pool_type == 'tok' else 'average (CLIPA)'}"
    trunk = getattr(built, "trunk", None)
    if trunk is None:
        return "OpenAI's ResNet, attention"
    kind = type(trunk).__name__
    if not hasattr(trunk, "blocks"):
        return f"timm {kind}, average"
    pooled = {"token": "class token", "avg": "average", "map": "learnt query"}
    hybrid = ", convolutional stem" if type(trunk.patch_embed).__name__ == "HybridEmbed" else ""
    block = type(trunk.blocks[0]).__name__
    norms = ", post-norm" if block.endswith("PostNorm") else ""
    turned = ", rotary" if getattr(trunk, "rope", None) is not None else ""
    return f"timm {kind}{hybrid}{norms}{turned}, {pooled[trunk.global_pool]}"


def survey(names: list[str]) -> None:
    read: dict[str, list[tuple[float, str]]] = {}
    refused = {}
    for name in names:
        try:
            built = visual(name, whole=False)
            cosine, _ = towers.of(built, name).tested(torch.device("cpu"))
            read.setdefault(family(built), []).append((cosine, name))
        except HiclError as error:
            refused[name] = str(error)
    print("| family | models | least cosine | such as |\n|---|---|---|---|")
    for kind, found in sorted(read.items()):
        print(f"| {kind} | {len(found)} | {min(found)[0]:.5f} | {found[0][1]} |")
    print(f"\n{sum(map(len, read.values()))} of {len(names)} read; refused:")
    print("\n".join(f"  {message}" for message in refused.values()))


def turns(calls: list[Callable]) -> np.ndarray:
    """Seconds of processor time, [TURNS, calls], of calls that take turns, after a first one of each; of a GPU the time
    until it has done."""
    taken = np.zeros((TURNS + 1, len(calls)))
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    for turn in taken:
        for index, call in enumerate(calls):
            start = clock()
            found = call()
            (found[0] if isinstance(found, tuple) else found).sum().item()  # CoCa gives its tokens too
            turn[index] = clock() - start
    return taken[1:]


def windowed(read: Callable, device: str, pixels: np.ndarray) -> torch.Tensor:
    return read(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float())


def speed(names: tuple[str, ...] | list[str], device: str = "cpu", batch: int = 1) -> None:
    """Print images/s of towers' own pooled forward, and by its time what dense readings of the same images take."""
    print(
        f"| model | image | pooled, images/s | {' | '.join(LIMITS)} | windows |\n|---|---|{'---:|' * (len(LIMITS) + 2)}"
    )
    for name in names:
        built = visual(name, whole=True).to(device)
        tower = towers.of(built, name)
        side = built.image_size if not isinstance(built.image_size, int) else (built.image_size,) * 2
        images = torch.randn(batch, 3, *side, generator=torch.Generator().manual_seed(0)).to(device)
        reads = {}
        for dense in LIMITS:
            with contextlib.suppress(HiclError):  # it reads blocks that this tower doesn't have
                reads[dense] = partial(tower.grid, read_out=load(dense, tower.depth, name))
        whole = [partial(read, images) for read in reads.values()]
        windows = Windows.of(tower.patch, max(side) // 2, None)
        parts = partial(
            windows.read, np.zeros((batch, *side, 3), np.uint8), partial(windowed, reads["maskclip"], device)
        )
        with torch.inference_mode():
            taken = turns([partial(built, images), *whole, parts])
        shares = {dense: np.median(taken[:, index] / taken[:, 0]) for index, dense in enumerate(reads, 1)}
        shares["windows"] = np.median(taken[:, -1] / taken[:, 1]) / MORE_PIXELS
        cells = [f"{shares[dense]:.2f}" if dense in shares else "-" for dense in (*LIMITS, "windows")]
        rate = batch / np.median(taken[:, 0])
        print(f"| {name} | {side[0]}x{side[1]} | {rate:.2f} | {' | '.join(cells)} |", flush=True)
        missed = [f"{dense} {shares[dense]:.2f}" for dense, limit in LIMITS.items() if shares.get(dense, 0) > limit]
        if missed:
            print(f"  {name} misses its limit: {', '.join(missed)}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        speed(options.names or SPEED)
    else:
        survey(options.names or open_clip.list_models())


if __name__ == "__main__":
    main()
