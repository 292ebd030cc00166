"""MinkUNet14A on sparse voxels: the 3D network. The only file that touches spconv.

Architecture: CLIP2Scene `model/minkunet.py` (MinkUNet14A, the network of the paper's ScanNet experiments), which is
MinkowskiEngine's `examples/minkunet.py`. Where we differ: spconv instead of MinkowskiEngine, and one head (96 -> d)
instead of CLIP2Scene's two, because Eq. 1 to 8 use one feature.
"""

import functools
import logging
import os
import subprocess
import sys
import warnings

import numpy as np
import torch
from torch import nn

from hicl.errors import HiclError
from hicl.train import sparse
from hicl.train.config import ModelConfig

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
    from spconv.pytorch import ops

# spconv asks at every layer whether torch.fx traces it, and PyTorch logs each process' first such question.
logging.getLogger("torch.fx._symbolic_trace").addFilter(lambda record: "is_fx_tracing" not in record.getMessage())

SCANNET_PLANES = (32, 64, 128, 256, 128, 128, 96, 96)
LEVELS = 4
# Counted on the published architecture (three input channels, kernel-3 stem): 8.01 M, and 8.06 M with one 512-d head.
PUBLISHED_TRUNK_PARAMETERS = 8_013_152


class _Block(nn.Module):
    """BasicBlock: conv3-BN-ReLU-conv3-BN plus the input (through 1x1-BN where the width changes), ReLU."""

    def __init__(self, inputs: int, outputs: int, level: int, algo: ConvAlgo | None, momentum: float):
        super().__init__()
        self.conv1 = _subm(inputs, outputs, level, algo)
        self.bn1 = nn.BatchNorm1d(outputs, momentum=momentum)
        self.conv2 = _subm(outputs, outputs, level, algo)
        self.bn2 = nn.BatchNorm1d(outputs, momentum=momentum)
        self.shortcut = None
        if inputs != outputs:
            # A 1x1 convolution on sparse voxels is a linear map, and needs no sparse kernel.
            self.shortcut = nn.Sequential(
                nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, momentum=momentum)
            )

    def forward(self, x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
        y = convolve(self.conv1, x)
        y = convolve(self.conv2, y.replace_feature(torch.relu(self.bn1(y.features))))
        shortcut = x.features if self.shortcut is None else self.shortcut(x.features)
        return y.replace_feature(torch.relu(self.bn2(y.features) + shortcut))


def convolve(layer: spconv.SparseModule, x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
    """What `layer(x)` computes, on a CPU by our own kernels: to float rounding the same, in less time.

    The layer's pairs are made by spconv, once a batch and level; `x` carries them to the layers that share its key.
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

    def __init__(self, layer: spconv.SparseModule, x: spconv.SparseConvTensor):
        how = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        after, rows, counts = ops.get_indice_pairs(
            x.indices, x.batch_size, x.spatial_shape, ConvAlgo.Native, *how, layer.output_padding, layer.subm
        )
        (inputs, outputs), counts, center = rows.numpy(), counts.numpy().astype(np.int64), None
        if layer.subm:
            # spconv counts half of the offsets: each other one has the pairs of its opposite, turned round.
            center = len(counts) // 2
            counts[center] = 0
            counts[center + 1 :] = counts[:center][::-1]
        self.pairs = sparse.Pairs(inputs, outputs, counts, len(after), center)
        self.back = sparse.Pairs(outputs, inputs, counts, len(x.indices), center)
        grid = x.spatial_shape if layer.subm else ops.get_conv_output_size(x.spatial_shape, *how)
        self.before, self.after = (x.indices, x.spatial_shape), (after, grid)


def _subm(inputs: int, outputs: int, level: int, algo: ConvAlgo | None) -> spconv.SubMConv3d:
    return spconv.SubMConv3d(inputs, outputs, 3, bias=False, indice_key=f"same{level}", algo=algo)


class MinkUNet(nn.Module):
    """Sparse U-Net with four stride-2 levels and one BasicBlock a level.

    Args:
        in_channels: width of the voxel features (3: colour).
        out_channels: d, the teacher's width.
        stem: width of the first convolution (INIT_DIM).
        planes: widths of the eight blocks, four down and four up.
        bn_momentum: weight of the newest batch in the running statistics. MinkowskiEngine hands its momentum to
            torch.nn.BatchNorm1d as it is, so 0.05 means the same here.
        device_type: "cpu" picks spconv's Native algorithm, the only one there; on "cuda" spconv chooses. Both keep
            weights in the same layout, so that a checkpoint moves between them.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 512,
        stem: int = 32,
        planes: tuple[int, ...] = SCANNET_PLANES,
        bn_momentum: float = 0.05,
        device_type: str = "cpu",
    ):
        super().__init__()
        algo = ConvAlgo.Native if device_type == "cpu" else None

        def norm(width: int) -> nn.BatchNorm1d:
            return nn.BatchNorm1d(width, momentum=bn_momentum)

        self.stem = spconv.SubMConv3d(in_channels, stem, 3, bias=False, indice_key="same0", algo=algo)
        self.stem_bn = norm(stem)
        self.down, self.down_bn, self.encoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width, skips = stem, [stem]
        for level in range(LEVELS):
            self.down.append(spconv.SparseConv3d(width, width, 2, 2, bias=False, indice_key=f"scale{level}", algo=algo))
            self.down_bn.append(norm(width))
            self.encoder.append(_Block(width, planes[level], level + 1, algo, bn_momentum))
            width = planes[level]
            skips.append(width)
        skips.pop()
        self.up, self.up_bn, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for step in range(LEVELS):
            level, outputs = LEVELS - 1 - step, planes[LEVELS + step]
            self.up.append(
                spconv.SparseInverseConv3d(width, outputs, 2, bias=False, indice_key=f"scale{level}", algo=algo)
            )
            self.up_bn.append(norm(outputs))
            self.decoder.append(_Block(outputs + skips[level], outputs, level, algo, bn_momentum))
            width = outputs
        self.head = nn.Linear(width, out_channels)
        self._initialise()

    def _initialise(self) -> None:
        # As MinkowskiEngine does: convolutions by Kaiming, fan out; transposed ones keep its uniform default.
        for module in self.modules():
            if isinstance(module, spconv.SparseInverseConv3d):
                bound = (module.out_channels * 8) ** -0.5
                nn.init.uniform_(module.weight, -bound, bound)
            elif isinstance(module, spconv.SubMConv3d | spconv.SparseConv3d):
                fan_out = module.weight[0, ..., 0].numel() * module.out_channels
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
            elif isinstance(module, nn.Linear) and module.bias is None:
                nn.init.normal_(module.weight, std=(2 / module.out_features) ** 0.5)

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
        # spconv has no bfloat16 kernels, and under autocast falls back to float16, whose gradients underflow without
        # a scaler. So the sparse part runs in float32 (TF32 on a GPU) and autocast is for the dense layers.
        with torch.autocast(coords.device.type, enabled=False):
            x = spconv.SparseConvTensor(features.float(), coords, list(grid), batch_size)
            x = convolve(self.stem, x)
            x = x.replace_feature(torch.relu(self.stem_bn(x.features)))
            skips = []
            for down, bn, block in zip(self.down, self.down_bn, self.encoder, strict=True):
                skips.append(x)
                x = convolve(down, x)
                x = block(x.replace_feature(torch.relu(bn(x.features))))
            for up, bn, block in zip(self.up, self.up_bn, self.decoder, strict=True):
                x = convolve(up, x)
                y = torch.relu(bn(x.features))
                x = block(x.replace_feature(torch.cat([y, skips.pop().features], dim=1)))
            return self.head(x.features)


def trunk_parameters(net: MinkUNet) -> int:
    """Number of trainable values without the head."""
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("head."))


def build(model: ModelConfig, out_channels: int, device: torch.device) -> MinkUNet:
    """The network of a `ModelConfig` on `device`; asserts the published size for the published widths.

    Raises:
        HiclError: on a GPU with an spconv that this NumPy makes crash.
    """
    if device.type == "cuda":
        assert_spconv_survives_numpy()
        spconv.constants.SPCONV_ALLOW_TF32 = True
    net = MinkUNet(3, out_channels, model.stem, model.planes, bn_momentum=model.bn_momentum, device_type=device.type)
    if model.stem == 32 and model.planes == SCANNET_PLANES and trunk_parameters(net) != PUBLISHED_TRUNK_PARAMETERS:
        raise AssertionError(f"MinkUNet14A has {PUBLISHED_TRUNK_PARAMETERS} parameters, not {trunk_parameters(net)}")
    return net.to(device)


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
