"""PointContrast: two partial clouds of a scene, moved differently, and no image (Xie et al., ECCV 2020).

L = -mean over matches (i, j) of log( exp(f_i · f'_j / τ) / Σ_k exp(f_i · f'_k / τ) )

f_i and f'_j are features of unit length of a same point in the two clouds: PointInfoNCE, with 4,096 matches a step and
τ = 0.4 (facebookresearch/PointContrast `pretrain/pointcontrast/lib/ddp_trainer.py` and the scripts' `misc.nceT`). There
the clouds are two depth images that overlap by 30 % or more; here two parts of the scan that do (`train/twins.py`). Its
features lie in no space of words: the mIoU of such a model means nothing before `hicl finetune`.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.objectives.contrast import info_nce, rows_of_a_scene
from hicl.train.taught import Needs

TEMPERATURE = 0.4


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(matches=rows_of_a_scene(config))


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "PointContrast":
    """See `Kind`."""
    return PointContrast()


class PointContrast(Added):
    """See `Objective`. Term: {nce}."""

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        first, second = (inputs.features[rows] for rows in inputs.matches.unbind(dim=1))
        return {"nce": info_nce(first, second, TEMPERATURE)}
