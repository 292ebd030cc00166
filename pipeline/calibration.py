"""How sure a teacher is, found out without labels: a temperature under which a view says as surely what another view of
the same point says.

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017): the one number that the scores
are multiplied with before the softmax, so that the mean -log of a held-out label's probability is least. What stands in
for the label is what another image says of the point; mistakes that both make count as sureness.
"""

from collections.abc import Callable

import numpy as np

from hicl.pipeline.sampling import label_pixels, scores_at

_PAIRS = 100_000  # of a scene that are looked at, about
_RANGE = 1.0, 1000.0  # of what scores, which are cosines, are multiplied with


def sample(
    scores_of: Callable[[int], np.ndarray], arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores float32 [S, C], best class uint8 [S], point [S]) of all pairs of some points of a scene.

    scores_of: a view's number to the scores of its patches, float32 [h, w, C]. arrays: views/size, pairs/indptr,
    pairs/{point,pixel}.
    """
    point, pixel, indptr = (arrays[f"pairs/{name}"] for name in ("point", "pixel", "indptr"))
    taken = np.flatnonzero(point % (len(point) // _PAIRS + 1) == 0)
    scores, labels = [], []
    for view, size in enumerate(arrays["views/size"]):
        own = taken[slice(*np.searchsorted(taken, indptr[view : view + 2]))]
        at = scores_of(view), pixel[own], tuple(size.tolist())
        scores.append(scores_at(*at))
        labels.append(label_pixels(*at))
    return np.concatenate(scores), np.concatenate(labels), point[taken]


def fitted_sharpness(scores: np.ndarray, labels: np.ndarray, point: np.ndarray) -> float:
    """The temperature's inverse, from 1 to 1000: of each pair and the next one of its point, the first's scores say
    what the second's label is.

    scores: float32 [S, C]. labels: uint8 [S]. point: int [S]. Where no point has two views, the largest.
    """
    from scipy.optimize import minimize_scalar

    order = np.argsort(point, kind="stable")
    again = np.flatnonzero(point[order][1:] == point[order][:-1])
    own, other = scores[order[again]].astype(np.float64), labels[order[again + 1]]
    if not len(again):
        return _RANGE[1]
    own -= np.take_along_axis(own, other[:, None].astype(np.int64), axis=1)

    def surprise(log_sharpness: float) -> float:
        # Of a class' probability, softmax(s / T)_l, in logarithms: log of the sum of exp((s_c - s_l) / T).
        scaled = np.exp(log_sharpness) * own
        most = scaled.max(axis=1)
        return float((most + np.log(np.exp(scaled - most[:, None]).sum(axis=1))).mean())

    found = minimize_scalar(surprise, bounds=tuple(np.log(_RANGE)), method="bounded")
    return float(np.exp(found.x))
