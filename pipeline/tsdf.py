"""A mesh from posed RGB-D frames, for scenes that come without one: the zero level of signed distances."""

from collections.abc import Iterable

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.scene import Camera, Points
from hicl.pipeline.fusion import View, usable
from hicl.pipeline.kernels import fuse, marching
from hicl.pipeline.kernels import tsdf as kernels


def fuse_mesh(
    frames: Iterable[tuple],
    depth_camera: Camera,
    color_camera: Camera,
    voxel: float = 0.02,
    max_depth: float = 4.0,
    min_hits: int = 3,
    min_piece: int = 100,
    max_jump: float = 0.03,
    truncation: float = 4.0,
) -> Points:
    """The zero level of truncated signed distances (Curless and Levoy, SIGGRAPH 1996), as triangles with colours.

    Distances are kept on blocks of 8 x 8 x 8 voxels that lie near a surface (Nießner et al., Real-time 3D
    Reconstruction at Scale using Voxel Hashing, TOG 32, 2013), and meshed by marching cubes.

    Args:
        frames, max_depth, max_jump: as of `fuse_depth`.
        voxel: metres.
        min_hits: frames that must have seen each of a cell's corners.
        min_piece: vertices; pieces of the mesh that have fewer are left out.
        truncation: voxels before and behind a surface in which distances are kept. What is thinner than this is eaten
            away from behind; noise of more than this makes a second surface.

    Returns:
        xyz float32 [N, 3], rgb uint8 [N, 3] and faces int32 [T, 3], counter-clockwise as seen from the cameras; the
        same for the same frames. Memory grows with the surface met, 13 KB a block.

    Raises:
        FrameError: an image of another size than its camera's.
        HiclError: nothing is left.
    """
    grid, reach = _Blocks(), truncation * voxel
    for view in usable(frames, depth_camera, color_camera, max_depth, max_jump):
        grid.add(view, float(voxel), reach)
    xyz, rgb, faces = grid.mesh(voxel, min_hits)
    kept = large_pieces(faces, len(xyz), min_piece)
    if not kept.any():
        raise HiclError(
            f"depth fusion: no surface of {min_piece} vertices of {voxel} m was seen by {min_hits} frames; "
            f"check that depth is in metres (within {max_depth}), poses are camera to world, and intrinsics fit"
        )
    number = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    return Points(xyz[kept], rgb[kept], number[faces[kept[faces[:, 0]]]], keep_faces=True)


def large_pieces(faces: np.ndarray, n_vertices: int, least: int) -> np.ndarray:
    """Which vertices are of a connected piece of at least `least` vertices, bool [N]. faces: int32 [T, 3]."""
    piece = marching.pieces(faces, n_vertices)
    return np.bincount(piece, minlength=n_vertices)[piece] >= least


class _Blocks:
    """The blocks met so far, as rows in the order of their appearance. Rows past `at[0]` are zero."""

    def __init__(self) -> None:
        self.slots = np.full(1 << 12, fuse.EMPTY, np.int32)
        self.keys = np.zeros(1 << 10, np.int64)
        self.last = np.zeros(1 << 10, np.int32)
        self.sums = np.zeros((1 << 10, kernels.VOXELS, kernels.SUMS), np.float32)
        self.hits = np.zeros((1 << 10, kernels.VOXELS), np.uint16)
        self.at = np.zeros(2, np.int64)

    def add(self, view: View, voxel: float, reach: float) -> None:
        rows = np.empty(0, np.int32)
        count = -1
        while count < 0:
            rows = np.empty(len(self.keys), np.int32)
            found = self.slots, self.keys, self.last, self.at, rows
            ray = view.depth, view.keep, view.pose, view.depth_camera
            count = kernels.touch(*ray, kernels.SIDE * voxel, reach, *found)
            if count < 0:
                self._grow()
        self.at[1] += 1
        camera = np.linalg.inv(view.pose), view.depth_camera, view.color_camera
        stored = self.keys, self.sums, self.hits
        kernels.integrate(view.color, view.depth, view.keep, *camera, voxel, reach, rows[:count], *stored)

    def _grow(self) -> None:
        more = len(self.keys) // 2
        for name in ("keys", "last", "sums", "hits"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)]))
        self.slots = np.empty(1 << (2 * len(self.keys) - 1).bit_length(), np.int32)
        fuse.rehash(self.slots, self.keys, int(self.at[0]))
        self.last[:] = -1  # the frame is gone through again

    def mesh(self, voxel: float, min_hits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(self.keys[: self.at[0]], kind="stable")
        stored = self.slots, self.keys[: self.at[0]], self.sums, self.hits
        return marching.march(order, *stored, float(voxel), min_hits, marching.COUNT, marching.EDGES)
