"""Experiment VI: HICL's objective with better labels, and two terms more, taught by the network's moving average.

Labels belong to sets, and are probabilities. First they are what all images of the scene say of a set (`spread`); once
the network knows something, what the images and its own moving average say together (`own_labels`). HICL's terms then
learn them in every voxel and token, seen by a camera or not. Frequent classes would swallow rare ones on the way, so
that the classes' frequencies are taken out of the scores (`balance`).
"""

import copy
import dataclasses

import torch
from torch import nn

from hicl.train.batch import Batch
from hicl.train.config import Config, scaled
from hicl.train.distributed import Group
from hicl.train.objectives import Inputs, Term
from hicl.train.objectives.hicl import Hicl, offset
from hicl.train.objectives.losses import pair_cross_entropy
from hicl.train.objectives.sets import match_divergence, pull_distance, set_means
from hicl.train.pooling import DOUBT


class Recipe:
    """See `Objective`. Terms beside those of `base`: {pull, match}, where their weights aren't 0.

    base: the objective of experiment V. net: the network, whose average teaches. n_classes: C.
    """

    def __init__(self, config: Config, base: Hicl, net: nn.Module, n_classes: int, group: Group):
        self.config, self.base, self.net, self.group = config.recipe, base, net, group
        self.heads, self.kept = base.heads, dict(base.kept)
        self.average_epoch = scaled(self.config.average_epoch, config.schedule)
        self.average: nn.Module | None = None
        if self.config.own_labels or self.config.pull_weight or self.config.match_weight:
            self.average = copy.deepcopy(net).eval().requires_grad_(False)
            self.kept["average"] = self.average
        self.frequency: Frequency | None = None
        if self.config.balance:
            self.frequency = Frequency(n_classes).to(group.device)
            self.kept["frequency"] = self.frequency

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        batch, config = inputs.batch, self.config
        set_of_voxel = batch.sets.long() + batch.first_set[batch.coords[:, 0].long()]
        taught = None
        if self.average is not None and batch.epoch >= self.average_epoch:
            taught = self._taught(batch, set_of_voxel)
        if taught is not None and config.own_labels:
            of_set = joint(taught @ inputs.text.T, batch.said)
            inputs = dataclasses.replace(inputs, targets=of_set[set_of_voxel])
        elif config.spread:
            inputs = dataclasses.replace(inputs, targets=batch.said[set_of_voxel])
        if self.frequency is not None:
            found = self.frequency.updated(self.group.total(inputs.labels.float().sum(dim=0)))
            inputs = dataclasses.replace(inputs, offset=config.balance * found.log())
        terms = self.base.terms(inputs)
        if config.set_share:
            terms["ce"] = mixed(terms["ce"], set_cross_entropy(inputs, set_of_voxel, len(batch.said)), config.set_share)
        if taught is not None and config.pull_weight:
            terms["pull"] = pull_distance(inputs.features, taught, set_of_voxel)
        if taught is not None and config.match_weight:
            own = set_means(inputs.features, set_of_voxel, len(batch.said))
            rows = set_of_voxel[batch.tokens]
            every = self.group.gather(taught[rows])
            place = self.group.rank * len(rows)
            terms["match"] = match_divergence(own[rows], every, place, config.match_temperature)
        return terms

    @torch.no_grad()
    def _taught(self, batch: Batch, set_of_voxel: torch.Tensor) -> torch.Tensor:
        """[S, d]: the mean feature of each set, by the moving average."""
        assert self.average is not None
        features = self.average(batch.coords, batch.features, len(batch.scenes), batch.grid)
        return set_means(features, set_of_voxel, len(batch.said))

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        total = self.base.total(terms)
        for name, weight in (("pull", self.config.pull_weight), ("match", self.config.match_weight)):
            if name in terms:
                total = total + weight * terms[name]
        return total

    @torch.no_grad()
    def stepped(self) -> None:
        if self.average is not None:
            follow(self.average, self.net, self.config.average_decay)


def set_cross_entropy(inputs: Inputs, set_of_voxel: torch.Tensor, n_sets: int) -> Term:
    """L_ce with the mean of a set's scores in the place of each of its voxels' own, which is how answers are pooled.

    set_of_voxel: int64 [V], below n_sets. Sum over labels, and their number, as of `pair_cross_entropy`.
    """
    logits_VC = offset(inputs.scores, inputs)
    labels_VC = inputs.labels.to(logits_VC.dtype)
    labels_SC = labels_VC.new_zeros(n_sets, labels_VC.shape[1]).index_add(0, set_of_voxel, labels_VC)
    return pair_cross_entropy(set_means(logits_VC, set_of_voxel, n_sets), labels_SC)


def mixed(own: Term, other: Term, share: float) -> Term:
    """Two losses over the same labels as one, `share` of it the other."""
    return (1 - share) * own[0] + share * other[0], own[1]


def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move an average of weights and batch statistics by 1 - decay towards those of `net`; counters are copied."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


class Frequency(nn.Module):
    """A moving average of the classes' shares among the labels of the last steps; all equal at first."""

    share: torch.Tensor

    def __init__(self, n_classes: int, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        self.register_buffer("share", torch.full((n_classes,), 1 / n_classes))

    @torch.no_grad()
    def updated(self, counts_C: torch.Tensor) -> torch.Tensor:
        """[C], with these counts taken in; no share is below 1 in 10,000."""
        share = counts_C / counts_C.sum().clamp(min=1)
        self.share.lerp_(share, 1 - self.decay)
        return self.share.clamp(min=1e-4)


def joint(logits_SC: torch.Tensor, said_SC: torch.Tensor) -> torch.Tensor:
    """[S, C]: what images and a network say together, the product of their probabilities; each row adds up to 1.

    Where no image shows a set, the network's own. What the images say is raised by `DOUBT`: they rule no class out.
    """
    found = (said_SC + DOUBT) * logits_SC.softmax(dim=1)
    return found / found.sum(dim=1, keepdim=True)
