"""The network that a run's settings name."""

import torch
from torch import nn

from hicl.train import layers, minkunet, spvcnn
from hicl.train.config import FEATURES, Config
from hicl.train.minkunet import MinkUNet
from hicl.train.spvcnn import SPVCNN

Network = MinkUNet | SPVCNN
_PUBLISHED = {
    MinkUNet: (3, 32, minkunet.PLANES, minkunet.PUBLISHED_TRUNK_PARAMETERS),
    SPVCNN: (1, 32, spvcnn.PLANES, spvcnn.PUBLISHED_TRUNK_PARAMETERS),
}


class Trunk(nn.Module):
    """A network up to what its head reads. It has the head's parameters all the same, so that processes that share a
    step average the gradients of all."""

    def __init__(self, net: Network):
        super().__init__()
        self.net = net

    def forward(self, coords: torch.Tensor, features: torch.Tensor, batch_size: int, grid: list[int]) -> torch.Tensor:
        return self.net.trunk(coords, features, batch_size, grid)


def make(config: Config, out_channels: int, device_type: str = "cpu") -> Network:
    """The network of a run, on the default device."""
    model = config.model
    kind = SPVCNN if model.network == "spvcnn" else MinkUNet
    width = FEATURES[config.reading.features].width
    return kind(width, out_channels, model.stem, model.planes, model.bn_momentum, device_type)


def build(config: Config, out_channels: int, device: torch.device) -> Network:
    """The network of a run on `device`; asserts the published size for the published widths.

    Raises:
        HiclError: on a GPU with an spconv that this NumPy makes crash.
    """
    if device.type == "cuda":
        layers.prepare_gpu()
    net = make(config, out_channels, device.type)
    *widths, size = _PUBLISHED[type(net)]
    given = [FEATURES[config.reading.features].width, config.model.stem, config.model.planes]
    if given == widths and trunk_parameters(net) != size:
        raise AssertionError(f"{type(net).__name__} has {size} parameters, not {trunk_parameters(net)}")
    return net.to(device)


def trunk_parameters(net: nn.Module) -> int:
    """Number of trainable values without the head."""
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("head."))
