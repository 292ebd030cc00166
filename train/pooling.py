"""One answer a geometric set: the mean over its points of the network's log-probabilities, and what images say of it.

A score is the inner product of a feature with a text, and the log-softmax of a point's scores takes the same number off
all of them. So the mean of log-probabilities over points is, but for one number a set, the score of the mean feature:
pooling features pools log-probabilities, for any words; and so does pooling what a linear head makes them of.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache.schema import NO_LABEL

if TYPE_CHECKING:  # those who ask images alone do without
    import torch

# What every class has beside what the images give it, where that is multiplied with a network's probabilities.
DOUBT = 0.02


def set_means(
    pieces: Iterable[tuple[np.ndarray, "torch.Tensor"]], voxel_of_point: np.ndarray, sets: np.ndarray
) -> "torch.Tensor":
    """The mean feature of the points of each set, every point having its voxel's.

    Args:
        pieces: (voxels [n], their features [n, d]) that hold every voxel once.
        voxel_of_point: [N] int.
        sets: [N] int, the set of each point, from 0; small numbers, since there is a row for each.

    Returns:
        [K, d] float32, K one more than the largest number in `sets`; a set without points gets 0.

    Raises:
        ValueError: `sets` is not an integer from 0 on for each point.
    """
    import torch

    if sets.shape != voxel_of_point.shape or sets.dtype.kind not in "iu" or (len(sets) and sets.min() < 0):
        raise ValueError(
            f"sets: expected whole numbers from 0, [{len(voxel_of_point)}], found {sets.dtype} {sets.shape}"
        )
    n_sets = int(sets.max()) + 1
    # A voxel's feature counts once for each of its points, which may be of several sets.
    cell, count = np.unique(voxel_of_point.astype(np.int64) * n_sets + sets, return_counts=True)
    voxel, owner = np.divmod(cell, n_sets)
    place = np.full(int(voxel[-1]) + 1, -1)
    sums = torch.empty(0)
    for rows, features in pieces:
        if not len(sums):
            sums = features.new_zeros(n_sets, features.shape[1], dtype=torch.float64)
        place[:] = -1
        place[rows] = np.arange(len(rows))
        found = np.flatnonzero(place[voxel] >= 0)
        row, into, times = (
            torch.from_numpy(values).to(features.device) for values in (place[voxel[found]], owner[found], count[found])
        )
        sums.index_add_(0, into, features[row].double() * times[:, None])
    points = torch.from_numpy(np.bincount(sets, minlength=n_sets)).to(sums.device)
    return (sums / points.clamp(min=1)[:, None]).float()


def image_labels(
    label: np.ndarray, set_of_pair: np.ndarray, sets: np.ndarray, spread: np.ndarray | None, n_classes: int
) -> np.ndarray:
    """What all images say of each set, in probabilities: half its pairs' labels by their shares, half its spread label.

    The spread label is the class that all images together think best, and more often right than the largest share; the
    shares say how much there is to doubt.

    Args:
        label: uint8 [P], pairs/raw, 255 = none. set_of_pair: int [P]. sets: int [N].
        spread: uint8 [N], points/spread, the same for all points of a set, 255 = none; None in a cache without: shares
            alone.

    Returns:
        float32 [K, n_classes], rows that add up to 1, or 0 where no pair of the set has a label.
    """
    n_sets, known = int(sets.max()) + 1, label != NO_LABEL
    cells = set_of_pair[known].astype(np.int64) * n_classes + label[known]
    votes = np.bincount(cells, minlength=n_sets * n_classes).reshape(n_sets, n_classes)
    total = votes.sum(axis=1)
    shares = (votes / np.maximum(total, 1)[:, None]).astype(np.float32)
    if spread is not None:
        winner = np.full(n_sets, NO_LABEL)
        winner[sets] = spread
        labelled = np.flatnonzero((winner != NO_LABEL) & (total > 0))
        shares[labelled] /= 2
        shares[labelled, winner[labelled]] += 0.5
    return shares
