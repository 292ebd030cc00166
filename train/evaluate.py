"""ScanNet's protocol, and nuScenes-lidarseg's: predict every point of a split, count against the true labels.

ScanNet `BenchmarkScripts/3d_evaluation/evaluate_semantic_label.py`: vertices without a true label don't count. Argmax
over the classes alone; CLIP2Scene adds a logit fixed at 0 for "unlabelled", and counts a vertex that chooses it as
wrong.

nuScenes-lidarseg (nutonomy/nuscenes-devkit `eval/lidarseg`): one confusion matrix over all key frames; every point has
a class, those of earlier sweeps aside; what its class 0 holds doesn't count.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.metrics import confusion, iou
from hicl.progress import Progress
from hicl.train import run_folder
from hicl.train.answers import Ensemble, Pool, classes_of, name_of
from hicl.train.inference import Model


@dataclass(frozen=True)
class Scores:
    """confusion [C, C] int64: rows truth, columns prediction. iou [C] in 0..1: NaN for a class not in the truth.

    split and scans: what was counted. pool and ensemble: how points got their classes, as of `answers.classes_of`.
    lidarseg: by nuScenes-lidarseg's protocol.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    iou: np.ndarray
    miou: float
    accuracy: float
    split: str = ""
    scans: int = 0
    pool: Pool = "none"
    ensemble: Ensemble = "none"
    lidarseg: bool = False


def score(matrix: np.ndarray, classes: tuple[str, ...], lidarseg: bool = False) -> Scores:
    """Scores of a confusion matrix of `hicl.metrics`, its mean IoU over the classes in the truth; lidarseg: as of
    `hicl.metrics.iou`."""
    each = iou(matrix, lidarseg)
    square = matrix[:, : len(matrix)]
    miou = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")
    accuracy = float(np.trace(square) / max(1, matrix.sum()))
    return Scores(tuple(classes), square, each, miou, accuracy, lidarseg=lidarseg)


def assert_fits(model: Model, cache: CacheReader) -> None:
    """Raise `HiclError` unless a cache has the classes and the teacher's width that a model was trained for."""
    if tuple(cache.classes) != model.classes:
        raise HiclError(
            f"{cache.path}: its {len(cache.classes)} classes are not the {len(model.classes)} the model was"
            f" trained for ({_first_difference(cache.classes, model.classes)}); train on this cache"
        )
    if cache.text.shape[1] != model.text.shape[1]:
        raise HiclError(
            f"{cache.path}: its teacher has width {cache.text.shape[1]}, the model's {model.text.shape[1]};"
            " train on this cache"
        )


def evaluate(
    model: Model,
    cache: CacheReader,
    split: str = "val",
    progress: bool = False,
    pool: Pool = "none",
    ensemble: Ensemble = "none",
    use: Callable[[SceneReader, np.ndarray], None] | None = None,
) -> Scores:
    """Scores of a model on the labelled points of a split. pool, ensemble: as of `answers.classes_of`.

    use: gets each scene with its points' classes, those of scenes without true labels too; the scores may then be of no
    point at all.

    Raises:
        HiclError: the cache's classes or teacher differ from the model's, or no scene has true labels.
    """
    assert_fits(model, cache)
    if cache.truth_classes and tuple(cache.truth_classes) != tuple(cache.classes):
        raise HiclError(
            f"{cache.path}: its true labels are of other classes"
            f" ({_first_difference(cache.classes, cache.truth_classes)}), so there is nothing to evaluate against"
        )
    n_classes = len(cache.classes)
    matrix, scans = np.zeros((n_classes, n_classes + 1), np.int64), 0
    names = cache.scene_ids(split)
    with Progress("evaluating", len(names), "scene", show=progress) as bar:
        for name in names:
            scene = cache.scene(name)
            labelled = scene.has("points/label")
            if labelled or use:
                label = classes_of(model, scene, pool, ensemble)
            if labelled:
                scans += 1
                matrix += _counted(cache, scene, label)
            if use:
                use(scene, label)
            bar.update()
    if not matrix.any() and use is None:
        raise HiclError(f"{cache.path}: no scene of split {split!r} has true labels, so there is no mIoU")
    scores = score(matrix, cache.classes, cache.dataset == "nuscenes")
    return replace(scores, split=split, scans=scans, pool=pool, ensemble=ensemble)


def _counted(cache: CacheReader, scene: SceneReader, label: np.ndarray) -> np.ndarray:
    n_classes, truth = len(cache.classes), scene.read("points/label")
    if ((truth != NO_LABEL) & (truth >= n_classes)).any():
        raise HiclError(f"{cache.path}: scene {scene.id}: true label beyond {n_classes} classes; preprocess it again")
    if scene.has("points/sweep"):
        own = scene.read("points/sweep") == 0
        truth, label = truth[own], label[own]
    return confusion(truth, label, n_classes)


def _first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    for i in range(max(len(ours), len(theirs))):
        a, b = (names[i] if i < len(names) else "nothing" for names in (ours, theirs))
        if a != b:
            return f"class {i}: {a} instead of {b}"
    return "none"


def protocol(scores: Scores) -> str:
    """How the number came about, to be printed with it."""
    seen = int(np.isfinite(scores.iou).sum())
    by = "voxel" if scores.pool == "none" else "set"
    images = "" if scores.ensemble == "none" else f" and its images ({scores.ensemble})"
    if scores.lidarseg:
        return (
            f"{scores.confusion.sum()} labelled points of {scores.scans} {scores.split} key frames, each by its"
            f" {by}{images} or its nearest point's, argmax over {len(scores.classes)} classes, no augmentation;"
            f" nuScenes-lidarseg's mIoU, over the {seen} in the truth or predicted"
        )
    return (
        f"{scores.confusion.sum()} labelled vertices of {scores.scans} {scores.split} scans, each by its {by}{images},"
        f" argmax over {len(scores.classes)} classes, no test-time augmentation; mIoU over the {seen} in the truth"
    )


def report(scores: Scores) -> str:
    """A table for people, in percent: per-class IoU, mIoU, accuracy, and the protocol."""
    rows = [(name, iou) for name, iou in zip(scores.classes, scores.iou, strict=True)]
    rows.append(("mIoU", scores.miou))
    named = np.array([not name.lower().startswith("other") for name in scores.classes])
    if not named.all() and np.isfinite(scores.iou[named]).any():
        rows.append(("mIoU without other", float(np.nanmean(scores.iou[named]))))
    rows.append(("accuracy", scores.accuracy))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {'absent' if np.isnan(value) else f'{100 * value:6.2f}'}" for name, value in rows]
    return "\n".join([*lines, protocol(scores)])


def save(scores: Scores, run: Path, cache: CacheReader) -> Path:
    """Write `evaluation-<answers.name_of …>.json`: percent where a person reads, counts where a program does."""
    result = {
        "split": scores.split,
        "miou": 100 * scores.miou,
        "accuracy": 100 * scores.accuracy,
        "iou": {n: None if np.isnan(v) else 100 * v for n, v in zip(scores.classes, scores.iou, strict=True)},
        "protocol": protocol(scores),
        "dataset": cache.dataset,
        "data": cache.split_fingerprint(scores.split),
        "confusion": scores.confusion.tolist(),
    }
    path = run / f"evaluation-{name_of(scores.split, scores.pool, scores.ensemble)}.json"
    run_folder.replace_text(path, json.dumps(result, indent=1))
    return path
