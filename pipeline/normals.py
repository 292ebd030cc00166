"""Normals of meshes and clouds, and the neighbours they and the sets of clouds are computed from."""

import numpy as np
from scipy.spatial import cKDTree

from hicl.errors import HiclError
from hicl.pipeline.kernels import normals as kernels


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
    """The k nearest points of each point, itself among them, nearest first.

    xyz: float32 [N, 3], finite. radius: metres; only points nearer than this count.
    Returns index int32 [N, k] and distance float32 [N, k]; past the radius, or with fewer than k points, -1 and inf.
    """
    xyz = np.asarray(xyz)
    if len(xyz) == 0:
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    # A tree without tightened boxes and medians takes a fraction of the time to build and answers as fast on surfaces.
    tree = cKDTree(xyz, compact_nodes=False, balanced_tree=False)
    distance, index = tree.query(xyz, k=np.arange(1, k + 1), distance_upper_bound=radius, workers=1)
    index[index == len(xyz)] = -1
    return index.astype(np.int32), distance.astype(np.float32)


def pca_normals(xyz: np.ndarray, neighbors: np.ndarray, toward: np.ndarray | None = None) -> np.ndarray:
    """Normals of a cloud: the direction in which a point's neighbours vary least.

    xyz: float32 [N, 3]. neighbors: int32 [N, k] as `neighbors` gives them; -1 is left out. toward: float32 [N, 3], from
    the point towards the sensor that saw it, of any length.
    Returns float32 [N, 3] of unit length: the eigenvector of the smallest eigenvalue of the neighbours' covariance,
    pointing to the side of `toward`; without it, with its largest component positive, which orients nothing but is
    always the same. 0 where there is no plane: fewer than three neighbours, or all on one line.

    Source: Hoppe et al., Surface Reconstruction from Unorganized Points, SIGGRAPH 1992, section 3.2. The eigenvector is
    found in float64 by Jacobi rotations, which stay accurate where the closed form loses digits (flat neighbourhoods,
    that is, nearly all of them).
    """
    xyz = np.ascontiguousarray(xyz, np.float32)
    oriented = toward is not None
    if oriented and np.shape(toward) != xyz.shape:
        raise ValueError(f"toward: expected shape {list(xyz.shape)}, found {list(np.shape(toward))}")
    toward = np.ascontiguousarray(toward if oriented else np.zeros((0, 3)), np.float32)
    return kernels.pca_normals(xyz, np.ascontiguousarray(neighbors, np.int32), toward, oriented)
