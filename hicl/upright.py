"""Which way is up: networks learn from scans whose z axis is, and know chairs and floors in no other position."""

import numpy as np

from hicl.clouds import extent_of
from hicl.errors import HiclError

UPRIGHT = 0.8  # of the mean of unit vectors: cameras that are held alike, and along an axis


def axis(name: str) -> np.ndarray:
    """float64 [3] of x, y, z, -x, -y or -z. Raises `HiclError` for another name."""
    if name.lstrip("+-") not in ("x", "y", "z") or len(name) > 2:
        raise HiclError(f"--up {name}: unknown; known are x, y, z, -x, -y, -z")
    return np.eye(3)["xyz".index(name[-1])] * (-1 if name[0] == "-" else 1)


def upright(xyz: np.ndarray, up: str) -> np.ndarray:
    """Points [N, 3] turned by the shortest way so that z is up; half a turn is one about x. Raises `HiclError`."""
    upward = axis(up)
    if upward[2] > 0:
        return xyz
    along, sign = int(np.abs(upward).argmax()), upward.sum()
    turned = xyz.copy()
    if along < 2:
        turned[:, 2], turned[:, along] = sign * xyz[:, along], -sign * xyz[:, 2]
    elif sign < 0:
        turned[:, 1:] = -xyz[:, 1:]
    return turned


_CELL, _MOST = 0.1, 20_000  # metres, and points: the normals of so few take a tenth of a second
_ALIGNED = 0.94  # cosine of 20 degrees: scans are held by hand


def lying_axis(xyz: np.ndarray) -> str | None:
    """x or y where a scan's floor seems to lie across that axis and not across z; None where nothing speaks for it.

    xyz: float32 [N, 3], metres. Two things must: the scan is least extended along that axis, as rooms are in their
    height, and much of its surface faces that way, as floors, ceilings and the tops of things do.
    """

    from hicl.pipeline.normals import neighbors, pca_normals
    from hicl.train.kernels import MOST_VOXELS, voxelise

    cell = max(_CELL, 2 * float(extent_of(xyz).max()) / MOST_VOXELS)
    points = xyz[voxelise(xyz, cell)[1]]
    low, high = np.percentile(points, [2, 98], axis=0)
    points = points[:: -(-len(points) // _MOST)]
    facing = (np.abs(pca_normals(points, neighbors(points)[0])) > _ALIGNED).mean(axis=0)
    least = int((high - low).argmin())
    return "xyz"[least] if least < 2 and facing[least] > facing.max() / 2 else None
