"""How near each point of a cached scene is to a text, by the teacher's features of the images it is seen in."""

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.pipeline.sampling import scores_at
from hicl.pipeline.teacher.features import class_scores


def similarity(scene: SceneReader, query: np.ndarray) -> np.ndarray:
    """Cosine of the teacher's features with a text, averaged over the views of a point.

    query: float32 [d], unit length. Returns float32 [N], NaN for a point that no view shows. Scored on the patches and
    sampled at the pixels, as labels are.
    """
    n = len(scene.read("points/xyz"))
    codes, scale, indptr = (scene.read(name) for name in ("features/grid", "features/scale", "pairs/indptr"))
    point, pixel, size = (scene.read(name) for name in ("pairs/point", "pairs/pixel", "views/size"))
    total, count = np.zeros(n), np.bincount(point, minlength=n)
    for view, (start, end) in enumerate(zip(indptr[:-1], indptr[1:], strict=True)):
        scores = class_scores(codes[view], scale[view], query[None])
        sampled = scores_at(scores, pixel[start:end], tuple(size[view].tolist()))[:, 0]
        total += np.bincount(point[start:end], sampled, minlength=n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0).astype(np.float32)
