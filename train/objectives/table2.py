"""The objective of an experiment of Table 2: HICL's, and around it the recipe of VI."""

import torch
from torch import nn

from hicl.train.config import EXPERIMENTS, Config
from hicl.train.distributed import Group
from hicl.train.objectives import Objective
from hicl.train.objectives.hicl import Hicl
from hicl.train.objectives.recipe import Recipe
from hicl.train.taught import Needs


def needs(config: Config) -> Needs:
    """See `Kind`."""
    experiment = EXPERIMENTS[config.experiment]
    return Needs(experiment.labels, said=experiment.recipe)


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> Objective:
    """See `Kind`."""
    five = Hicl(config, text.shape[1], group)
    return Recipe(config, five, net, len(text), group) if five.experiment.recipe else five
