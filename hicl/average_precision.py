"""How good objects are beside true ones: average precision, as ScanNet's instance benchmark counts it.

Source: ScanNet/ScanNet, BenchmarkScripts/3d_evaluation/evaluate_semantic_instance.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

OVERLAPS = (0.25, *(0.5 + 0.05 * step for step in range(9)))
"""Least intersections over union. The script's mean is over all from 0.5 on, which end at 0.9."""
SMALLEST = 100
"""Points: smaller objects, true or found, are passed over."""


@dataclass(frozen=True)
class Answer:
    """A scene's true objects and those found.

    truth: int32 [N], the true object of a point, -1 for none. truth_label: int [N], its class; points whose class has
    no objects, or that nobody annotated, have another number, such as 255. instance: int32 [N], the found object, -1
    for none. label, score: [M] of each found object.
    """

    truth: np.ndarray
    truth_label: np.ndarray
    instance: np.ndarray
    label: np.ndarray
    score: np.ndarray


def average_precision(answers: Iterable[Answer], n_classes: int, smallest: int = SMALLEST) -> dict[float, np.ndarray]:
    """AP of each class by the least overlap that counts as a hit: float64 [C], 0..1; NaN of classes without true
    objects.

    The surest first, each found object that overlaps a true one of its class enough is a hit; a second one on the same
    true object is a mistake, and so is what hits none, unless more of it than the overlap lies where there is nothing
    to hit: on points without a class that has objects, or on true objects that are too small. Precision is integrated
    over recall by trapezoids.
    """
    tables = [_overlaps(answer, smallest) for answer in answers]
    return {
        overlap: np.array([_of_class(tables, label, overlap) for label in range(n_classes)]) for overlap in OVERLAPS
    }


@dataclass(frozen=True)
class _Table:
    """iou [P, G] of found and true objects that are large enough; ignored [P], the share of a found object that lies
    where there is nothing to hit. label, score [P] and truth_label [G] as in `Answer`."""

    iou: np.ndarray
    ignored: np.ndarray
    label: np.ndarray
    score: np.ndarray
    truth_label: np.ndarray


def _overlaps(answer: Answer, smallest: int) -> _Table:
    hittable = (answer.truth >= 0) & (answer.truth_label < 255)
    # An object is what has one number and one class.
    kinds, truth = np.unique(np.column_stack([answer.truth, answer.truth_label])[hittable], axis=0, return_inverse=True)
    of_truth = np.full(len(hittable), -1)
    of_truth[hittable] = truth.ravel()
    n_found, n_true = len(answer.label), len(kinds)
    cells = (answer.instance + 1).astype(np.int64) * (n_true + 1) + of_truth + 1
    both = np.bincount(cells, minlength=(n_found + 1) * (n_true + 1)).reshape(n_found + 1, n_true + 1)
    found_size, true_size = both.sum(axis=1)[1:], both.sum(axis=0)[1:]
    large, true_large = found_size >= smallest, true_size >= smallest
    inner = both[1:, 1:]
    union = found_size[:, None] + true_size[None] - inner
    same = answer.label[:, None] == kinds[None, :, 1]
    too_small = np.where(same & ~true_large[None], inner, 0).sum(axis=1)
    ignored = (both[1:, 0] + too_small) / np.maximum(found_size, 1)
    return _Table(
        iou=(inner / np.maximum(union, 1))[large][:, true_large],
        ignored=ignored[large],
        label=answer.label[large],
        score=answer.score[large],
        truth_label=kinds[true_large, 1],
    )


def _of_class(tables: list[_Table], label: int, overlap: float) -> float:
    hits: list[float] = []
    mistakes: list[float] = []
    missed = 0
    for table in tables:
        own = table.label == label
        iou, score, ignored = table.iou[own][:, table.truth_label == label], table.score[own], table.ignored[own]
        over = iou > overlap
        taken = np.zeros(len(score), bool)
        for column in over.T:
            able = np.flatnonzero(column & ~taken)
            if not len(able):
                missed += 1
                continue
            best = able[np.argmax(score[able])]
            taken[best] = True
            hits.append(score[best])
            mistakes += [score[other] for other in able if other != best]
        mistakes += score[~over.any(axis=1) & (ignored <= overlap)].tolist()
    if not hits and not missed:
        return np.nan
    return _area(np.array(hits), np.array(mistakes), missed)


def _area(hits: np.ndarray, mistakes: np.ndarray, missed: int) -> float:
    """The area below precision over recall, from the scores of hits and of mistakes."""
    bounds = np.unique(np.concatenate([hits, mistakes]))
    right, wrong = ((scores[None] >= bounds[:, None]).sum(axis=1) for scores in (hits, mistakes))
    precision, recall = np.append(right / np.maximum(right + wrong, 1), 1.0), np.append(right / (len(hits) + missed), 0)
    return float(np.sum((precision[1:] + precision[:-1]) / 2 * (recall[:-1] - recall[1:])))
