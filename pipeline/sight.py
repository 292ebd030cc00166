"""Which way the cameras lie from each point of a cloud: where nothing else tells the two sides of its surface apart."""

import numpy as np
from scipy.spatial import cKDTree


def toward_cameras(xyz: np.ndarray, poses: np.ndarray, indptr: np.ndarray, point: np.ndarray) -> np.ndarray:
    """From each point the sum of the unit vectors to the cameras that see it; where none does, to the nearest camera.

    xyz: float32 [N, 3]. poses: float64 [F, 4, 4], camera to world, F > 0. indptr: int64 [F + 1] and point: int32 [P], a
    point at most once a view. Returns float32 [N, 3], of any length.
    """
    toward = np.zeros((len(xyz), 3))
    cameras = poses[:, :3, 3]
    for camera, start, end in zip(cameras, indptr[:-1], indptr[1:], strict=True):
        seen = point[start:end]
        sight = camera - xyz[seen]
        toward[seen] += sight / np.maximum(np.linalg.norm(sight, axis=1, keepdims=True), 1e-9)
    unseen = np.ones(len(xyz), bool)
    unseen[point] = False
    _, nearest = cKDTree(cameras).query(xyz[unseen])
    toward[unseen] = cameras[nearest] - xyz[unseen]
    return toward.astype(np.float32)
