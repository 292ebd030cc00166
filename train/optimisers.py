"""PyTorch's optimisers, without its compiler.

What PyTorch guards against its compiler imports it when first called: making any optimiser is enough. `torch._dynamo`
would be another second of processor time and 150 MB in every process that trains, for nothing that runs here. The
guarded functions themselves are the same.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch

from hicl.train.config import OptimConfig


class _Uncompiled(torch.optim.Optimizer):
    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class _SGD(_Uncompiled, torch.optim.SGD):
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class _AdamW(_Uncompiled, torch.optim.AdamW):
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def sgd(parameters: Iterable[torch.nn.Parameter], optim: OptimConfig, device: torch.device) -> torch.optim.SGD:
    """For a network."""
    return _SGD(
        parameters,
        lr=optim.lr,
        momentum=optim.momentum,
        dampening=optim.dampening,
        weight_decay=optim.weight_decay,
        fused=_fused(device),
    )


def adamw(parameters: Iterable[torch.nn.Parameter], optim: OptimConfig, device: torch.device) -> torch.optim.AdamW:
    """For the heads of its objective."""
    return _AdamW(parameters, lr=optim.head_lr, weight_decay=optim.head_weight_decay, fused=_fused(device))


def _fused(device: torch.device) -> bool | None:
    """On a CPU a tensor's step in one walk through memory; on a GPU PyTorch chooses by itself."""
    return True if device.type == "cpu" else None
