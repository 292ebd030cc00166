"""Segmentation scores from a confusion matrix, by ScanNet's protocol or nuScenes-lidarseg's."""

import numpy as np

from hicl.cache.schema import NO_LABEL


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrix int64 [C, C + 1], rows the truth, from class ids [N].

    Points whose truth is 255 are skipped; a prediction of 255 counts in the last column: wrong, but no other class's.
    """
    known = truth != NO_LABEL
    columns = np.where(predicted[known] == NO_LABEL, n_classes, predicted[known]).astype(np.int64)
    cells = truth[known].astype(np.int64) * (n_classes + 1) + columns
    return np.bincount(cells, minlength=n_classes * (n_classes + 1)).reshape(n_classes, n_classes + 1)


def iou(matrix: np.ndarray, lidarseg: bool = False) -> np.ndarray:
    """Intersection over union of each class, float64 [C]; NaN where a class doesn't occur in the truth.

    On a whole benchmark split every class occurs; on a few rooms this keeps the same classes in every mean. lidarseg:
    a class that is predicted but not in the truth has 0, as nuScenes-lidarseg counts it (nutonomy/nuscenes-devkit,
    eval/lidarseg/utils.py, `get_per_class_iou`).
    """
    n = len(matrix)
    hit = np.diagonal(matrix[:, :n]).astype(np.float64)
    union = matrix.sum(axis=1) + matrix[:, :n].sum(axis=0) - hit
    return np.divide(hit, union, out=np.full(n, np.nan), where=(union if lidarseg else matrix.sum(axis=1)) > 0)


def scores(matrix: np.ndarray, lidarseg: bool = False) -> dict:
    """accuracy, miou (over the classes in the truth) and iou (one a class, None where not in the truth), in percent;
    lidarseg: as of `iou`."""
    each, total = iou(matrix, lidarseg), matrix.sum()
    hit = np.trace(matrix[:, : len(matrix)])
    return {
        "accuracy": float(100 * hit / total) if total else None,
        "miou": float(100 * np.nanmean(each)) if np.isfinite(each).any() else None,
        "iou": [float(100 * value) if np.isfinite(value) else None for value in each],
    }
