"""What the network learns from. An objective is one file here, made known to `train/learner.py`.

It names the heads that are trained beside the network and are gone at inference, the losses of a step, and how they are
weighed against each other.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from hicl.train.stream import Batch

Term = tuple[torch.Tensor, torch.Tensor]
"""A loss as (sum, count): many processes add up both before they divide, and then agree with one."""


@dataclass(frozen=True)
class Inputs:
    """What a step offers an objective. V voxels, d channels, C classes.

    features: [V, d], what the network makes of each voxel; a pair's feature is its voxel's. text: [C, d], the classes'
    embedding. batch: the labels of the pairs (`histogram`), the voxels' `sets`, their scenes (`coords[:, 0]`), the
    tokens drawn from the sets and their labels.
    targets: [V, C], the probability of each class for each voxel, a row of 0 for none, in the place of those labels.
    offset: [C], added to the scores that the labels are compared with.
    """

    features: torch.Tensor
    text: torch.Tensor
    batch: Batch
    targets: torch.Tensor | None = None
    offset: torch.Tensor | None = None


class Objective(Protocol):
    heads: dict[str, nn.Module]
    kept: dict[str, nn.Module]  # what no optimiser changes, and a continued run needs

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        """The losses of a step by name, those that are on in its epoch."""
        ...

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        """The one number to be minimised, of each term's mean."""
        ...

    def stepped(self) -> None:
        """Called after each step of the optimisers."""
        ...
