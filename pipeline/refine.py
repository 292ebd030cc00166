"""Intra-set refinement of labels (HICL section 3.2): within an image, a set has one label."""

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.pipeline.kernels import vote as kernels
from hicl.pipeline.partition import compact_ids, has_wide_gaps


def vote(
    labels: np.ndarray,
    point: np.ndarray,
    indptr: np.ndarray,
    set_id: np.ndarray,
    scope: str = "image",
) -> np.ndarray:
    """Every pair gets the most frequent label of its set in its image.

    labels: uint8 [P], 255 = none. point: int32 [P]. indptr: int64 [F + 1], view f holds pairs indptr[f]:indptr[f + 1].
    set_id: int [N] by point, with gaps or not; negative = in no set. Returns uint8 [P].

    Ties go to the lowest class. A pair without a label doesn't vote and receives its set's label; where nobody votes,
    it stays 255. A point in no set keeps its label. scope "scene" pools the votes of all images, so that a set has one
    label in the whole scene.

    Source: HICL (CVPR 2024), section 3.2: the label of a projected set is Mode{l_ij : I_ij in the set}, replacing every
    label in it. The paper doesn't say how ties are broken. Time O(P + N + C · sets met in an image).
    """
    labels, point, set_id = _checked(labels, point, set_id)
    indptr = np.ascontiguousarray(indptr, np.int64)
    if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(labels) or (np.diff(indptr) < 0).any():
        raise ValueError(f"indptr: expected to ascend from 0 to {len(labels)}, the number of pairs")
    if scope == "scene":
        indptr = np.array([0, len(labels)], np.int64)
    elif scope != "image":
        raise ValueError(f'scope: expected "image" or "scene", found {scope!r}')
    counts = _counters(int(set_id.max(initial=-1)) + 1, labels)
    return kernels.vote(labels, point, set_id, indptr, counts)


def vote_in_masks(labels: np.ndarray, mask: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Every pair gets the most frequent label of its mask in its image; one in no mask keeps its own.

    labels: uint8 [P], 255 = none. mask: int32 [P], 0 or less = none. indptr: as of `vote`. Returns uint8 [P].
    """
    return vote(labels, np.arange(len(mask), dtype=np.int32), indptr, np.maximum(mask, 0) - 1)


def majority(labels: np.ndarray, point: np.ndarray, n_points: int) -> np.ndarray:
    """One label a point: the most frequent of its pairs', ties to the lowest class.

    labels: uint8 [P], 255 = none. point: int32 [P]. Returns uint8 [n_points], 255 where no pair has a label.
    """
    labels, point, _ = _checked(labels, point, np.zeros(n_points, np.int32))
    return kernels.group_modes(labels, point, _counters(n_points, labels))


def add_scores(sums: np.ndarray, scores: np.ndarray, point: np.ndarray, set_id: np.ndarray) -> None:
    """Add what a view's pairs say to what their sets have: float64 [K, C] += float32 [P, C], by point int32 [P].

    set_id: int32 [N], 0 … K - 1.
    """
    kernels.add_rows(sums, set_id[point], scores)


def count(labels: np.ndarray, point: np.ndarray, set_id: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 [K, C]: pairs of each class in each set, for labels that come without scores; 255 doesn't count."""
    known = labels != NO_LABEL
    cell = set_id[point[known]].astype(np.int64) * n_classes + labels[known]
    shape = int(set_id.max(initial=-1)) + 1, n_classes
    return np.bincount(cell, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)


def elected(votes: np.ndarray) -> np.ndarray:
    """The class of each set, uint8 [K], by its votes [K, C]: the most, the lowest of equals; 255 where all are 0."""
    return np.where(votes.any(axis=1), votes.argmax(axis=1), NO_LABEL).astype(np.uint8)


def set_ceiling(truth: np.ndarray, set_id: np.ndarray) -> np.ndarray:
    """The best that one label a set can do: every set gets the majority of its true labels. For evaluation only.

    truth: uint8 [N], 255 = none. set_id: int [N]; a point in no set (negative) keeps its label. Returns uint8 [N].
    """
    every = np.arange(len(truth), dtype=np.int32)
    return vote(truth, every, np.array([0, len(truth)]), set_id)


def _counters(groups: int, labels: np.ndarray) -> np.ndarray:
    # NumPy's zeros cost nothing until they are touched; the compiler's own are written at once.
    return np.zeros((groups, int(labels.max(initial=0, where=labels != NO_LABEL)) + 1), np.int32)


def _checked(labels: np.ndarray, point: np.ndarray, set_id: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if labels.dtype != np.uint8 or labels.shape != point.shape:
        raise ValueError(
            f"labels: expected uint8 {list(point.shape)}, one a pair, found {labels.dtype} {list(labels.shape)}"
        )
    if point.size and (point.min() < 0 or point.max() >= len(set_id)):
        raise ValueError(f"point: expected 0 to {len(set_id) - 1}, found {point.min()} to {point.max()}")
    if set_id.dtype != np.int32 or has_wide_gaps(set_id):
        set_id = compact_ids(set_id)
    return np.ascontiguousarray(labels), np.ascontiguousarray(point, np.int32), np.ascontiguousarray(set_id)
