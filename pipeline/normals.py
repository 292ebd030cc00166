"""Normals of meshes and clouds, and the neighbours they and the sets of clouds are computed from."""

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.kernels import neighbors as grid
from hicl.pipeline.kernels import normals as kernels
from hicl.pipeline.kernels.sort import radix_order


def checked_faces(faces: np.ndarray, n_points: int) -> np.ndarray:
    """`faces` as int32 [T, 3]. Raises `HiclError` if one of them names a vertex that isn't there."""
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces: expected shape [T, 3], found {list(faces.shape)}")
    if faces.size and (faces.min() < 0 or faces.max() >= n_points):
        raise HiclError(
            f"faces: expected vertices 0 to {n_points - 1}, found {faces.min()} to {faces.max()}; the mesh is damaged, "
            "export or download it again"
        )
    return np.ascontiguousarray(faces, np.int32)


def mesh_normals(xyz: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertex normals as the ScanNet Segmentator has them; its sets depend on every bit of them.

    xyz: float32 [N, 3]. faces: int [T, 3]. Returns float32 [N, 3]: the running mean of the unit normals of a vertex's
    faces in the order of the faces, NOT of unit length (see `unit`); 0 where a vertex has no face.
    Raises `HiclError` for a face with a vertex that isn't there.

    Source: ScanNet/ScanNet 3830fce, Segmentator/segmentator.cpp:184-208. Where we differ: a face without area, or with
    a vertex that isn't finite, is skipped; there, it turns its vertices' normals into NaN, and their edges' order in
    the sort is undefined.
    """
    xyz = np.ascontiguousarray(xyz, np.float32)
    return kernels.mesh_normals(xyz, checked_faces(faces, len(xyz)))


def unit(normals: np.ndarray) -> np.ndarray:
    """`normals` ([N, 3]) at length 1, float32; 0 where there is no direction (length 0, or not finite)."""
    normals = np.asarray(normals, np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    usable = (length > 0) & np.isfinite(length)
    return np.divide(normals, length, out=np.zeros_like(normals), where=usable).astype(np.float32)


def neighbors(xyz: np.ndarray, k: int = 16, radius: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest points of each point, itself among them, nearest first, of equals the lower number first.

    xyz: float32 [N, 3], finite. radius: metres; only points nearer than this count.
    Returns index int32 [N, k] and distance float32 [N, k]; past the radius, or with fewer than k points, -1 and inf.

    On a grid whose cells hold a few points each, the 27 cells around a point mostly hold its neighbours. Where they
    can't be sure to, as in the sparse parts of a LiDAR sweep, cells of twice the size are tried, and so on.
    """
    xyz = np.ascontiguousarray(xyz, np.float32)
    n = len(xyz)
    index, distance = np.full((n, k), -1, np.int32), np.full((n, k), np.inf, np.float32)
    if n == 0:
        return index, distance
    if not np.isfinite(xyz).all():
        raise ValueError("xyz: expected finite coordinates")
    low, high = _bulk(xyz)
    open_, limit = np.ones(n, np.bool_), float(radius) ** 2
    cell, keys, order, shape = _fitting_cells(xyz, low, high, k)
    while True:
        reach = cell if (shape > 4).any() else np.inf
        grid.search(xyz, order, keys, low, cell, shape, reach, limit, open_, index, distance)
        if reach == np.inf or not open_.any():
            return index, distance
        cell *= 2
        keys, order, shape = _cells(xyz, low, high, cell)


_POINTS_A_CELL = 0.5  # of k; on a surface the cells around then hold about 4.5 k points, and a circle of k fits inside


def _bulk(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners float64 [3] of a box around nearly all points: a few strays far away must not make its cells large."""
    low, high = np.percentile(xyz[:: max(1, len(xyz) // 10_000)].astype(np.float64), [1, 99], axis=0)
    margin = (high - low).max() / 4
    return low - margin, high + margin


def _fitting_cells(xyz: np.ndarray, low: np.ndarray, high: np.ndarray, k: int) -> tuple:
    """(size of a cell, and what `_cells` returns for it), so that a point shares its cell with a few others."""
    cell, wanted = max(float((high - low).max()) / 256, 1e-9), max(_POINTS_A_CELL * k, 1)
    step = max(1, len(xyz) // 20_000)  # of the others in its cell, a sample shows one in so many
    for _ in range(4):
        keys, _, _ = _cells(xyz[::step], low, high, cell)
        held = np.diff(np.flatnonzero(np.diff(keys, prepend=-1, append=-1))).astype(np.float64)
        shared = 1 + step * (float((held**2).sum() / len(keys)) - 1)
        if wanted / 1.5 < shared < wanted * 1.5:
            break
        cell *= min(max((wanted / shared) ** 0.5, 0.25), 4.0)
    return cell, *_cells(xyz, low, high, cell)


def _cells(
    xyz: np.ndarray, low: np.ndarray, high: np.ndarray, cell: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cell of each point int64 [N], ascending; those points int32 [N]; cells along each axis, with an empty rim)."""
    shape = ((high - low) / cell).astype(np.int64) + 3
    keys = grid.cell_keys(np.ascontiguousarray(xyz), low, cell, shape)
    order = radix_order(keys.astype(np.uint32)) if shape.prod() < 2**32 else np.argsort(keys, kind="stable")
    return keys[order], order.astype(np.int32), shape


def pca_normals(xyz: np.ndarray, neighbors: np.ndarray, toward: np.ndarray | None = None) -> np.ndarray:
    """Normals of a cloud: the direction in which a point's neighbours vary least.

    xyz: float32 [N, 3]. neighbors: int32 [N, k] as `neighbors` gives them; -1 is left out. toward: float32 [N, 3], from
    the point towards the sensor that saw it, of any length.
    Returns float32 [N, 3] of unit length: the eigenvector of the smallest eigenvalue of the neighbours' covariance,
    pointing to the side of `toward`; without it, with its largest component positive, which orients nothing but is
    always the same. 0 where there is no plane: fewer than three neighbours, or all on one line.

    Source: Hoppe et al., Surface Reconstruction from Unorganized Points, SIGGRAPH 1992, section 3.2. In float64.
    """
    xyz = np.ascontiguousarray(xyz, np.float32)
    oriented = toward is not None
    if toward is not None and np.shape(toward) != xyz.shape:
        raise ValueError(f"toward: expected shape {list(xyz.shape)}, found {list(np.shape(toward))}")
    toward = np.ascontiguousarray(toward if toward is not None else np.zeros((0, 3)), np.float32)
    return kernels.pca_normals(xyz, np.ascontiguousarray(neighbors, np.int32), toward, oriented)
