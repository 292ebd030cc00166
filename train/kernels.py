"""The trainer's kernels: voxels of a point cloud, and what the pairs say about each voxel.

The switchboard below is the trainer's own, because `pipeline` and `train` never import each other.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.train import products

F = TypeVar("F", bound=Callable[..., Any])

MOST_VOXELS = 1 << 20  # along an axis: three such numbers make one key
GRID_MULTIPLE = 16  # the network halves its grid four times


_NOT_FINITE, _TOO_LARGE, _FULL = -1, -2, -3
_CELLS_AT_FIRST = 1 << 20  # in the table of voxels: most clouds have several points a voxel


def kernel(function: F) -> F:
    """The function compiled, in numba's cache beside its own file."""
    compiled: Any = numba.njit(cache=True, fastmath=False, nogil=True, error_model="numpy")(function)
    return compiled


@kernel
def _voxelise(xyz, voxel_size, most, box, representative, voxel_of_point):
    """Number the cells that hold points in the order of their first ones, `most` of them; returns how many, or what is
    wrong. box f8 [2, 3] gets the cloud's corners.

    Cells are found by open addressing. Eight cells in a row share a line of the processor's cache, since points that
    follow each other in a scan are mostly near each other.
    """
    n = len(xyz)
    low, high = box
    low[:], high[:] = np.inf, -np.inf
    for i in range(n):
        for axis in range(3):
            value = np.float64(xyz[i, axis])
            if not np.isfinite(value):
                return _NOT_FINITE
            low[axis], high[axis] = min(low[axis], value), max(high[axis], value)
    for axis in range(3):
        if (high[axis] - low[axis]) / voxel_size >= MOST_VOXELS:
            return _TOO_LARGE
    size = 16
    while size < 2 * most:
        size *= 2
    groups = np.uint64(size // 8 - 1)
    keys, voxels = np.empty(size, np.int64), np.full(size, -1, np.int32)
    count = 0
    for i in range(n):
        # float64: in float32 a shared division can put equal points of two copies of a scene in different cells.
        x = np.int64((np.float64(xyz[i, 0]) - low[0]) / voxel_size)
        y = np.int64((np.float64(xyz[i, 1]) - low[1]) / voxel_size)
        z = np.int64((np.float64(xyz[i, 2]) - low[2]) / voxel_size)
        key = (x << 40) | (y << 20) | z
        h = np.uint64(key >> 3) * np.uint64(0x9E3779B97F4A7C15)
        slot = np.int64(((h >> np.uint64(32)) & groups) << np.uint64(3)) | (key & 7)
        while voxels[slot] >= 0 and keys[slot] != key:
            slot = (slot + 1) & (size - 1)
        if voxels[slot] < 0:
            if count == most:
                return _FULL
            keys[slot] = key
            voxels[slot] = count
            representative[count] = i
            count += 1
        voxel_of_point[i] = voxels[slot]
    return count


@kernel
def _cells_of(xyz, points, voxel_size, low):
    """The cells i4 [V, 3] of some points."""
    out = np.empty((len(points), 3), np.int32)
    for v in range(len(points)):
        for axis in range(3):
            out[v, axis] = np.int64((np.float64(xyz[points[v], axis]) - low[axis]) / voxel_size)
    return out


@kernel
def _histogram(indptr, views, point, label, voxel_of_point, out):
    """Adds a view's labelled pairs to the histograms of their voxels; returns how many, or -1 - view on bad data."""
    n_points, n_classes = len(voxel_of_point), out.shape[1]
    total = 0
    for view in views:
        for k in range(indptr[view], indptr[view + 1]):
            c = label[k]
            if c == NO_LABEL:
                continue
            p = point[k]
            if c >= n_classes or p < 0 or p >= n_points:
                return -1 - view
            out[voxel_of_point[p], c] += 1
            total += 1
    return total


@kernel
def _add_rows(histogram, set_id, out):
    for v in range(len(histogram)):
        for c in range(histogram.shape[1]):
            out[set_id[v], c] += histogram[v, c]


def voxelise(xyz: np.ndarray, voxel_size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels of a point cloud.

    Replaces MinkowskiEngine's sparse_quantize (CLIP2Scene `pretrain/dataloader_scannet.py`): like it, a voxel's
    colour and set are those of one representative point; unlike it, always the first, so that the result depends on
    nothing but the points.

    Args:
        xyz: [N, 3] float32 or float64, metres.
        voxel_size: metres.

    Returns:
        coords [V, 3] int32, ≥ 0, counted from the cloud's lower corner, each once, in the order of their first
        points; representative [V] int64, the first point of each voxel; voxel_of_point [N] int32.

    Raises:
        ValueError: no points, a coordinate that isn't finite, or more than 2^20 voxels along an axis.
    """
    xyz, box = np.ascontiguousarray(xyz), np.empty((2, 3))
    representative, voxel_of_point = np.empty(len(xyz), np.int64), np.empty(len(xyz), np.int32)
    most, count = min(len(xyz), _CELLS_AT_FIRST), _FULL if len(xyz) else _NOT_FINITE
    while count == _FULL:
        count = _voxelise(xyz, float(voxel_size), most, box, representative, voxel_of_point)
        most = min(4 * most, len(xyz))
    if count == _NOT_FINITE:
        raise ValueError("points must be finite, and at least one")
    if count == _TOO_LARGE:
        raise ValueError(f"a scene of {np.ptp(box, axis=0).max():.0f} m is too large for voxels of {voxel_size} m")
    representative = representative[:count].copy()
    return _cells_of(xyz, representative, float(voxel_size), box[0]), representative, voxel_of_point


@kernel
def _add_values(values, voxel_of_point, sums, counts):
    for i in range(len(values)):
        v = voxel_of_point[i]
        counts[v] += 1
        for c in range(values.shape[1]):
            sums[v, c] += values[i, c]


def voxel_means(values: np.ndarray, voxel_of_point: np.ndarray, n_voxels: int) -> np.ndarray:
    """The mean of values [N, c] over the points of each voxel, float32 [n_voxels, c]; every voxel holds a point."""
    sums, counts = np.zeros((n_voxels, values.shape[1])), np.zeros(n_voxels, np.int64)
    _add_values(values, voxel_of_point, sums, counts)
    return (sums / counts[:, None]).astype(np.float32)


def voxel_features(values: np.ndarray, representative: np.ndarray, voxel_of_point: np.ndarray, kind: str) -> np.ndarray:
    """The voxels' features [V, c] from the points' [N, c], by `StreamConfig.colour`; the rest is `voxelise`'s."""
    return values[representative] if kind == "first" else voxel_means(values, voxel_of_point, len(representative))


def label_histogram(
    indptr: np.ndarray,
    views: np.ndarray,
    point: np.ndarray,
    label: np.ndarray,
    voxel_of_point: np.ndarray,
    n_voxels: int,
    n_classes: int,
) -> np.ndarray:
    """How often the pairs of the chosen views give each class to each voxel.

    The sum of Eq. 1 over pairs needs no more than this: its cost doesn't grow with the number of views.

    Args:
        indptr: [F+1] int64, start of each view's pairs.
        views: [k] int64, chosen views.
        point, label: [P] int32 and uint8, of all pairs; label 255 counts for nothing.
        voxel_of_point: [N] int32.

    Returns:
        [n_voxels, n_classes] int32.

    Raises:
        ValueError: a pair whose point or label doesn't exist.
    """
    out = np.zeros((n_voxels, n_classes), np.int32)
    total = _histogram(indptr, np.asarray(views, np.int64), point, label, voxel_of_point, out)
    if total < 0:
        raise ValueError(f"view {-1 - total} holds a pair whose point or label is out of range")
    return out


def majority_labels(histogram: np.ndarray) -> np.ndarray:
    """[n] int64: the class that most pairs of each row [n, C] name, the lowest of equals; 255 where there is none."""
    return np.where(histogram.any(axis=1), histogram.argmax(axis=1), NO_LABEL)


def masked_labels(indptr: np.ndarray, views: np.ndarray, label: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels after a vote in each mask of each chosen view, uint8 [P]; a pair in no mask keeps its own.

    Args:
        indptr: [F+1] int64. views: [k] int64. label, mask: [P] uint8, 255 = none, and int32, 0 or less = none.
    """
    voted = label.copy()
    for view in views:
        own = slice(indptr[view], indptr[view + 1])
        numbers, place = np.unique(mask[own], return_inverse=True)
        cells = np.bincount(place * (NO_LABEL + 1) + label[own], minlength=len(numbers) * (NO_LABEL + 1))
        best = majority_labels(cells.reshape(len(numbers), NO_LABEL + 1)[:, :NO_LABEL])
        voted[own] = np.where(mask[own] > 0, best[place], label[own])
    voted.flags.writeable = False  # as a cache's reader gives labels, for which the kernels are compiled
    return voted


def token_labels(histogram: np.ndarray, set_id: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The label of each token: of its voxel's own pairs, or where no chosen view shows it, of its set's.

    Args:
        histogram: [V, C] int32, of `label_histogram`.
        set_id: [V] int, the set of each voxel, from 0.
        tokens: [M] int64, rows of voxels.

    Returns:
        [M] int64, 255 where not even the set has a label.
    """
    of_set = np.zeros((int(set_id.max()) + 1, histogram.shape[1]), np.int64)
    _add_rows(histogram, set_id, of_set)
    own = majority_labels(histogram[tokens])
    return np.where(own != NO_LABEL, own, majority_labels(of_set[set_id[tokens]]))


def grid_shape(coords: np.ndarray) -> list[int]:
    """Extent (x, y, z) of a sparse tensor that holds the voxel coordinates [V, 3].

    Rounded up to a multiple of 16: spconv drops the last odd layer of voxels in a stride-2 convolution, where
    MinkowskiEngine keeps it (its strided coordinate is floor(x / 2)).
    """
    return [int(-(-(extent + 1) // GRID_MULTIPLE) * GRID_MULTIPLE) for extent in coords.max(axis=0)]


def warm_up() -> None:
    """Compile the kernels into numba's cache: done once before workers start, as parallel first runs can crash."""
    _, _, voxel = voxelise(np.zeros((1, 3), np.float32), 1.0)
    voxel_means(np.zeros((1, 3), np.float32), voxel, 1)
    one = np.zeros(1, np.int32)
    read = [np.array([0, 1]), one.copy(), one.astype(np.uint8)]  # as a cache's reader gives them
    for array in read:
        array.flags.writeable = False
    indptr, point, label = read
    histogram = label_histogram(indptr, np.zeros(1, np.int64), point, label, voxel, 1, 1)
    token_labels(histogram, one, one)
    products.warm_up()
