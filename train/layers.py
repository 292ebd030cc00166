"""The layers that the networks are made of, on sparse voxels. The only file that touches spconv."""

import functools
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from hicl.devices import products_by_onednn
from hicl.errors import HiclError
from hicl.train import sparse

# spconv 2.3 decorates its functions with torch.cuda.amp.custom_fwd/bwd, which current PyTorch calls deprecated, and its
# ccimport asks for locale.getdefaultlocale, which Python does. Just these, and just here: others are to be seen.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=r"'locale\.getdefaultlocale' is deprecated")
    warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.cuda\.amp\.custom_(fwd|bwd)")
    import spconv.constants
    from spconv.core import ALL_IMPGEMM_PARAMS, ALL_NATIVE_PARAMS, ConvAlgo

    # As it is imported, spconv describes every GPU kernel that it can be asked for, which takes 10 s of processor time.
    # Where no GPU can run them, it is left none to describe.
    if not torch.cuda.is_available():
        ALL_IMPGEMM_PARAMS.clear()
        ALL_NATIVE_PARAMS.clear()
    import spconv.pytorch as spconv
    from spconv.pytorch import SparseConvTensor

# spconv asks at every layer whether torch.fx traces it, and PyTorch logs each process' first such question.
logging.getLogger("torch.fx._symbolic_trace").addFilter(lambda record: "is_fx_tracing" not in record.getMessage())

LEVELS = 4  # of halved grids


def algorithm(device_type: str) -> ConvAlgo | None:
    """On a CPU spconv's Native algorithm, the only one there; on a GPU spconv chooses. Both keep weights in the same
    layout, so that a checkpoint moves between them."""
    return ConvAlgo.Native if device_type == "cpu" else None


def subm(inputs: int, outputs: int, level: int, algo: ConvAlgo | None) -> spconv.SubMConv3d:
    """A 3x3x3 convolution that keeps a level's voxels, without bias."""
    return spconv.SubMConv3d(inputs, outputs, 3, bias=False, indice_key=f"same{level}", algo=algo)


def place_order(coords: np.ndarray) -> np.ndarray:
    """The rows of voxels [V, 3 or 4] int32 ≥ 0, each once, in the order of their places: [V] int64."""
    return sparse.places(coords, coords.max(axis=0, initial=0) + 1).argsort()


def in_order(coords: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Voxels and their features in the order of their places, which the CPU's kernels are fast in, and the way back.

    On a GPU, or where they are in it already, they stay as they are, and there is no way back to go.
    """
    if coords.device.type != "cpu":
        return coords, features, None
    order = place_order(coords.numpy())
    if (order[1:] > order[:-1]).all():
        return coords, features, None
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    rows = torch.from_numpy(order)
    return coords[rows], features[rows], torch.from_numpy(back)


def as_before(features: torch.Tensor, back: torch.Tensor | None) -> torch.Tensor:
    """Features in the order that `in_order` found them in. With gradient a quarter of the time of `features[back]`."""
    return features if back is None else features.index_select(0, back)


def convolve(layer: spconv.SparseModule, x: SparseConvTensor) -> SparseConvTensor:
    """What `layer(x)` computes, on a CPU by our own kernels: to float rounding the same, in less time.

    The layer's pairs are found once a batch and level; `x` carries them to the layers that share its key.
    """
    if x.features.device.type != "cpu":
        return layer(x)
    level = x.indice_dict.setdefault(layer.indice_key, None) or _Level(layer, x)
    x.indice_dict[layer.indice_key] = level
    inverse = isinstance(layer, spconv.SparseInverseConv3d)
    y = x.replace_feature(sparse.convolve(x.features, layer.weight, level.back if inverse else level.pairs))
    y.indices, y.spatial_shape = level.before if inverse else level.after
    return y


class _Level:
    """The pairs of the layers of a key, both ways, and (coordinates, grid) before and after."""

    def __init__(self, layer: spconv.SparseModule, x: SparseConvTensor):
        self.before = self.after = x.indices, x.spatial_shape
        if layer.subm:
            self.pairs = sparse.same_pairs(x.indices.numpy())
        else:
            self.pairs, cells = sparse.halved_pairs(x.indices.numpy())
            self.after = torch.from_numpy(cells), [length // 2 for length in x.spatial_shape]
        self.back = self.pairs.turned(len(x.indices))


def mapped(linear: Any, x: torch.Tensor) -> torch.Tensor:
    """What `linear(x)`, a map without bias, computes: by our own kernels where PyTorch's product is the slower one."""
    if x.device.type != "cpu" or not products_by_onednn():
        return linear(x)
    return sparse.convolve(x, linear.weight[:, None], sparse.own_pairs(len(x)))


class Block(nn.Module):
    """BasicBlock: conv3-BN-ReLU-conv3-BN plus the input (through 1x1-BN where the width changes), ReLU."""

    def __init__(self, inputs: int, outputs: int, level: int, algo: ConvAlgo | None, momentum: float):
        super().__init__()
        self.conv1 = subm(inputs, outputs, level, algo)
        self.bn1 = nn.BatchNorm1d(outputs, momentum=momentum)
        self.conv2 = subm(outputs, outputs, level, algo)
        self.bn2 = nn.BatchNorm1d(outputs, momentum=momentum)
        self.shortcut = None
        if inputs != outputs:
            # A 1x1 convolution on sparse voxels is a linear map, and needs no sparse kernel.
            self.shortcut = nn.Sequential(
                nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, momentum=momentum)
            )

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        y = convolve(self.conv1, x)
        y = convolve(self.conv2, y.replace_feature(normalise(self.bn1, y.features).relu_()))
        y = y.replace_feature(normalise(self.bn2, y.features))
        if self.shortcut is None:
            shortcut = x.features
        else:
            linear, bn = self.shortcut
            shortcut = normalise(bn, mapped(linear, x.features))
        return y.replace_feature(y.features.add_(shortcut).relu_())


def normalise(bn: Any, x: torch.Tensor) -> torch.Tensor:
    """What `bn(x)` gives; at inference in place of x, which at the finest level of a large cloud is a tenth of a GB for
    each 300,000 voxels."""
    if bn.training or torch.is_grad_enabled():
        return bn(x)
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return x.mul_(scale).add_(bn.bias - bn.running_mean * scale)


def levels(
    stem: int, planes: tuple[int, ...], blocks: int, algo: ConvAlgo | None, momentum: float
) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList, nn.ModuleList, nn.ModuleList, nn.ModuleList]:
    """A U-Net's (down, down_bn, encoder, up, up_bn, decoder): on each level a strided convolution with its norm, and
    blocks; then as many up again, whose blocks read the features of the way down as well.

    stem: width of the finest level. planes: of the blocks, `LEVELS` down and as many up. blocks: how many a level.
    """

    def several(inputs: int, outputs: int, level: int) -> nn.Module:
        made = [Block(inputs if i == 0 else outputs, outputs, level, algo, momentum) for i in range(blocks)]
        return nn.Sequential(*made) if blocks > 1 else made[0]

    down, down_bn, encoder, up, up_bn, decoder = (nn.ModuleList() for _ in range(6))
    width, skips = stem, [stem]
    for level in range(LEVELS):
        down.append(spconv.SparseConv3d(width, width, 2, 2, bias=False, indice_key=f"scale{level}", algo=algo))
        down_bn.append(nn.BatchNorm1d(width, momentum=momentum))
        encoder.append(several(width, planes[level], level + 1))
        width = planes[level]
        skips.append(width)
    skips.pop()
    for step in range(LEVELS):
        level, outputs = LEVELS - 1 - step, planes[LEVELS + step]
        up.append(spconv.SparseInverseConv3d(width, outputs, 2, bias=False, indice_key=f"scale{level}", algo=algo))
        up_bn.append(nn.BatchNorm1d(outputs, momentum=momentum))
        decoder.append(several(outputs + skips[level], outputs, level))
        width = outputs
    return down, down_bn, encoder, up, up_bn, decoder


def convolve_norm_relu(conv: spconv.SparseModule, bn: nn.Module, x: SparseConvTensor) -> SparseConvTensor:
    """A convolution, its norm, and ReLU."""
    y = convolve(conv, x)
    return y.replace_feature(normalise(bn, y.features).relu_())  # in place: nobody asks for what a norm gave


def joined(x: SparseConvTensor, skip: SparseConvTensor) -> SparseConvTensor:
    """The features of two tensors of the same voxels, side by side."""
    return x.replace_feature(torch.cat([x.features, skip.features], dim=1))


def decode(
    up: spconv.SparseModule, bn: nn.Module, blocks: nn.Module, x: SparseConvTensor, skip: SparseConvTensor
) -> SparseConvTensor:
    """A level of the way up: back to the voxels of `skip`, whose features join those of x, and through the blocks."""
    if not _cut_up(skip):
        return blocks(joined(convolve_norm_relu(up, bn, x), skip))
    done = None
    for rows, features in decode_parts(up, bn, blocks, x, skip):
        done = features.new_empty(len(skip.indices), features.shape[1]) if done is None else done
        done[rows] = features
    return skip.replace_feature(done)


def decode_parts(
    up: spconv.SparseModule, bn: nn.Module, blocks: nn.Module, x: SparseConvTensor, skip: SparseConvTensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The rows of parts of a level of the way up, and the features that `decode` gives them.

    At inference on a CPU a large level is gone through in slabs along the first axis, each with the few voxels around
    it that its own depend on: at the finest level the features between layers are most of what a network holds.
    """
    if not _cut_up(skip):
        yield slice(0, len(skip.indices)), decode(up, bn, blocks, x, skip).features
        return
    back = x.indice_dict[up.indice_key].back
    halo = 2 * sum(isinstance(module, Block) for module in blocks.modules())  # two convolutions each
    for own, near in slabs(skip.indices[:, :2].numpy(), _SLAB, halo):
        part = SparseConvTensor(skip.features[near], skip.indices[near], skip.spatial_shape, skip.batch_size)
        upward = sparse.convolve(x.features, up.weight, back.only(near))
        upward = part.replace_feature(normalise(bn, upward).relu_())
        yield own, blocks(joined(upward, part)).features[own.start - near.start : own.stop - near.start]


def _cut_up(x: SparseConvTensor) -> bool:
    return not torch.is_grad_enabled() and x.features.device.type == "cpu" and len(x.indices) >= 2 * _SLAB


_SLAB = 50_000  # voxels


def slabs(place: np.ndarray, most: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Cut voxels in the order of their places into slabs along x of about `most` voxels, but at least one plane.

    Args:
        place: [V, 2] int32, scene and x, in ascending order.

    Yields:
        The rows of a slab, and those of all voxels up to `halo` beside it.
    """
    planes = place[:, 0] * (int(place[:, 1].max(initial=0)) + 1 + halo) + place[:, 1].astype(np.int64)
    start = 0
    while start < len(planes):
        middle = planes[min(start + most, len(planes)) - 1]
        stop = int(np.searchsorted(planes, middle, "right"))
        low, high = np.searchsorted(planes, [planes[start] - halo, middle + halo + 1])
        yield slice(start, stop), slice(int(low), int(high))
        start = stop


def initialise(net: nn.Module) -> None:
    """As MinkowskiEngine does: convolutions by Kaiming, fan out; transposed ones keep its uniform default."""
    if next(net.parameters()).is_meta:
        return  # only its shapes are wanted, and PyTorch would import 150 MB to draw nothing
    for module in net.modules():
        if isinstance(module, spconv.SparseInverseConv3d):
            bound = (module.out_channels * 8) ** -0.5
            nn.init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, spconv.SubMConv3d | spconv.SparseConv3d):
            fan_out = module.weight[0, ..., 0].numel() * module.out_channels
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        elif isinstance(module, nn.Linear) and module.bias is None:
            nn.init.normal_(module.weight, std=(2 / module.out_features) ** 0.5)


def prepare_gpu() -> None:
    """What spconv needs to be told and asked once, before it runs on a GPU.

    Raises:
        HiclError: an spconv that this NumPy makes crash.
    """
    assert_spconv_survives_numpy()
    spconv.constants.SPCONV_ALLOW_TF32 = True


@functools.cache
def assert_spconv_survives_numpy() -> None:
    """Check once, in a child process, that spconv's `tensorview.from_numpy` works beside this NumPy.

    cumm 0.4 (of spconv-cu120 2.3.6) kills the process with SIGFPE there under NumPy 2. Its implicit gemm on a GPU
    needs the call; the Native algorithm on the CPU doesn't.

    Raises:
        HiclError: with the way out.
    """
    code = "import numpy; from cumm import tensorview as tv; tv.from_numpy(numpy.arange(4, dtype=numpy.uint32)).clone()"
    child = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ, check=False
    )
    if child.returncode != 0:
        raise HiclError(
            f"spconv's tensorview crashes beside the installed NumPy (exit code {child.returncode}); training on a GPU"
            " needs `pip uninstall -y spconv-cu120 cumm-cu120 && pip install 'spconv-cu126>=2.3.8'`,"
            " or use --device cpu"
        )
