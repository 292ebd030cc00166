"""CLIP2Scene (Chen et al., CVPR 2023): the labels of pixels and their features, then the network's own labels too.

L = mean over pairs of -log softmax_c(f T)[l]  +  mean over pairs of 1 - cos(f, g)

f is the network's feature of a pair's voxel, g the teacher's of its pixel, l its raw label. From a third of the
training on (epoch 10 of 30), with probability 1/2 a step, l is the network's own best class instead
(`pretrain/lightning_trainer.py:138-166`). No temperature, as in the code; the paper prints one of 0.5.

Otherwise than there: one feature learns both terms. The code has a second output of the network for the other term, and
compares it with CLIP's tokens behind a random projection that nothing trains (`model/maskclip_model.py:127, 869-887`).

Outdoors its second term is over spatio-temporal grids G (`lightning_trainer.py:169-239`, `model/fusionNet.py`):

mean over pairs of 1 - sigmoid(F · f),   F = Σ_G a f,   a = softmax_G(f · T_l)

with l the class of the grid. There G is a voxel of 10 cm, whose sweeps have gone through the network one by one, each
turned by its own angle, so that a place has a feature a sweep. Here the sweeps of a key frame are one cloud, and what
lies in one voxel has one feature; so grids have to be larger than a voxel, and draw together what several sweeps hit
beside each other. `clip2scene.grid` sets their edge; the default keeps the first term. Their class is that of most of
their pairs, and not that of whichever comes first; all pairs take part, and not at most eight.
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
    return Needs("raw", rows="" if config.clip2scene.grid else "voxels")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "Clip2Scene":
    """See `Kind`."""
    return Clip2Scene(SWITCH * config.schedule.epochs, config.clip2scene.grid)


class Clip2Scene(Added):
    """See `Objective`. Terms: {ce, cos}, or {ce, grid}. switch: epoch from which on the network may label itself. grid:
    edge of a grid in voxels; 0: none."""

    def __init__(self, switch: float, grid: int):
        super().__init__()
        self.switch, self.grid = switch, grid

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        batch, labels = inputs.batch, inputs.batch.histogram
        logits = inputs.features @ inputs.text.T
        # A draw in every epoch, so that it doesn't depend on when the switch is thrown; a resumed run draws the same.
        if float(torch.rand(())) < 0.5 and batch.epoch >= self.switch:
            labels = own_labels(logits, labels)
        terms = {"ce": pair_cross_entropy(logits, labels)}
        if self.grid:
            terms["grid"] = grid_distance(inputs.features, inputs.text, batch.histogram, batch.coords, self.grid)
        else:
            taught = inputs.taught
            terms["cos"] = pair_distance(taught.pooled(inputs.features), taught.features, taught.count)
        return terms


def grid_distance(
    features_Vd: torch.Tensor, text: torch.Tensor, histogram_VC: torch.Tensor, coords_V4: torch.Tensor, edge: int
) -> Term:
    """1 - sigmoid of the inner product of each labelled pair with its grid's feature: sum and count.

    coords: scene, x, y, z of each voxel. edge: of a grid, in voxels.
    """
    seen = histogram_VC.any(dim=1).nonzero().squeeze(1)
    features, histogram = features_Vd.index_select(0, seen), histogram_VC[seen]
    pairs = histogram.sum(dim=1).to(features.dtype)
    cell = coords_V4[seen] // coords_V4.new_tensor([1, edge, edge, edge])
    cells, grid = cell.unique(dim=0, return_inverse=True)
    label = histogram.new_zeros(len(cells), histogram.shape[1]).index_add(0, grid, histogram).argmax(dim=1)
    score = (features * text[label[grid]]).sum(dim=1)
    most = score.new_full((len(cells),), -torch.inf).scatter_reduce(0, grid, score.detach(), "amax")
    share = pairs * (score - most[grid]).exp()
    share = share / share.new_zeros(len(cells)).index_add(0, grid, share)[grid]
    fused = features.new_zeros(len(cells), features.shape[1]).index_add(0, grid, share[:, None] * features)
    along = (fused.index_select(0, grid) * features).sum(dim=1)
    return (pairs * (1 - along.sigmoid())).sum(), pairs.sum()
