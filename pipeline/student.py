"""MaskCLIP+ (Zhou et al., ECCV 2022): a 2D network learns the teacher's labels on the scans' own images, then its own.

Nine tenths of the steps are guided: the label of a pixel is the teacher's, whose scores on patches are interpolated. In
the rest the network learns its own best class, without gradient through it. (chongzhou96/MaskCLIP
`mmseg/models/decode_heads/maskclip_plus_head.py:216-362`; when it changes over there depends on the data set. A network
from a random start that changes over half-way, at half the learning rate, soon says wall and floor of everything.)

Otherwise than there: LR-ASPP on MobileNetV3 (Howard et al., ICCV 2019; torchvision's) in place of DeepLabv2 on
ResNet-101, from a random start and not from ImageNet's labels, so that no label was seen; AdamW, for the same reason;
images of 120 rows; no distance to the teacher's features.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.devices import checked_device
from hicl.errors import FrameError, HiclError
from hicl.files import replacing
from hicl.pipeline.datasets.scene import Scene, Source, unread
from hicl.pipeline.teacher.features import class_scores
from hicl.progress import Progress
from hicl.read import read_json

_ROWS = 120  # of an image as the network sees it
_STEP = 8  # pixels that rows and columns are multiples of
_MOST_IMAGES = 4000  # of the training split, that many drawn at random: 230 MB
_RATE, _DECAY = 1e-3, 1e-4
_GUIDED = 0.9  # of the steps


@dataclass(frozen=True)
class Training:
    """steps: of the whole training. batch: images a step. seed: of weights and order."""

    steps: int = 1500
    batch: int = 8
    seed: int = 0


def label_images(source: Source, cache_path: str | Path, out: Path, training: Training, device: str = "auto") -> Path:
    """Train the network on the images of the split "train", and write what it says of those of all scenes.

    Args:
        source: the scans, not drives, that the cache was made of. cache_path: has the teacher's features.
        out: gets labels/<scene>/<frame>.png, places in the class list, as `--labels-dir` takes them, and student.json:
            minutes of training and parameters. Where it says that it was made of just this, nothing is done.

    Returns:
        The folder of the label images.

    Raises:
        HiclError: other scenes or classes than the cache's; no features in it.
    """
    cache = open_cache(cache_path)
    if tuple(cache.classes) != source.classes:
        raise HiclError(f"{cache_path}: its classes aren't those of {source.root}; preprocess without --classes")
    scenes = cache.scene_ids()
    made_of = "\n".join([cache.fingerprint, *scenes, *cache.fingerprints(scenes), repr(training)])
    made_of = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    with contextlib.suppress(FileNotFoundError):
        there = read_json(out / "student.json")
        if isinstance(there, dict) and there.get("made_of") == made_of:
            return out / "labels"
    torch.manual_seed(training.seed)
    target = torch.device(checked_device(device))
    found: dict[str, Scene] = {scene.id: scene for scene, _ in source.scenes}  # type: ignore[misc]
    missing = [name for name in scenes if name not in found]
    if missing:
        raise HiclError(f"{source.root}: no scan {missing[0]}, of which {cache_path} was made")
    images, scores = _training_images(cache, found, training.seed)
    net = _network(len(cache.classes)).to(target)
    begin = time.perf_counter()
    _train(net, images, scores, training, target)
    spent = (time.perf_counter() - begin) / 60
    for name in scenes:
        _write(net, cache, found[name], out / "labels" / name, target)
    about = {"minutes": spent, "parameters": sum(p.numel() for p in net.parameters()), "made_of": made_of}
    with replacing(out / "student.json") as temporary:
        temporary.write_text(json.dumps(about) + "\n")
    return out / "labels"


def _network(n_classes: int) -> Any:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=n_classes)


def _frames(cache: CacheReader, scene: Scene) -> Iterator[tuple[int, str, np.ndarray]]:
    """(view, name, image uint8 [rows, columns, 3] as the network sees it) of a scene's views in the cache."""
    fresh = unread(scene)
    for view, frame in enumerate(cache.scene(scene.id).read("views/frame").tolist()):
        try:
            color = fresh.frame(frame).color
        except FrameError as error:
            raise HiclError(f"{scene.id}: a frame that {cache.path} was made of can't be read: {error}") from None
        columns = max(1, round(_ROWS * color.shape[1] / color.shape[0] / _STEP)) * _STEP
        small = Image.fromarray(color).resize((columns, _ROWS), Image.Resampling.BILINEAR)
        yield view, fresh.frame_name(frame), np.array(small)  # writable, as torch wants it


def _training_images(
    cache: CacheReader, scenes: dict[str, Scene], seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images, and the teacher's scores of each class at their patches, float32 [h, w, C]."""
    names = cache.scene_ids("train")
    if not cache.scene(names[0]).has("features/grid"):
        raise HiclError(f"{cache.path}: no features/grid, as its labels came from images; no teacher to follow")
    views = [(name, view) for name in names for view in range(cache.scene(name).attributes["counts"]["frames"])]
    drawn = np.random.default_rng(seed).permutation(len(views))[:_MOST_IMAGES]
    chosen = {views[number] for number in drawn}
    images, scores = [], []
    with Progress("reading images", len(names), "scene") as bar:
        for name in names:
            grid, scale = (cache.scene(name).read(f"features/{part}") for part in ("grid", "scale"))
            for view, _, image in _frames(cache, scenes[name]):
                if (name, view) in chosen:
                    images.append(image)
                    scores.append(class_scores(grid[view], scale[view], cache.text))
            bar.update()
    return images, scores


def _train(
    net: Any, images: list[np.ndarray], scores: list[np.ndarray], training: Training, device: torch.device
) -> None:
    rng = np.random.default_rng([training.seed, 1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    by_shape: dict[tuple, list[int]] = {}
    for number, image in enumerate(images):
        by_shape.setdefault((image.shape, scores[number].shape), []).append(number)
    kinds = list(by_shape.values())
    share = np.array([len(kind) for kind in kinds]) / len(images)
    net.train()
    with Progress("2D network", training.steps, "step") as bar:
        for step in range(training.steps):
            kind = kinds[rng.choice(len(kinds), p=share)]
            chosen = rng.choice(kind, training.batch)
            flip = [-1] if rng.random() < 0.5 else []
            pixels = _tensor(np.stack([images[n] for n in chosen]), device).flip(flip)
            logits = net(pixels)["out"]
            if step < _GUIDED * training.steps:
                said = torch.from_numpy(np.stack([scores[n] for n in chosen])).to(device).permute(0, 3, 1, 2).flip(flip)
                label = _resized(said, logits.shape[2:]).argmax(dim=1)
            else:
                label = logits.detach().argmax(dim=1)
            optimiser.zero_grad(set_to_none=True)
            loss = F.cross_entropy(logits, label)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.note = f"ce {loss.item():.3f}"
            bar.update()
    net.eval()


def _tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 [B, H, W, 3] as float32 [B, 3, H, W] in -1..1."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def _resized(scores: torch.Tensor, size: Any) -> torch.Tensor:
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)


@torch.no_grad()
def _write(net: Any, cache: CacheReader, scene: Scene, folder: Path, device: torch.device) -> None:
    for _, name, image in _frames(cache, scene):
        label = net(_tensor(image[None], device))["out"][0].argmax(dim=0)
        with replacing(folder / f"{name}.png") as temporary:
            Image.fromarray(label.cpu().numpy().astype(np.uint8)).save(temporary, "PNG")
