"""The scanned surface of a room: its solids' union, meshed on a grid as a fused scan is."""

from dataclasses import dataclass

import numpy as np
from skimage.measure import marching_cubes

from hicl.pipeline.kernels.paint import paint
from hicl.pipeline.kernels.raster import distance_grid, local_frames, nearest_solid
from hicl.pipeline.miniature.rooms import Room
from hicl.pipeline.miniature.solids import Packed

CELL = 0.05  # metres; keeps rooms between about 15k and 35k vertices
BAND = 0.25  # distances are known this near to a surface: ambient shadow looks this far


@dataclass(frozen=True)
class Field:
    """Signed distances f4 [nx, ny, nz] of a room's solids on a grid; node (i, j, k) is at origin + CELL·(i, j, k)."""

    origin: np.ndarray
    values: np.ndarray

    def openness(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """How free the space before surface points is, 0..1 float64 [N]: corners and undersides come out dark."""
        reach = 0.6 * BAND
        ijk = np.rint((points + reach * normals - self.origin) / CELL).astype(int)
        ijk = np.clip(ijk, 0, np.array(self.values.shape) - 1)
        return np.clip(self.values[tuple(ijk.T)] / reach, 0.0, 1.0)


@dataclass(frozen=True)
class Surface:
    """A mesh. xyz: float64 [N, 3] room frame; normal: float64 [N, 3]; faces: int32 [T, 3]; solid: int32 [N]."""

    xyz: np.ndarray
    normal: np.ndarray
    faces: np.ndarray
    solid: np.ndarray


def distance_field(room: Room, solids: Packed) -> Field:
    """The distances from just below the floor to the ceiling. The grid ends inside the walls, so only their inner
    faces become surface."""
    w, d, h = room.extent
    # An odd start: surfaces that lie on grid nodes would make slivers of triangles.
    origin = np.array([-0.087, -0.083, -0.091])
    shape = tuple(int(np.ceil((e + 0.17) / CELL)) + 1 for e in (w, d, h))
    values = np.full(shape, BAND, np.float32)
    distance_grid(origin, CELL, values, *solids.shape, BAND)
    return Field(origin, values)


def surface(field: Field, solids: Packed, top: float) -> Surface:
    """Mesh the zero level below `top` metres (the ceiling stays out, as in most scans)."""
    levels = int((top - field.origin[2]) / CELL)
    vertex, faces, _, _ = marching_cubes(field.values[:, :, :levels], 0.0, allow_degenerate=False)
    xyz = vertex.astype(np.float64) * CELL + field.origin
    solid, _ = nearest_solid(xyz, *solids.shape)
    _, local = local_frames(xyz, solid, *solids.shape)
    normal = np.einsum("nab,nb->na", solids.axes[solid], local)
    return Surface(xyz, normal, faces.astype(np.int32), solid)


def albedo(points: np.ndarray, solid: np.ndarray, solids: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Texture colour float32 [N, 3] and room-frame normal float64 [N, 3] at surface points float64 [N, 3]."""
    local, normal = local_frames(points, solid, *solids.shape)
    color = paint(local, normal, solid, solids.size, solids.texture, solids.color, solids.detail)
    return color, np.einsum("nab,nb->na", solids.axes[solid], normal)
