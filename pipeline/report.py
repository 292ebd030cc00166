"""`hicl report labels`: how good the pseudo-labels in a cache are, before and after the vote."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.metrics import confusion, scores
from hicl.pipeline.refine import majority, set_ceiling
from hicl.progress import counted

if TYPE_CHECKING:
    from PIL.Image import Image

PROTOCOL = (
    "a point's label is the majority of its views, ties to the lowest class; scored on every vertex with ground truth "
    "and a pseudo-label; mIoU over the classes in the truth"
)
_KINDS = ("raw", "refined", "ceiling")
_UNSEEN = "mIoU, unseen points wrong"


def labels(
    cache_path: str | Path, split: str | None, json_file: Path | None, picture: Path | None, scene: str | None
) -> str:
    """The report as text; the numbers and a picture of one scene into files where asked for. Raises `HiclError`."""
    if picture is not None and picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise HiclError(f"--picture {picture}: give it a name that ends in .png or .jpg")
    cache = open_cache(cache_path)
    ids = cache.scene_ids(split)
    if scene is not None and scene not in ids:
        raise HiclError(f"--scene {scene}: not a complete scene of {cache_path}; there are {', '.join(ids[:5])} …")
    numbers = measure(cache, ids) | {"split": split or "all"}
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(numbers, indent=2) + "\n")
    if picture is not None:
        drawn = draw(cache, cache.scene(scene or ids[0]))
        with replacing(picture) as temporary:
            drawn.save(temporary)
    return table(cache, numbers)


def measure(cache: CacheReader, ids: list[str]) -> dict:
    """Counts over scenes, and where there is truth the scores of raw and refined labels and of the sets' ceiling."""
    n_classes = len(cache.classes)
    to_prompted = truth_map(cache)
    matrices = {kind: np.zeros((n_classes, n_classes + 1), np.int64) for kind in (*_KINDS, "raw_all", "refined_all")}
    totals = dict.fromkeys(("points", "pairs", "sets", "with_label", "with_truth", "with_both", "changed"), 0)
    shares = {kind: np.zeros(n_classes, np.int64) for kind in ("raw", "refined")}
    for scene_id in ids:
        scene = cache.scene(scene_id)
        points, predicted, truth = _point_labels(scene, to_prompted)
        seen = predicted["refined"] != NO_LABEL
        totals["points"] += points
        totals["pairs"] += len(scene.read("pairs/point"))
        totals["sets"] += scene.attributes["counts"]["sets"]
        totals["with_label"] += int(seen.sum())
        totals["changed"] += int((scene.read("pairs/raw") != scene.read("pairs/refined")).sum())
        for kind, share in shares.items():
            share += np.bincount(predicted[kind], minlength=256)[:n_classes]
        if truth is None:
            continue
        totals["with_truth"] += int((truth != NO_LABEL).sum())
        totals["with_both"] += int((seen & (truth != NO_LABEL)).sum())
        predicted["ceiling"] = set_ceiling(truth, scene.read("sets/id"))
        for kind in _KINDS:
            matrices[kind] += confusion(truth[seen], predicted[kind][seen], n_classes)
        for kind in ("raw", "refined"):
            matrices[f"{kind}_all"] += confusion(truth, predicted[kind], n_classes)
    result = {"dataset": cache.dataset, "scenes": len(ids), "classes": list(cache.classes), **totals}
    result["coverage"] = 100 * totals["with_label"] / max(totals["points"], 1)
    result["share"] = {kind: (100 * share / max(share.sum(), 1)).tolist() for kind, share in shares.items()}
    if totals["with_both"]:
        result["coverage_of_truth"] = 100 * totals["with_both"] / totals["with_truth"]
        result |= {kind: scores(matrix) for kind, matrix in matrices.items()}
    return result


def truth_map(cache: CacheReader) -> np.ndarray | None:
    """uint8 [256] from the data set's classes to the prompted ones, by name; 255 where a class isn't prompted."""
    if not set(cache.truth_classes) & set(cache.classes):
        return None
    table = np.full(256, NO_LABEL, np.uint8)
    for index, name in enumerate(cache.truth_classes):
        if name in cache.classes:
            table[index] = cache.classes.index(name)
    return table


def _point_labels(
    scene: SceneReader, to_prompted: np.ndarray | None
) -> tuple[int, dict[str, np.ndarray], np.ndarray | None]:
    """Number of points, label of every point by kind (u1 [N]), and the truth in prompted classes or None."""
    n = len(scene.read("points/xyz"))
    point = scene.read("pairs/point")
    predicted = {kind: majority(scene.read(f"pairs/{kind}"), point, n) for kind in ("raw", "refined")}
    if to_prompted is None or not scene.has("points/label"):
        return n, predicted, None
    return n, predicted, to_prompted[scene.read("points/label")]


def table(cache: CacheReader, numbers: dict) -> str:
    """The report as lines for a terminal."""
    lines = [f"Labels of {counted(numbers['scenes'], 'scene')}, split {numbers['split']}, {cache.path}"]
    lines.append(
        f"  {numbers['points']:,} points in {numbers['sets']:,} sets, coverage {numbers['coverage']:.1f} %; "
        f"{numbers['pairs']:,} pairs, {100 * numbers['changed'] / max(numbers['pairs'], 1):.1f} % changed by the vote"
    )
    width = max(len(name) for name in (*cache.classes, _UNSEEN)) + 2
    if "raw" not in numbers:
        lines.append("  no ground truth in these classes: the share of points that each class gets, in %")
        lines.append(f"  {'':{width}}{'raw':>9}{'refined':>9}")
        for index, name in enumerate(cache.classes):
            raw, refined = (numbers["share"][kind][index] for kind in ("raw", "refined"))
            lines.append(f"  {name:{width}}{raw:9.1f}{refined:9.1f}")
        return "\n".join(lines)
    lines.append(f"  protocol: {PROTOCOL}")
    covered = f"{numbers['coverage_of_truth']:.1f} % of {numbers['with_truth']:,}"
    lines.append(f"  {covered} vertices with ground truth have a label")
    lines.append(f"  {'IoU in %':{width}}{'raw':>9}{'refined':>9}{'ceiling of the sets':>21}")
    for index, name in enumerate(cache.classes):
        lines.append(_row(name, width, [numbers[kind]["iou"][index] for kind in _KINDS]))
    lines.append("  " + "-" * (width + 39))
    for measure_name, label in (("miou", "mIoU"), ("accuracy", "accuracy")):
        lines.append(_row(label, width, [numbers[kind][measure_name] for kind in _KINDS]))
    every = [numbers[f"{kind}_all"]["miou"] for kind in ("raw", "refined")]
    lines.append(_row(_UNSEEN, width, every))
    return "\n".join(lines)


def _row(name: str, width: int, values: list[float | None]) -> str:
    cells = [f"{'-' if value is None else f'{value:.1f}'}" for value in values]
    return f"  {name:{width}}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, (9, 9, 21), strict=False))


def draw(cache: CacheReader, scene: SceneReader, prediction: np.ndarray | None = None) -> "Image":
    """A PIL image of a scene: colours, sets, raw and refined labels, and where there are any, a network's prediction
    (class ids [N]) and the truth."""
    from hicl.pipeline import picture

    _, predicted, truth = _point_labels(scene, truth_map(cache))
    colors = picture.class_colors(cache.classes)
    up, ahead = np.array([0.0, 0.0, 1.0]), np.array([0.6, 1.0, 0.25])
    if cache.dataset == "rgbd":  # the axes may be any; cameras are mostly held upright, and looked at the scene
        pose = scene.read("views/pose")
        up, ahead = -pose[:, :3, 1].mean(axis=0), pose[:, :3, 2].mean(axis=0)
    view = picture.View(scene.read("points/xyz"), scene.read("points/normal"), up, ahead)
    panels = [
        ("colours", view.draw(scene.read("points/rgb"))),
        (f"{scene.attributes['counts']['sets']} geometric sets", view.draw(picture.set_colors(scene.read("sets/id")))),
        ("raw labels (teacher)", view.draw(colors[predicted["raw"]])),
        ("refined labels (vote)", view.draw(colors[predicted["refined"]])),
    ]
    shown = list(predicted.values())
    for name, label in (("prediction (network)", prediction), ("ground truth", truth)):
        if label is not None:
            panels.append((name, view.draw(colors[label])))
            shown.append(label)
    used = np.unique(np.concatenate(shown))
    legend = [(cache.classes[index] if index < len(cache.classes) else "none", colors[index]) for index in used]
    return picture.sheet(panels, legend, columns=2 if len(panels) == 4 else 3)
