"""MinkUNet14A on sparse voxels: the network for rooms.

Architecture: CLIP2Scene `model/minkunet.py` (MinkUNet14A, the network of the paper's ScanNet experiments), which is
MinkowskiEngine's `examples/minkunet.py`. Where we differ: spconv instead of MinkowskiEngine, and one head (96 -> d)
instead of CLIP2Scene's two, because Eq. 1 to 8 use one feature.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from hicl.train.layers import (
    SparseConvTensor,
    algorithm,
    as_before,
    convolve_norm_relu,
    decode,
    decode_parts,
    in_order,
    initialise,
    levels,
    subm,
)

PLANES = (32, 64, 128, 256, 128, 128, 96, 96)
# Counted on the published architecture (three input channels, kernel-3 stem): 8.01 M, and 8.06 M with one 512-d head.
PUBLISHED_TRUNK_PARAMETERS = 8_013_152


class MinkUNet(nn.Module):
    """Sparse U-Net with four stride-2 levels and one BasicBlock a level.

    Args:
        in_channels: width of the voxel features (3: colour).
        out_channels: d, the teacher's width.
        stem: width of the first convolution (INIT_DIM).
        planes: widths of the eight blocks, four down and four up.
        bn_momentum: weight of the newest batch in the running statistics. MinkowskiEngine hands its momentum to
            torch.nn.BatchNorm1d as it is, so 0.05 means the same here.
        device_type: as of `algorithm`.
    """

    # Voxels that a voxel's features depend on lie within so many of its cell of the coarsest level (16 voxels), along
    # each axis: 2 for a block on each level of the decoder, halved from level to level, then 2 a block of the encoder
    # and 1 for the stem, doubled back.
    REACH = 93

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 512,
        stem: int = 32,
        planes: tuple[int, ...] = PLANES,
        bn_momentum: float = 0.05,
        device_type: str = "cpu",
    ):
        super().__init__()
        algo = algorithm(device_type)
        self.stem = subm(in_channels, stem, 0, algo)
        self.stem_bn = nn.BatchNorm1d(stem, momentum=bn_momentum)
        made = levels(stem, planes, 1, algo, bn_momentum)
        self.down, self.down_bn, self.encoder, self.up, self.up_bn, self.decoder = made
        self.head = nn.Linear(planes[-1], out_channels)
        initialise(self)

    def forward(self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]) -> torch.Tensor:
        """Features of voxels.

        Args:
            coords: [V, 4] int32: scene in the batch, then x, y, z ≥ 0, every row once.
            features: [V, in_channels] float32.
            batch_size: number of scenes.
            grid: from `kernels.grid_shape`: multiples of 16, and all coordinates lie below it.

        Returns:
            [V, out_channels] float32 in the order of `coords`, not normalised (Eq. 1 takes the raw inner product).
        """
        with torch.autocast(coords.device.type, enabled=False):
            return self.head(self.trunk(coords, features, batch_size, grid))

    def trunk(self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]) -> torch.Tensor:
        """What the head reads, [V, planes[-1]] float32. Arguments as of `forward`."""
        # spconv has no bfloat16 kernels, and under autocast falls back to float16, whose gradients underflow without
        # a scaler. So the sparse part runs in float32 (TF32 on a GPU) and autocast is for the dense layers.
        with torch.autocast(coords.device.type, enabled=False):
            last, back = self._before_last_level(coords, features, batch_size, grid)
            return as_before(decode(*last).features, back)

    def trunk_parts(
        self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """(rows, what `trunk` gives of them) of parts that hold every voxel once, so that never all has to be there.

        coords: in the order of their places (`layers.place_order`). The other arguments as of `forward`.
        """
        last, back = self._before_last_level(coords, features, batch_size, grid)
        if back is not None:
            raise AssertionError("voxels that aren't in the order of their places")
        yield from decode_parts(*last)

    def _before_last_level(
        self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]
    ) -> tuple[Any, torch.Tensor | None]:
        """What `decode` is given for the finest level, and the voxels' way back (`in_order`)."""
        coords, features, back = in_order(coords, features)
        x = SparseConvTensor(features.float(), coords, list(grid), batch_size)
        x = convolve_norm_relu(self.stem, self.stem_bn, x)
        skips = []
        for down, bn, block in zip(self.down, self.down_bn, self.encoder, strict=True):
            skips.append(x)
            x = block(convolve_norm_relu(down, bn, x))
        *upward, last = zip(self.up, self.up_bn, self.decoder, strict=True)
        for up, bn, block in upward:
            x = decode(up, bn, block, x, skips.pop())
        return (*last, x, skips.pop()), back
