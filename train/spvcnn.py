"""SPVCNN on sparse voxels: the network for streets.

Architecture: CLIP2Scene `model/spvcnn.py` (the network of the paper's nuScenes experiments), which is SPVNAS'
`core/models/semantic_kitti/spvcnn.py` with its widths. Where we differ: spconv instead of torchsparse, one head
(480 -> d) instead of CLIP2Scene's three, and the corners that exist share the whole weight of a devoxelised point.

Its points are the voxels themselves, each at its lower corner, as both originals have it: they quantise the cloud
before the network sees it. So at stride 1 voxels and points are the same, and the point-voxel layers do their work at
strides 4 and 16. Points at their measured places would be half as many again (26,414 in 17,731 voxels of 0.1 m, on a
real key frame), and at stride 1 only a quarter of the weight of their corners would fall on voxels that exist: finer by
less than a voxel, at half as much work again, and not the published network.
"""

from collections.abc import Iterator

import torch
from torch import nn

from hicl.train.layers import (
    LEVELS,
    SparseConvTensor,
    algorithm,
    as_before,
    convolve_norm_relu,
    decode,
    in_order,
    initialise,
    levels,
    subm,
)
from hicl.train.voxelpoints import Corners

PLANES = (32, 64, 128, 256, 256, 128, 96, 96)
# Counted on the published architecture, of one input channel: 21.77 M, and 22.02 M with one 512-d head.
PUBLISHED_TRUNK_PARAMETERS = 21_773_568


class SPVCNN(nn.Module):
    """Sparse U-Net with four stride-2 levels of two BasicBlocks, and a branch of points beside it.

    The branch takes the features of strides 16, 4 and 1 in turn, hands back what it made of the first two, and gives
    the three side by side to the head.

    Args: as of `MinkUNet`; in_channels: 1 for intensity; bn_momentum: PyTorch's 0.1 in the originals.
    """

    # As of `MinkUNet`: two blocks a level, two stem convolutions, and a corner of strides 4 and 16 more.
    REACH = 202

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 512,
        stem: int = 32,
        planes: tuple[int, ...] = PLANES,
        bn_momentum: float = 0.1,
        device_type: str = "cpu",
    ):
        super().__init__()
        algo = algorithm(device_type)
        self.stem = nn.ModuleList([subm(width, stem, 0, algo) for width in (in_channels, stem)])
        self.stem_bn = nn.ModuleList([nn.BatchNorm1d(stem, momentum=bn_momentum) for _ in self.stem])
        made = levels(stem, planes, 2, algo, bn_momentum)
        self.down, self.down_bn, self.encoder, self.up, self.up_bn, self.decoder = made
        widths = stem, planes[LEVELS - 1], planes[LEVELS + 1], planes[-1]
        self.points = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, momentum=bn_momentum), nn.ReLU())
            for inputs, outputs in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(sum(widths[1:]), out_channels)
        initialise(self)

    def forward(self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]) -> torch.Tensor:
        """Features of voxels; arguments and result as of `MinkUNet.forward`."""
        with torch.autocast(coords.device.type, enabled=False):
            return self.head(self.trunk(coords, features, batch_size, grid))

    def trunk_parts(
        self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """As of `MinkUNet`: here one part, since the point branch joins features of all levels."""
        yield slice(0, len(coords)), self.trunk(coords, features, batch_size, grid)

    def trunk(self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]) -> torch.Tensor:
        """What the head reads: of each voxel the branch's three features side by side, float32."""
        with torch.autocast(coords.device.type, enabled=False):  # as there
            coords, features, back = in_order(coords, features)
            x = SparseConvTensor(features.float(), coords, list(grid), batch_size)
            for conv, bn in zip(self.stem, self.stem_bn, strict=True):
                x = convolve_norm_relu(conv, bn, x)
            z, skips = [x.features], []
            for down, bn, blocks in zip(self.down, self.down_bn, self.encoder, strict=True):
                skips.append(x)
                x = blocks(convolve_norm_relu(down, bn, x))
            ups = list(zip(self.up, self.up_bn, self.decoder, strict=True))
            for branch, stride in zip(self.points, (16, 4, 1), strict=True):
                corners = Corners(coords, x.indices, stride) if stride > 1 else None
                at_points = corners.devoxelise(x.features) if corners else x.features
                z.append(at_points + branch(z[-1]))
                if corners:
                    x = x.replace_feature(corners.voxelise(z[-1]))
                    for up, bn, blocks in (ups.pop(0), ups.pop(0)):
                        x = decode(up, bn, blocks, x, skips.pop())
            read = torch.cat(z[1:], dim=1)
            return as_before(read, back)
