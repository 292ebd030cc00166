"""`hicl report labels --compare`: caches of the same scenes side by side, with ground truth and without.

A label that is right is right from everywhere, so what views of a point say of it, and points of a surface, agrees the
more the better a teacher reads. One that says the same of everything agrees too: agreement is taken beyond what labels
drawn from the same shares would have (Cohen's kappa), and their entropy stands beside it.
"""

import json
import math
from pathlib import Path

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.metrics import confusion, scores
from hicl.pipeline.report import point_labels, truth_map

MEASURES = ("views", "sets", "entropy")
_TRUE = ("raw", "refined", "spread")
_LEAST = 4  # caches whose order says anything


def compare(paths: list[str | Path], split: str | None = None, json_file: Path | None = None) -> str:
    """The caches as a table, and how well each measure orders them as the truth does, where it is known.

    Raises `HiclError` unless all have the same classes, and scenes in common.
    """
    caches = [open_cache(path) for path in paths]
    if len(caches) < 2:
        raise HiclError("--compare: name at least two caches")
    for cache in caches[1:]:
        if cache.classes != caches[0].classes:
            raise HiclError(f"{cache.path}: has other classes than {caches[0].path}; compare caches of the same words")
    ids = [scene for scene in caches[0].scene_ids(split) if all(scene in cache.scene_ids() for cache in caches)]
    if not ids:
        raise HiclError(f"--compare: {', '.join(map(str, paths))} have no scene in common")
    rows = [measure(cache, ids) for cache in caches]
    numbers = {"scenes": ids, "caches": [{"cache": str(p)} | row for p, row in zip(paths, rows, strict=True)]}
    if len(rows) >= _LEAST and all("raw" in row for row in rows):
        numbers["rank_correlation"] = {
            name: {kind: rank_correlation([row[name] for row in rows], [row[kind] for row in rows]) for kind in kinds}
            for name in MEASURES
            for kinds in [[kind for kind in _TRUE if all(kind in row for row in rows)]]
        }
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(numbers, indent=2) + "\n")
    return _table(numbers)


def measure(cache: CacheReader, ids: list[str]) -> dict[str, float]:
    """views, sets: how far raw labels of a point's views, and of a set's points, agree beyond chance, in percent;
    entropy: of the raw labels' shares, in bits. Where there is truth, mIoU of raw, refined and spread labels of points
    that an image shows."""
    size = len(cache.classes)
    to_prompted = truth_map(cache)
    shares, agreed = np.zeros(size), {"views": np.zeros(2), "sets": np.zeros(2)}
    matrices = {kind: np.zeros((size, size + 1), np.int64) for kind in _TRUE}
    for scene_id in ids:
        scene = cache.scene(scene_id)
        predicted, truth = point_labels(scene, to_prompted)
        raw = scene.read("pairs/raw")
        shares += np.bincount(raw, minlength=256)[:size]
        agreed["views"] += agreement(raw, scene.read("pairs/point"))
        agreed["sets"] += agreement(predicted["raw"], scene.read("sets/id"))
        if truth is not None:
            truth = np.where(predicted["raw"] == NO_LABEL, NO_LABEL, truth)
            for kind, label in predicted.items():
                matrices[kind] += confusion(truth, label, size)
    shares /= max(shares.sum(), 1)
    by_chance = float((shares**2).sum())
    result = {name: _beyond(float(agree), int(total), by_chance) for name, (agree, total) in agreed.items()}
    result["entropy"] = float((shares[shares > 0] * np.log2(1 / shares[shares > 0])).sum())
    return result | {kind: scores(matrix)["miou"] for kind, matrix in matrices.items() if matrix.any()}


def agreement(labels: np.ndarray, group: np.ndarray) -> tuple[float, int]:
    """(agreeing, labels): summed over labels that aren't alone in their group, the share of its others that are equal.

    labels: uint8 [N], 255 = none, left out. group: int [N].
    """
    known = labels != NO_LABEL
    cell, count = np.unique(group[known].astype(np.int64) * 256 + labels[known], return_counts=True)
    _, place = np.unique(cell // 256, return_inverse=True)
    size = np.bincount(place, count).astype(np.int64)[place]
    together = size > 1
    count, size = count[together], size[together]
    return float((count * (count - 1) / (size - 1)).sum()), int(count.sum())


def _beyond(agreeing: float, total: int, chance: float) -> float:
    """Cohen's kappa in percent; 0 where there is one label only, or nothing to compare."""
    return 100 * (agreeing / total - chance) / (1 - chance) if total and chance < 1 else 0.0


def rank_correlation(measured: list[float], true: list[float]) -> float | None:
    """Spearman's; None where all are equal."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(measured), rankdata(true)])
    found = float(np.corrcoef(ranks)[0, 1]) if (ranks.std(axis=1) > 0).all() else math.nan
    return found if math.isfinite(found) else None


def _table(numbers: dict) -> str:
    rows = numbers["caches"]
    width = max(len(row["cache"]) for row in rows) + 2
    kinds = [kind for kind in _TRUE if all(kind in row for row in rows)]
    lines = [f"Labels of {len(numbers['scenes'])} scenes that all have"]
    lines.append(
        "  views, sets: agreement of raw labels between views of a point, and points of a set, beyond chance in %;"
    )
    lines.append("  entropy: of their shares, in bits" + ("; then mIoU in %, seen vertices" if kinds else ""))
    lines.append(f"  {'':{width}}" + "".join(f"{name:>9}" for name in (*MEASURES, *kinds)))
    for row in rows:
        lines.append(
            f"  {row['cache']:{width}}{row['views']:9.1f}{row['sets']:9.1f}{row['entropy']:9.2f}"
            + "".join(f"{row[kind]:9.1f}" for kind in kinds)
        )
    for name, found in numbers.get("rank_correlation", {}).items():
        cells = ["-" if found[kind] is None else f"{found[kind]:.2f}" for kind in kinds]
        said = f"  {'rank correlation of ' + name:{max(width, 30)}}"
        lines.append(f"{said:{width + 2 + 9 * len(MEASURES)}}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
