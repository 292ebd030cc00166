"""The trainer's kernels: voxels of a point cloud, and what the pairs say about each voxel.

The switchboard below is the trainer's own, because `pipeline` and `train` never import each other.
"""

from functools import partial

import numba
import numpy as np

from hicl.cache.schema import NO_LABEL

kernel = partial(numba.njit, cache=True, fastmath=False, nogil=True, error_model="numpy")

MOST_VOXELS = 1 << 20  # along an axis: three such numbers make one key
GRID_MULTIPLE = 16  # the network halves its grid four times


@kernel
def _voxelise(cells, order_out, voxel_of_point):
    """Open-addressing hash over packed cell keys; voxels in the order in which their first point appears."""
    n = len(cells)
    size = 16
    while size < 2 * n:
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    count = 0
    for i in range(n):
        key = cells[i]
        h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        slot = (h >> np.uint64(20)) & mask
        while True:
            voxel = table[slot]
            if voxel < 0:
                table[slot] = count
                order_out[count] = i
                voxel_of_point[i] = count
                count += 1
                break
            if cells[order_out[voxel]] == key:
                voxel_of_point[i] = voxel
                break
            slot = (slot + np.uint64(1)) & mask
    return count


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
    if len(xyz) == 0 or not np.isfinite(xyz).all():
        raise ValueError("points must be finite, and at least one")
    # float64: in float32 a shared division can put equal points of two copies of a scene in different cells.
    scaled = (np.asarray(xyz, np.float64) - xyz.min(axis=0).astype(np.float64)) / voxel_size
    if scaled.max() >= MOST_VOXELS:
        raise ValueError(f"a scene of {scaled.max() * voxel_size:.0f} m is too large for voxels of {voxel_size} m")
    coords = scaled.astype(np.int64)
    cells = (coords[:, 0] << 40) | (coords[:, 1] << 20) | coords[:, 2]
    representative = np.empty(len(cells), np.int64)
    voxel_of_point = np.empty(len(cells), np.int32)
    count = _voxelise(cells, representative, voxel_of_point)
    representative = representative[:count].copy()
    return coords[representative].astype(np.int32), representative, voxel_of_point


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
    one = np.zeros(1, np.int32)
    histogram = label_histogram(np.array([0, 1]), np.zeros(1, np.int64), one, one.astype(np.uint8), voxel, 1, 1)
    token_labels(histogram, one, one)
