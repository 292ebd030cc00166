"""Image features fused in 3D, as OpenScene has them (Peng et al., CVPR 2023), from the cache's patch grids.

OpenScene (`scripts/feature_fusion/scannet_openseg.py:74-109`) makes a dense map of features of each image and adds it
up at the points that it shows. Here a pair's feature is interpolated from the four patches around its pixel, as the
teacher's scores are, and added to what owns the pair: a point, or a voxel. So nothing is larger than the result.
"""

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.train.kernels import kernel

_ROWS_AT_ONCE = 1 << 14  # of features that are scored
_LANES = 16  # numbers that are summed up side by side: one after the other, they couldn't be


def fuse(scene: SceneReader) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the image features of each point's pairs, float32 [N, d], and their number, int64 [N].

    Their quotient is the mean, the fused feature; its direction is that of the sum.

    Raises:
        HiclError: the scene has no features, as its labels came from images.
    """
    if not scene.has("features/grid"):
        raise HiclError(
            f"{scene.path}: no features/grid, as its labels came from images; fuse those of `hicl preprocess --teacher"
            " clip`"
        )
    names = ("features/grid", "features/scale", "views/size", "pairs/indptr", "pairs/pixel", "pairs/point")
    grid, scale, size, indptr, pixel, point = (scene.read(name) for name in names)
    view, n = np.repeat(np.arange(len(size), dtype=np.int32), np.diff(indptr)), scene.attributes["counts"]["points"]
    return owned_sums(grid, scale, size, view, pixel, point, n), np.bincount(point, minlength=n)


def owned_sums(
    grid: np.ndarray,
    scale: np.ndarray,
    size: np.ndarray,
    view: np.ndarray,
    pixel: np.ndarray,
    owner: np.ndarray,
    n_owners: int,
    unit: bool = False,
) -> np.ndarray:
    """The sum of the image features of each owner's pairs: float32 [n_owners, d].

    Args:
        grid: int8 [F, h, w, d], and scale: float32 [F, h, w], the patches. size: int32 [F, 2], height and width.
        view: int32 [P], of each pair. pixel: uint16 [P, 2], inside its view. owner: int [P], from 0.
        unit: each pair's feature has unit length; else an interpolated one is as long as the patches around it agree.
    """
    owner = np.ascontiguousarray(owner, np.int32)
    sums = np.zeros((n_owners, grid.shape[3]), np.float32)
    # Those of one owner after another: its sum then stays in the processor's cache.
    order = _order(owner, np.bincount(owner, minlength=n_owners))
    _add_features(grid.reshape(-1, grid.shape[3]), scale, size, view, pixel, owner, order, unit, sums)
    return sums


def fused_classes(scene: SceneReader, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class that is nearest to the fused feature of each point, and its cosine: int64 and float32 [N].

    A point that no image shows has class 255 and cosine -1. text: float32 [C, d], rows of unit length.
    """
    sums, count = fuse(scene)
    label, cosine = best_cosines(sums, text)
    return np.where(count > 0, label, NO_LABEL), np.where(count > 0, cosine, np.float32(-1))


def best_cosines(features: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The text [C, d] with the largest cosine to each feature [N, d], and that cosine: int64 and float32 [N]."""
    label, cosine = np.empty(len(features), np.int64), np.empty(len(features), np.float32)
    for first in range(0, len(features), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        scores, length = features[rows] @ text.T, np.linalg.norm(features[rows], axis=1)
        label[rows] = scores.argmax(axis=1)
        cosine[rows] = scores.max(axis=1) / np.maximum(length, np.finfo(np.float32).tiny)
    return label, cosine


@kernel
def _order(owner, count):
    """i8 [P]: the pairs of owner 0 first, then of 1, …, each in the order they had; count i8 [n], of each owner."""
    order, at = np.empty(len(owner), np.int64), np.cumsum(count) - count
    for p in range(len(owner)):
        order[at[owner[p]]] = p
        at[owner[p]] += 1
    return order


@kernel
def _add_features(flat, scale, size, view, pixel, owner, order, unit, sums):
    """flat i1 [F h w, d], scale f4 [F, h, w], size i4 [F, 2], view i4 [P], pixel u2 [P, 2], owner i4 [P], order i8 [P]
    of the pairs, sums f4 [n, d]."""
    _, h, w = scale.shape
    d = flat.shape[1]
    one, lanes, whole = np.empty(d, np.float32), np.empty(_LANES, np.float32), np.float32(1)
    for p in order:
        v, own = view[p], sums[owner[p]]
        y, y1, down = _tap(pixel[p, 0], size[v, 0], h)
        x, x1, right = _tap(pixel[p, 1], size[v, 1], w)
        up, left, at = whole - down, whole - right, scale[v]
        a, b = up * left * at[y, x], up * right * at[y, x1]
        c, e = down * left * at[y1, x], down * right * at[y1, x1]
        upper, lower = (v * h + y) * w, (v * h + y1) * w
        ra, rb, rc, re = flat[upper + x], flat[upper + x1], flat[lower + x], flat[lower + x1]
        if not unit:
            for k in range(d):
                own[k] += a * ra[k] + b * rb[k] + c * rc[k] + e * re[k]
            continue
        for k in range(d):
            one[k] = a * ra[k] + b * rb[k] + c * rc[k] + e * re[k]
        lanes[:] = 0
        for k in range(0, d - d % _LANES, _LANES):
            for m in range(_LANES):
                lanes[m] += one[k + m] * one[k + m]
        for k in range(d - d % _LANES, d):
            lanes[0] += one[k] * one[k]
        factor = whole / np.sqrt(max(lanes.sum(), np.float32(1e-30)))
        for k in range(d):
            own[k] += factor * one[k]


@kernel
def _tap(fine, extent, coarse):
    """The two of `coarse` cells around the centre of pixel `fine` of `extent`, and the second one's share: bilinear
    interpolation as of torch's `interpolate(align_corners=False)`."""
    x = min(max((fine + 0.5) * coarse / extent - 0.5, 0.0), coarse - 1.0)
    lower = min(np.int64(x), max(coarse - 2, 0))
    return lower, min(lower + 1, coarse - 1), np.float32(x - lower)


def warm_up() -> None:
    """Compile the kernel, as `kernels.warm_up`."""
    grid, scale, size = np.zeros((1, 1, 1, 1), np.int8), np.zeros((1, 1, 1), np.float32), np.ones((1, 2), np.int32)
    for array in (grid, scale, size):
        array.flags.writeable = False  # as a cache's reader gives them
    one = np.zeros(1, np.int32)
    owned_sums(grid, scale, size, one, np.zeros((1, 2), np.uint16), one, 1)
