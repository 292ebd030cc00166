"""`hicl export`: a labelled scene for other programs, and its objects."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hicl import formats
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.clouds import Cloud
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.formats.labelled import Labelled
from hicl.objects import Object, find_objects, table
from hicl.upright import UPRIGHT, told_of

if TYPE_CHECKING:
    from hicl.train.answers import Ensemble, Pool
    from hicl.train.inference import Model


@dataclass(frozen=True)
class Labels:
    """Where the labels of a cache's scenes come from. kind: "spread", "refined" or "raw" pseudo-labels, where there is
    no model. pool, ensemble: as of `hicl.train.answers.answers_of`."""

    kind: str = "spread"
    model: "Model | None" = None
    pool: "Pool" = "sets"
    ensemble: "Ensemble" = "none"


def labels_of(cache: CacheReader, scene: SceneReader, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """(class of each point, uint8 or uint16 [N], 255 for none; how sure it is, float32 [N], 0..1).

    A network's score is the class' probability; pseudo-labels' is the share of their set's pairs that had the same
    class before the vote. Raises `HiclError` for a kind that the scene doesn't have, or a model that doesn't fit.
    """
    if labels.model is not None:
        from hicl.train import answers, evaluate

        evaluate.assert_fits(labels.model, cache)
        found = answers.answers_of(labels.model, scene, labels.pool, labels.ensemble)
        return found.label.astype("u1"), found.score
    from hicl.pipeline.report import point_labels

    known, _ = point_labels(scene)
    if labels.kind not in known:
        raise HiclError(
            f"{cache.path}: scene {scene.id}: no {labels.kind} labels; give --labels {' or '.join(known)}, or let "
            "`hicl preprocess` bring the cache up to date"
        )
    return known[labels.kind], _agreement(scene, known[labels.kind])


def _agreement(scene: SceneReader, label: np.ndarray) -> np.ndarray:
    sets, raw = scene.read("sets/id").astype(np.int64), scene.read("pairs/raw")
    of_pair = sets[scene.read("pairs/point")]
    votes = np.bincount(of_pair * 256 + raw, minlength=256 * (int(sets.max(initial=-1)) + 1)).reshape(-1, 256)
    share = votes[sets, label] / np.maximum(votes.sum(axis=1)[sets], 1)
    return np.where(label == NO_LABEL, 0, share).astype(np.float32)


def export(
    cache_path: str | Path,
    scene_id: str | None,
    out: Path,
    run: Path | None,
    device: str,
    labels: str = "spread",
    pool: "Pool" = "sets",
    ensemble: "Ensemble" = "none",
    objects: Path | None = None,
    gap: float | None = None,
    smallest: int | None = None,
) -> str:
    """Write a scene's points with a class each, in the format that `out`'s name says (`hicl.formats`), and return lines
    that say so.

    labels, pool, ensemble: as of `Labels`, with the network of a trained run where there is one. objects: a CSV to
    write of what objects there are (`hicl.objects`: gap, smallest); the points then say which they belong to.
    Coordinates are metres in the scan's own frame, or levelled where the cache was made so; colours are those of the
    classes. Raises `HiclError`.
    """
    formats.assert_known(out)
    if objects is not None and objects.suffix.lower() != ".csv":
        raise HiclError(f"--objects {objects}: give it a name that ends in .csv")
    cache = open_cache(cache_path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    model = None
    if run is not None:
        from hicl.devices import checked_device
        from hicl.train import inference

        model = inference.load(run, checked_device(device))
    labelled = labelled_scene(cache, scene, Labels(labels, model, pool, ensemble))
    if objects is None:
        formats.write(out, labelled)
        return told(out, labelled, scene)
    instance, found = objects_of(cache, scene, labelled, gap, smallest)
    with replacing(objects) as temporary:
        temporary.write_text(table(found, cache.classes, scene.origin), encoding="utf-8")
        formats.write(out, replace(labelled, instance=instance))
    return "\n".join([told(out, labelled, scene), f"{objects}: {len(found)} objects"])


def labelled_scene(cache: CacheReader, scene: SceneReader, labels: Labels) -> Labelled:
    """A scene as files say it, without objects. Raises `HiclError`."""
    from hicl.pipeline.picture import class_colors

    label, score = labels_of(cache, scene, labels)
    faces = scene.read("points/face") if scene.has("points/face") else None
    cloud = Cloud(scene.read("points/xyz"), class_colors(cache.classes)[label], faces, scene.origin)
    return Labelled(cloud, label, cache.classes, score)


def objects_of(
    cache: CacheReader,
    scene: SceneReader,
    labelled: Labelled,
    gap: float | None = None,
    smallest: int | None = None,
) -> tuple[np.ndarray, list[Object]]:
    """`hicl.objects.find_objects` of a labelled scene."""
    cloud, sets, up = labelled.cloud, scene.read("sets/id"), upward(cache, scene)
    return find_objects(cloud.xyz, labelled.label, cache.classes, labelled.score, sets, gap, smallest, up=up)


def told(out: Path, labelled: Labelled, scene: SceneReader) -> str:
    """The line about a file that was written."""
    said = f"{out}: {len(labelled.label):,} points"
    if labelled.cloud.faces is not None:
        said += f" and {len(labelled.cloud.faces):,} triangles"
    said += f" of {scene.id}, {(labelled.label != NO_LABEL).mean():.1%} with a class"
    if left_out := scene.attributes.get("left_out", 0):
        said += f"; {left_out:,} of the scan without finite coordinates are left out"
    level = told_of(scene.turn)
    return f"{said}; {level}" if level else said


def upward(cache: CacheReader, scene: SceneReader) -> np.ndarray:
    """Which way is up, float64 [3]: z; of a scan of one's own that wasn't levelled the axis that its cameras held up,
    or what they held up if that is no axis."""
    poses = scene.read("views/pose")
    if cache.dataset != "rgbd" or "turn" in scene.attributes or not len(poses):
        return np.array([0.0, 0.0, 1.0])
    held = -poses[:, :3, 1].mean(axis=0)
    along = int(np.abs(held).argmax())
    return np.eye(3)[along] * np.sign(held[along]) if abs(held[along]) > UPRIGHT else held
