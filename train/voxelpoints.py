"""Between points and voxels: features of strided voxels at points, and back (SPVNAS `core/models/utils.py`)."""

import torch
from torch.nn import functional as F


class Corners:
    """Where points lie among the voxels of a stride.

    A point's features are those of the eight voxels at its corners, floor(p / stride) + {0, 1}³, weighed trilinearly: a
    voxel's place is its lower corner. A corner without a voxel counts for nothing, and the others share its weight.

    Args:
        points: [n, 4] int: scene, then x, y, z ≥ 0, in voxels of stride 1.
        voxels: [m, 4] int: the strided voxels, in their own grid, each once; every point lies in one of them.
        stride: of the voxels.

    rows: [n, 8] int64, of the corners' voxels; the first is the voxel that the point lies in, and where there is no
    voxel it stands in for it, with weight 0. weights: [n, 8] float64, ≥ 0, a row's sum is 1.
    """

    def __init__(self, points: torch.Tensor, voxels: torch.Tensor, stride: int):
        points, voxels = points.long(), voxels.long()
        scene, place = points[:, :1], points[:, 1:]
        offsets = torch.cartesian_prod(*3 * [torch.arange(2, device=points.device)])
        cells = place[:, None] // stride + offsets  # [n, 8, 3]
        part = (place % stride).double() / stride
        weights = torch.where(offsets.bool(), part[:, None], 1 - part[:, None]).prod(dim=2)
        extent = voxels.amax(dim=0)[1:] + 2  # of all corners
        sorted_keys, order = _keys(voxels[:, 0], voxels[:, 1:], extent).sort()
        wanted = _keys(scene, cells, extent)
        found = torch.searchsorted(sorted_keys, wanted).clamp(max=len(voxels) - 1)
        there = sorted_keys[found] == wanted
        rows = order[found]
        self.rows = torch.where(there, rows, rows[:, :1])
        weights = weights * there
        self.weights = weights / weights.sum(dim=1, keepdim=True)
        self.count = len(voxels)

    def devoxelise(self, x: torch.Tensor) -> torch.Tensor:
        """Features [m, c] of the voxels at the points, [n, c]."""
        return F.embedding_bag(self.rows, x, mode="sum", per_sample_weights=self.weights.to(x.dtype))

    def voxelise(self, z: torch.Tensor) -> torch.Tensor:
        """The mean [m, c] of the points' features [n, c] in each voxel."""
        own = self.rows[:, 0]
        counts = torch.bincount(own, minlength=self.count).clamp(min=1)
        sums = torch.zeros(self.count, z.shape[1], dtype=z.dtype, device=z.device).index_add(0, own, z)
        return sums / counts[:, None]


def _keys(scene: torch.Tensor, cells: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    """A number for each cell [..., 3] below an extent [3]."""
    x, y, z = cells.unbind(dim=-1)
    return ((scene * extent[0] + x) * extent[1] + y) * extent[2] + z
