"""`hicl report rooms`: how much of the labels' error differs from scene to scene, and how much within a scene.

Scenes can correct each other only where they err differently. Of each true class, a set's labels are a point on the
simplex of classes: the shares of its pairs' labels. Their variance has a part between scenes, what all sets of a class
in a scene have in common, and a part within, as in a one-way analysis of variance; the share of the first is the
intraclass correlation ICC(1) (Shrout and Fleiss, Psychological Bulletin 1979), here of vectors, for scenes of unequal
numbers of sets.
"""

from pathlib import Path

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.pipeline.refine import set_ceiling
from hicl.pipeline.report import truth_map


def rooms(cache_path: str | Path, split: str | None) -> str:
    """The report as text. Raises `HiclError` where no scene has true labels of the prompted classes."""
    cache = open_cache(cache_path)
    to_prompted = truth_map(cache)
    found: dict[int, list[np.ndarray]] = {}
    for scene_id in cache.scene_ids(split):
        scene = cache.scene(scene_id)
        if to_prompted is None or not scene.has("points/label"):
            continue
        arrays = ("sets/id", "pairs/point", "pairs/raw")
        sets, point, label = (scene.read(name) for name in arrays)
        shares, truth = set_shares(
            label, sets[point], sets, to_prompted[scene.read("points/label")], len(cache.classes)
        )
        for kind in np.unique(truth[truth != NO_LABEL]).tolist():
            found.setdefault(kind, []).append(shares[truth == kind])
    if not found:
        raise HiclError(
            f"{cache_path}: no scene has true labels of the prompted classes, so there is no error to divide"
        )
    return table(cache.classes, {kind: parts(groups) for kind, groups in sorted(found.items())}, found)


def set_shares(
    label: np.ndarray, set_of_pair: np.ndarray, sets: np.ndarray, truth: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the images say of each set, and what it is.

    Args:
        label: uint8 [P], of pairs, 255 = none. set_of_pair: int [P]. sets: int [N], of points. truth: uint8 [N].

    Returns:
        shares float64 [K, n_classes], rows that add up to 1, and the true class [K] uint8, the majority of its points'
        or 255 where none has one, or where no pair of the set has a label.
    """
    n_sets = int(sets.max()) + 1
    known = label != NO_LABEL
    cells = set_of_pair[known].astype(np.int64) * n_classes + label[known]
    votes = np.bincount(cells, minlength=n_sets * n_classes).reshape(n_sets, n_classes)
    of_set = np.full(n_sets, NO_LABEL, np.uint8)
    of_set[sets] = set_ceiling(truth, sets)
    total = votes.sum(axis=1)
    of_set[total == 0] = NO_LABEL
    return votes / np.maximum(total, 1)[:, None], of_set


def parts(groups: list[np.ndarray]) -> tuple[float, float]:
    """Variance (between, within) scenes of vectors in groups [n_r, C], one a scene; NaN where there are too few.

    between is what scenes add beyond the scatter of their means that sets of a scene explain; at least 0.
    """
    sizes = np.array([len(group) for group in groups], np.float64)
    total, n_groups = sizes.sum(), len(groups)
    if n_groups < 2 or total <= n_groups:
        return float("nan"), float("nan")
    means = np.stack([group.mean(axis=0) for group in groups])
    overall = (sizes[:, None] * means).sum(axis=0) / total
    within = sum(float(np.square(group - mean).sum()) for group, mean in zip(groups, means, strict=True))
    within /= total - n_groups
    between = float((sizes * np.square(means - overall).sum(axis=1)).sum()) / (n_groups - 1)
    typical = (total - np.square(sizes).sum() / total) / (n_groups - 1)
    return max(0.0, (between - within) / typical), within


def table(classes: tuple[str, ...], found: dict[int, tuple[float, float]], groups: dict[int, list[np.ndarray]]) -> str:
    """A line a class, and the mean of all that have a figure, for a terminal."""
    width = max(len("mean of the classes"), *(len(classes[kind]) for kind in found))
    lines = [f"{'':<{width}}  scenes  sets  between  within  share between scenes"]
    for kind, (between, within) in found.items():
        counted = f"{len(groups[kind]):6d}  {sum(map(len, groups[kind])):4d}"
        lines.append(f"{classes[kind]:<{width}}  {counted}  {_figures(between, within)}")
    known = [pair for pair in found.values() if np.isfinite(pair).all()]
    if known:
        between, within = np.mean(known, axis=0).tolist()
        lines.append(f"{'mean of the classes':<{width}}  {'':6}  {'':4}  {_figures(between, within)}")
    lines.append(
        "of the shares of each class among the raw labels of a set of a true class; a scene can correct another's error"
        " only in the part between scenes"
    )
    return "\n".join(lines)


def _figures(between: float, within: float) -> str:
    if not np.isfinite(between):
        return f"{'':7}  {'':6}  too few sets"
    share = between / (between + within) if between + within else 0.0
    return f"{between:7.3f}  {within:6.3f}  {100 * share:5.1f} %"
