"""What to do next, as a line that can be typed: each command ends with it."""

import shlex
from pathlib import Path
from typing import Any

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline import datasets
from hicl.pipeline.config import option


def command(*words: str | Path) -> str:
    """`next: hicl …`, quoted for a shell."""
    return f"next: hicl {shlex.join(str(word) for word in words)}"


def miniature(root: Path, dataset: str) -> str:
    """After `hicl miniature`, by the data set that reads it."""
    return command("preprocess", dataset, "--root", root, "--out", root.parent / f"{root.name or 'miniature'}-cache")


def masks(folder: Path, dataset: str, root: Path) -> str:
    """After `hicl masks`."""
    return f"{miniature(root, dataset)} {shlex.join(['--masks-dir', str(folder), '--masks', 'kept'])}"


def preprocess(cache: str, dataset: str, root: Path, config: Path | None, given: dict[str, Any]) -> str:
    """After `hicl preprocess` with a file of settings and those given: the split that is missing, else training."""
    splits = open_cache(cache).splits()
    if splits == ["train"] and given.get("split") == "train":
        words: list[Any] = ["--config", config] if config else []
        for key, value in (given | {"split": "val"}).items():  # with other classes, say, the first half would be stale
            words += [option(key), value] if value is not None else []
        return command("preprocess", dataset, "--root", root, "--out", cache, *words)
    if "train" not in splits:
        return command("report", "labels", "--cache", cache)
    return _training(cache, dataset)


def relabel(cache: str) -> str:
    """After `hicl relabel`."""
    return _training(cache, open_cache(cache).dataset)


def _training(cache: str, dataset: str) -> str:
    run = Path("work") / f"{Path(cache).name}-V"
    while run.exists():  # another's
        run = run.with_name(f"{run.name}-again")
    suited = getattr(datasets.load(dataset), "TRAINING", ()) if dataset in datasets.DATASETS else ()
    return command("train", "--cache", cache, "--exp", "V", *suited, "--out", run)


def train(cache: str, run: Path) -> str:
    """After `hicl train`: the score where there is truth to score by, else the result to look at."""
    if _has_truth(cache):
        return command("evaluate", "--model", run, "--cache", cache)
    return command("export", "--cache", cache, "--model", run, "--out", run / "labels.ply")


def evaluate(cache: str, run: Path) -> str:
    """After `hicl evaluate`."""
    return command("figure", "scene", "--cache", cache, "--model", run, "--out", run / "scene.png")


def _has_truth(cache: str) -> bool:
    opened = open_cache(cache)
    try:
        scenes = opened.scene_ids("val")
        same = not opened.truth_classes or tuple(opened.truth_classes) == tuple(opened.classes)
        return same and any(opened.scene(scene).has("points/label") for scene in scenes)
    except HiclError:  # no such split
        return False
