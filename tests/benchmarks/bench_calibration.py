"""How sure a teacher is of its labels, by CLIP's temperature and by one fitted without labels, and how often right.

    python tests/benchmarks/bench_calibration.py CACHE

Mean over pairs, of some points of every scene, of the softmax' largest share; right: of the pairs with a true label.
"""

import argparse
from pathlib import Path

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.schema import NO_LABEL
from hicl.pipeline.calibration import fitted_sharpness, sample
from hicl.pipeline.report import truth_map
from hicl.pipeline.sampling import SHARPNESS
from hicl.pipeline.teacher.features import class_scores

ARRAYS = ("features/grid", "features/scale", "views/size", "pairs/indptr", "pairs/point", "pairs/pixel")


def sureness(scores: np.ndarray, sharpness: float) -> np.ndarray:
    """The largest share of each row's softmax: float32 [P, C] to [P]."""
    return 1 / np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True))).sum(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    cache = open_cache(parser.parse_args().cache)
    to_class, text = truth_map(cache), cache.text.copy()
    fits, rows = [], []
    for scene_id in cache.scene_ids():
        scene = cache.scene(scene_id)
        arrays = {name: scene.read(name).copy() for name in ARRAYS}
        views = list(zip(arrays["features/grid"], arrays["features/scale"], strict=True))
        scores, labels, point = sample(lambda view, views=views: class_scores(*views[view], text), arrays)
        fits.append(fitted_sharpness(scores, labels, point))
        truth = to_class[scene.read("points/label")][point]
        known = truth != NO_LABEL
        shares = [sureness(scores[known], sharpness) for sharpness in (SHARPNESS, fits[-1])]
        rows.append([share.mean() for share in (*shares, labels[known] == truth[known])])
    by_clip, fitted, right = 100 * np.mean(rows, axis=0)
    print(f"{len(rows)} scenes: fitted 1 / T from {min(fits):.1f} to {max(fits):.1f}, CLIP's {SHARPNESS:.0f}")
    print(f"sure by CLIP's {by_clip:.1f} %, by the fitted {fitted:.1f} %; right {right:.1f} %")


if __name__ == "__main__":
    main()
