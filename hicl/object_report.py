"""`hicl report objects`: the average precision of a cache's objects."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hicl.average_precision import Answer, average_precision
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.export import Labels, labels_of
from hicl.files import replacing
from hicl.objects import STUFF, find_objects
from hicl.pipeline.report import truth_map
from hicl.progress import counted

PERFECT = "truth"
"""In place of a kind of labels: the true ones, which show what connectivity alone leaves to be wished."""


def report(
    cache_path: str | Path,
    root: Path,
    split: str | None = None,
    labels: Labels | None = None,
    gap: float | None = None,
    json_file: Path | None = None,
) -> str:
    """Average precision by class, as lines for a terminal. root: of the scans, whose true objects are asked for.

    Raises `HiclError` where the cache's data set has no true objects, or they don't fit the cache.
    """
    cache = open_cache(cache_path)
    to_prompted, ids = truth_map(cache), cache.scene_ids(split)
    if to_prompted is None:
        raise HiclError(f"{cache_path}: no ground truth in the prompted classes, so objects can't be judged")
    things = np.array([name not in STUFF for name in cache.classes])
    answers = _answers(cache, ids, root, labels or Labels(), to_prompted, things, gap)
    found = average_precision(answers, len(cache.classes))
    each = {"ap": np.mean([found[overlap] for overlap in found if overlap >= 0.5], axis=0)}
    each |= {"ap50": found[0.5], "ap25": found[0.25]}
    judged = np.flatnonzero(~np.isnan(each["ap"]))
    if not len(judged):
        raise HiclError(f"{cache_path}: no true object of a prompted class in {counted(len(ids), 'scene')}")
    means = {name: 100 * float(values[judged].mean()) for name, values in each.items()}
    of_class = {
        cache.classes[i]: {name: 100 * float(values[i]) for name, values in each.items()} for i in judged.tolist()
    }
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps({"scenes": len(ids), **means, "classes": of_class}, indent=2) + "\n")
    width = max(map(len, (*of_class, "mean"))) + 2
    lines = [f"Objects of {counted(len(ids), 'scene')}, split {split or 'all'}, {cache.path}"]
    lines.append(f"  {'':{width}}{'AP':>8}{'AP50':>8}{'AP25':>8}")
    for name, row in (of_class | {"mean": means}).items():
        lines.append(f"  {name:{width}}" + "".join(f"{value:8.1f}" for value in row.values()))
    return "\n".join(lines)


def _answers(
    cache: CacheReader,
    ids: list[str],
    root: Path,
    labels: Labels,
    to_prompted: np.ndarray,
    things: np.ndarray,
    gap: float | None,
) -> Iterator[Answer]:
    for scene_id in ids:
        scene = cache.scene(scene_id)
        if not scene.has("points/label"):
            continue
        truth, truth_label = _true_objects(cache, scene, root), to_prompted[scene.read("points/label")]
        truth_label[~np.append(things, np.zeros(256 - len(things), bool))[truth_label]] = NO_LABEL
        if labels.kind == PERFECT:
            label, score = truth_label, None
        else:
            label, score = labels_of(cache, scene, labels)
        xyz, sets = scene.read("points/xyz"), scene.read("sets/id")
        instance, objects = find_objects(xyz, label, cache.classes, score, sets, gap)
        yield Answer(
            truth,
            truth_label,
            instance,
            np.array([item.label for item in objects], np.int64),
            np.array([item.score for item in objects], np.float64),
        )


def _true_objects(cache: CacheReader, scene: SceneReader, root: Path) -> np.ndarray:
    """int32 [N] in the order of the scene's points, -1 = none."""
    from hicl.pipeline.datasets.scannet_objects import read_objects
    from hicl.pipeline.miniature.scan import true_instances

    if cache.dataset not in ("miniature", "scannet"):
        raise HiclError(f"{cache.path}: a cache of {cache.dataset}, whose true objects aren't known here")
    found = true_instances(root, scene.id) if cache.dataset == "miniature" else read_objects(root, scene.id)
    if len(found) != scene.attributes["counts"]["points"]:
        raise HiclError(f"{root}: {scene.id} has {len(found):,} vertices there and others in {cache.path}")
    return found
