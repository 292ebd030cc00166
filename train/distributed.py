"""Many processes as one: PyTorch's DistributedDataParallel, batch statistics over all of them, tokens of all of them.

Started by `torchrun --nproc-per-node N -m hicl train …`. N processes with one batch between them take the same step as
one process with that batch, to float tolerance.
"""

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hicl.devices import checked_device
from hicl.errors import HiclError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Group:
    """The processes of a run. With `world` = 1 every method is the identity and no process group exists."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, without gradient."""
        if self.world == 1:
            return value.detach()
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def gather(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, M, d] of each process to [world B, M, d] in order of rank, with gradient."""
        return tokens if self.world == 1 else _Gather.apply(tokens, self.rank, self.world)

    def own(self, tokens: torch.Tensor) -> torch.Tensor:
        """This process' part of what `gather` gave."""
        return tokens.chunk(self.world)[self.rank]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes."""
        if self.world == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def synchronise_norms(self, module: M) -> M:
        """The module with batch statistics over all processes."""
        if self.world == 1:
            return module
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm1d):
                    setattr(parent, name, SyncBatchNorm.of(child))
        return module

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


def start(device: str = "auto") -> Group:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: "cpu", "cuda", or "auto": a GPU if there is one.

    Raises:
        HiclError: no such device, or more processes on this machine than GPUs.
    """
    kind = checked_device(device)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise HiclError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
    target = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(target)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Group(rank, world, target)


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """All-gather along the first axis; every process must bring the same shape.

    Backward adds up what all processes make of a process' tokens: each sees all tokens and takes the loss of its own.
    """

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, rank: int, world: int) -> torch.Tensor:
        ctx.rank, ctx.world = rank, world
        parts = [torch.empty_like(tokens) for _ in range(world)]
        dist.all_gather(parts, tokens.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(ctx.world)[ctx.rank], None, None


class _Sum(torch.autograd.Function):
    """Sum over the processes, with gradient."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d over all processes, for CPU tensors: PyTorch's own takes only a GPU's."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    @classmethod
    def of(cls, norm: nn.BatchNorm1d) -> "SyncBatchNorm":
        """The same normalisation with the same parameters and buffers, synchronised."""
        new = cls(norm.num_features, norm.eps, norm.momentum)
        new.load_state_dict(norm.state_dict())
        return new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[V, width] to [V, width]."""
        if not self.training:
            return super().forward(x)
        summed = _Sum.apply(torch.cat([x.sum(dim=0), x.new_tensor([len(x)])]))
        # Two passes and not Σx²: the difference of two large sums loses digits.
        count = summed[-1]
        mean = summed[:-1] / count
        centred = x - mean
        variance = _Sum.apply(centred.square().sum(dim=0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
