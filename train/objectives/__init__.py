"""What the network learns from. An objective is one file here; `OBJECTIVES` in `train/config.py` gives it its name.

The file has two functions: `needs` says what of a scene the objective learns from, so that nothing else is read, and
`make` makes it. An objective names the heads that are trained beside the network and are gone at inference, the losses
of a step, and how they are weighed against each other.
"""

import functools
import importlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from hicl.train.batch import Batch
from hicl.train.config import OBJECTIVES, Config
from hicl.train.distributed import Group
from hicl.train.taught import Needs, Taught

Term = tuple[torch.Tensor, torch.Tensor]
"""A loss as (sum, count): many processes add up both before they divide, and then agree with one."""


@dataclass(frozen=True)
class Inputs:
    """What a step offers an objective. V voxels, d channels, C classes.

    hidden: [V, h], what the network's head reads of each voxel. head: that linear map, to d. text: [C, d], the classes'
    embedding. batch: the labels of the pairs (`histogram`), the voxels' `sets`, their scenes (`coords[:, 0]`), the
    tokens drawn from the sets and their labels; where `Needs.rows` says so, the teacher's features.
    targets: [V, C], the probability of each class for each voxel, a row of 0 for none, in the place of those labels.
    offset: [C], added to the scores that the labels are compared with.
    """

    hidden: torch.Tensor
    head: nn.Linear
    text: torch.Tensor
    batch: Batch
    targets: torch.Tensor | None = None
    offset: torch.Tensor | None = None

    @functools.cached_property
    def features(self) -> torch.Tensor:
        """[V, d]: what the network makes of each voxel; a pair's feature is its voxel's."""
        return self.head(self.hidden)

    @functools.cached_property
    def scores(self) -> torch.Tensor:
        """[V, C]: each voxel's feature times each class's text. They are linear in what the head reads, so that the
        features of all voxels and their gradients, wider by far, needn't be made."""
        return self.hidden @ (self.text @ self.head.weight).T + self.text @ self.head.bias

    def features_of(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., d]: the features of some voxels alone. rows: int64 [...]."""
        # With gradient `index_select` takes a quarter of the time of indexing.
        return self.head(self.hidden.index_select(0, rows.flatten())).unflatten(0, rows.shape)

    @property
    def labels(self) -> torch.Tensor:
        """[V, C]: what each voxel learns, times each class; `targets`, or else the batch's."""
        return self.batch.histogram if self.targets is None else self.targets

    @property
    def taught(self) -> Taught:
        """The teacher's features of an objective that asks for them."""
        assert self.batch.taught is not None
        return self.batch.taught

    @property
    def matches(self) -> torch.Tensor:
        """The voxels of a same point in two clouds, [n, 2], of an objective that asks for them."""
        assert self.batch.matches is not None
        return self.batch.matches


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


class Added:
    """What most objectives share: no heads unless they put some there, and terms that are added up as they are."""

    def __init__(self) -> None:
        self.heads: dict[str, nn.Module] = {}
        self.kept: dict[str, nn.Module] = {}

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(terms.values())).sum()

    def stepped(self) -> None:
        pass


class Kind(Protocol):
    """The file of an objective."""

    def needs(self, config: Config) -> Needs:
        """What of a scene it learns from."""
        ...

    def make(self, config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> Objective:
        """The objective of a run that trains `net`, whose features have the width of text [C, d]."""
        ...


def kind(config: Config) -> Kind:
    """The file of the objective that a run's settings name."""
    found: Kind = importlib.import_module(f"{__name__}.{OBJECTIVES[config.objective]}")
    return found
