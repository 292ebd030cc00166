"""CLIP2Scene (Chen et al., CVPR 2023): the labels of pixels and their features, then the network's own labels too.

L = mean over pairs of -log softmax_c(f T)[l]  +  mean over pairs of 1 - cos(f, g)

f is the network's feature of a pair's voxel, g the teacher's of its pixel, l its raw label. From a third of the
training on (epoch 10 of 30), with probability 1/2 a step, l is the network's own best class instead
(`pretrain/lightning_trainer.py:138-166`). No temperature, as in the code; the paper prints one of 0.5.

Otherwise than there: one feature learns both terms. The code has a second output of the network for the other term, and
compares it with CLIP's tokens behind a random projection that nothing trains (`model/maskclip_model.py:127, 869-887`).
The grids over time that it has outdoors, whose points of several sweeps are drawn to a common feature, have nothing to
do here: the sweeps of a key frame are one cloud, and what lies in one voxel has one feature.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.objectives.losses import own_labels, pair_cross_entropy, pair_distance
from hicl.train.taught import Needs

SWITCH = 1 / 3  # of the epochs, before the network may label itself


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs("raw", rows="voxels")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "Clip2Scene":
    """See `Kind`."""
    return Clip2Scene(SWITCH * config.schedule.epochs)


class Clip2Scene(Added):
    """See `Objective`. Terms: {ce, cos}. switch: epoch from which on the network may label itself."""

    def __init__(self, switch: float):
        super().__init__()
        self.switch = switch

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        batch, taught = inputs.batch, inputs.taught
        logits = inputs.features @ inputs.text.T
        labels = batch.histogram
        # A draw in every epoch, so that it doesn't depend on when the switch is thrown; a resumed run draws the same.
        if float(torch.rand(())) < 0.5 and batch.epoch >= self.switch:
            labels = own_labels(logits, labels)
        distance = pair_distance(taught.pooled(inputs.features), taught.features, taught.count)
        return {"ce": pair_cross_entropy(logits, labels), "cos": distance}
