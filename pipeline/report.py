"""`hicl report labels`: how good the pseudo-labels in a cache are, before and after the vote."""

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    "a point's label is the majority of its views, ties to the lowest class, of spread labels its set's; scored on the "
    "vertices with ground truth, seen ones are those with a pseudo-label; mIoU over the classes in the truth"
)
KINDS = ("raw", "refined", "spread", "ceiling")
_TITLES = ("raw", "refined", "spread", "ceiling of the sets")


def labels(
    cache_path: str | Path,
    split: str | None,
    json_file: Path | None,
    picture: Path | None,
    scene: str | None,
    root: Path | None = None,
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
        drawn = draw(cache, cache.scene(scene or ids[0]), root=root)
        with replacing(picture) as temporary:
            drawn.save(temporary)
    return table(cache, numbers)


def measure(cache: CacheReader, ids: list[str]) -> dict:
    """Counts over scenes, and where there is truth the scores of raw, refined and spread labels and of the sets'
    ceiling: of seen vertices by the kind's name alone, and with _unseen and _all behind it."""
    n_classes = len(cache.classes)
    to_prompted = truth_map(cache)
    totals = dict.fromkeys(("points", "pairs", "sets", "with_label", "with_truth", "with_both", "changed"), 0)
    totals |= dict.fromkeys(("hidden", "taking_part", "voted", "helped", "hurt"), 0)
    matrices: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((n_classes, n_classes + 1), np.int64))
    shares: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(n_classes, np.int64))
    spread = True
    for scene_id in ids:
        scene = cache.scene(scene_id)
        predicted, truth = point_labels(scene, to_prompted)
        seen = predicted["refined"] != NO_LABEL
        totals["points"] += len(seen)
        totals["pairs"] += len(scene.read("pairs/point"))
        totals["sets"] += scene.attributes["counts"]["sets"]
        totals["with_label"] += int(seen.sum())
        totals["changed"] += int((scene.read("pairs/raw") != scene.read("pairs/refined")).sum())
        totals["hidden"] += scene.attributes.get("hidden", 0)
        totals["taking_part"] += int(scene.read("points/valid").sum()) if scene.has("points/valid") else len(seen)
        for kind, label in predicted.items():
            shares[kind] += np.bincount(label, minlength=256)[:n_classes]
        spread = spread and "spread" in predicted
        if truth is None:
            continue
        totals["with_truth"] += int((truth != NO_LABEL).sum())
        totals["with_both"] += int((seen & (truth != NO_LABEL)).sum())
        for name, count in votes(scene, truth).items():
            totals[name] += count
        predicted["ceiling"] = set_ceiling(truth, scene.read("sets/id"))
        for kind, label in predicted.items():
            for where, part in (("", seen), ("_unseen", ~seen), ("_all", slice(None))):
                matrices[kind + where] += confusion(truth[part], label[part], n_classes)
    if not spread:  # those of some scenes can't stand beside the others' of all
        shares.pop("spread", None)
        matrices = {kind: matrix for kind, matrix in matrices.items() if not kind.startswith("spread")}
    result = {"dataset": cache.dataset, "scenes": len(ids), "classes": list(cache.classes), **totals}
    result["coverage"] = 100 * totals["with_label"] / max(totals["taking_part"], 1)
    result["share"] = {kind: (100 * share / max(share.sum(), 1)).tolist() for kind, share in shares.items()}
    if totals["with_both"]:
        result["coverage_of_truth"] = 100 * totals["with_both"] / totals["with_truth"]
        result |= {kind: scores(matrix) for kind, matrix in matrices.items()}
    return result


def votes(scene: SceneReader, truth: np.ndarray) -> dict[str, int]:
    """Sets as images show them, of which the truth (u1 [N], 255 = none) of a pair is known: how many there are, and in
    how many the vote left more pairs right than before, and fewer. (HICL, Fig. 5: where most labels of a set are wrong,
    the vote makes them wrong together.)"""
    indptr, point = scene.read("pairs/indptr"), scene.read("pairs/point")
    known = truth[point] != NO_LABEL
    view = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[known]
    group = view * scene.attributes["counts"]["sets"] + scene.read("sets/id")[point[known]]
    _, group = np.unique(group, return_inverse=True)
    right = {kind: (scene.read(f"pairs/{kind}")[known] == truth[point[known]]) for kind in ("raw", "refined")}
    gain = np.bincount(group, right["refined"].astype(float) - right["raw"])
    return {"voted": len(gain), "helped": int((gain > 0).sum()), "hurt": int((gain < 0).sum())}


def truth_map(cache: CacheReader) -> np.ndarray | None:
    """uint8 [256] from the data set's classes to the prompted ones, by name; 255 where a class isn't prompted."""
    if not set(cache.truth_classes) & set(cache.classes):
        return None
    table = np.full(256, NO_LABEL, np.uint8)
    for index, name in enumerate(cache.truth_classes):
        if name in cache.classes:
            table[index] = cache.classes.index(name)
    return table


def point_labels(
    scene: SceneReader, to_prompted: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Label of every point by kind (u1 [N]), and the truth in prompted classes or None. Spread labels are missing where
    the cache is of an earlier hicl."""
    n, point = scene.attributes["counts"]["points"], scene.read("pairs/point")
    predicted = {kind: majority(scene.read(f"pairs/{kind}"), point, n) for kind in ("raw", "refined")}
    if scene.has("points/spread"):
        predicted["spread"] = scene.read("points/spread")
    if to_prompted is None or not scene.has("points/label"):
        return predicted, None
    return predicted, to_prompted[scene.read("points/label")]


def seen_colors(scene: SceneReader) -> tuple[str, np.ndarray]:
    """What a scene looks like by itself: ("colours" or "intensity", uint8 [N, 3])."""
    from hicl.pipeline.picture import heat

    if scene.has("points/rgb"):
        return "colours", scene.read("points/rgb")
    return "intensity", heat(scene.read("points/intensity").astype(np.float32))


def shown_points(scene: SceneReader) -> np.ndarray:
    """Which points a picture shows, int [M]: of a key frame not the car itself, and no earlier sweep's."""
    shown = np.ones(scene.attributes["counts"]["points"], bool)
    if scene.has("points/valid"):
        shown &= scene.read("points/valid") == 1
    if scene.has("points/sweep"):
        shown &= scene.read("points/sweep") == 0
    return np.flatnonzero(shown)


def table(cache: CacheReader, numbers: dict) -> str:
    """The report as lines for a terminal."""
    lines = [f"Labels of {counted(numbers['scenes'], 'scene')}, split {numbers['split']}, {cache.path}"]
    lines.append(
        f"  {numbers['points']:,} points in {numbers['sets']:,} sets, coverage {numbers['coverage']:.1f} %; "
        f"{numbers['pairs']:,} pairs, {100 * numbers['changed'] / max(numbers['pairs'], 1):.1f} % changed by the vote"
    )
    if numbers["hidden"]:
        share = 100 * numbers["hidden"] / (numbers["hidden"] + numbers["pairs"])
        lines.append(f"  {numbers['hidden']:,} pairs more, {share:.1f} %, were left out: other points hide them")
    width = max(len(name) for name in (*cache.classes, "accuracy, unseen")) + 2
    kinds = [kind for kind in KINDS if kind in numbers["share"] or kind in numbers]
    titles = [_TITLES[KINDS.index(kind)] for kind in kinds]

    def row(name: str, values: list[float | None]) -> str:
        cells = ["-" if value is None else f"{value:.1f}" for value in values]
        return f"  {name:{width}}" + "".join(f"{c:>{max(7, len(t)) + 2}}" for c, t in zip(cells, titles, strict=True))

    def header(text: str) -> str:
        return f"  {text:{width}}" + "".join(f"{title:>{max(7, len(title)) + 2}}" for title in titles)

    if "spread" not in kinds:
        lines.append("  no spread labels yet: the next `hicl preprocess` adds them")
    if "raw" not in numbers:
        lines.append("  no ground truth in these classes: the share of points that each class gets, in %")
        lines.append(header(""))
        lines += [row(name, [numbers["share"][kind][i] for kind in kinds]) for i, name in enumerate(cache.classes)]
        return "\n".join(lines)
    lines.append(f"  protocol: {PROTOCOL}")
    covered = f"{numbers['coverage_of_truth']:.1f} % of {numbers['with_truth']:,}"
    lines.append(f"  {covered} vertices with ground truth have a label")
    lines.append(header("IoU in %, seen vertices"))
    lines += [row(name, [numbers[kind]["iou"][i] for kind in kinds]) for i, name in enumerate(cache.classes)]
    lines.append("  " + "-" * (len(lines[-1]) - 2))
    for measured, name in (("miou", "mIoU"), ("accuracy", "accuracy")):
        for where, suffix in ((", seen", ""), (", unseen", "_unseen"), (", all", "_all")):
            lines.append(row(name + where, [numbers[kind + suffix][measured] for kind in kinds]))
    helped, hurt = (100 * numbers[name] / max(numbers["voted"], 1) for name in ("helped", "hurt"))
    lines.append(
        f"  the vote: of {numbers['voted']:,} sets as images show them, it left {helped:.1f} % with more labels right, "
        f"{hurt:.1f} % with fewer"
    )
    if numbers["ceiling_all"]["accuracy"] > 99.95:
        lines.append("  a ceiling of 100: the truth was annotated on these very sets, which it therefore can't judge")
    return "\n".join(lines)


_DRAWN = 35.0  # metres from the car, to each side: beyond, a LiDAR's points lie too far apart to make a picture


class Panels(NamedTuple):
    """Pictures of a scene. blocks: of titled panels and how many stand side by side; legend: (name, its colour)."""

    blocks: list[tuple[list[tuple[str, "Image"]], int]]
    legend: list[tuple[str, tuple]]


def draw(
    cache: CacheReader, scene: SceneReader, prediction: np.ndarray | None = None, root: Path | None = None
) -> "Image":
    """A PIL image of a scene; arguments as of `panels_of`."""
    from hicl.pipeline import picture

    blocks, legend = panels_of(cache, scene, prediction, root)
    last = len(blocks) - 1
    sheets = [picture.sheet(panels, legend if n == last else [], columns) for n, (panels, columns) in enumerate(blocks)]
    return picture.stacked(sheets)


def panels_of(
    cache: CacheReader, scene: SceneReader, prediction: np.ndarray | None = None, root: Path | None = None
) -> Panels:
    """A scene's colours, sets, raw, refined and spread labels, and where there are any, a network's prediction (class
    ids [N]) and the truth. Of a key frame what its cameras see, too, over their images if the scans' root is given."""
    from hicl.pipeline import drive_picture, picture

    predicted, truth = point_labels(scene, truth_map(cache))
    colors = picture.class_colors(cache.classes)
    up, ahead = np.array([0.0, 0.0, 1.0]), np.array([0.6, 1.0, 0.25])
    if cache.dataset == "rgbd":  # the axes may be any; cameras are mostly held upright, and looked at the scene
        pose = scene.read("views/pose")
        up, ahead = -pose[:, :3, 1].mean(axis=0), pose[:, :3, 2].mean(axis=0)
    shown = shown_points(scene)
    if cache.grouped:
        near = np.abs(scene.read("points/xyz")[shown, :2]).max(axis=1) < _DRAWN
        shown = shown[near] if near.any() else shown
    xyz, normal = scene.read("points/xyz")[shown], None
    if scene.has("points/normal"):
        normal = scene.read("points/normal")[shown]
    if cache.grouped:  # a street, from straight above, what lies ahead of the car at the top
        view = picture.View(xyz, normal, up, np.array([1.0, 0.0, 0.0]), tilt=90)
    else:
        view = picture.View(xyz, normal, up, ahead)
    name, seen = seen_colors(scene)
    panels = [
        (name, view.draw(seen[shown])),
        (
            f"{scene.attributes['counts']['sets']} geometric sets",
            view.draw(picture.set_colors(scene.read("sets/id"))[shown]),
        ),
    ]
    titles = {"raw": "raw labels (teacher)", "refined": "refined labels (vote)", "spread": "spread labels (sets)"}
    of_points: dict[str, np.ndarray | None] = {titles[kind]: label for kind, label in predicted.items()}
    of_points |= {"prediction (network)": prediction, "ground truth": truth}
    drawn = [(name, label[shown]) for name, label in of_points.items() if label is not None]
    panels += [(name, view.draw(colors[label])) for name, label in drawn]
    used = np.unique(np.concatenate([label for _, label in drawn]))
    legend = [(cache.classes[index] if index < len(cache.classes) else "none", colors[index]) for index in used]
    own = panels, {4: 2, 7: 4}.get(len(panels), 3)
    if not cache.grouped:
        return Panels([own], legend)
    seen_by = drive_picture.cameras(scene, "raw labels", colors[scene.read("pairs/raw")], root)
    seen_by += drive_picture.cameras(scene, "refined labels", colors[scene.read("pairs/refined")], root)
    return Panels([(seen_by, 3), own], legend)
