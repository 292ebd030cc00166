"""PPKT: contrastive pixel-to-point knowledge transfer (Liu et al., "Learning from 2D", arXiv 2104.04687).

L = -mean over pairs i of log( exp(f_i · g_i / τ) / Σ_j exp(f_i · g_j / τ) )

f_i is the network's feature of the point of pair i, g_i the teacher's of its pixel, both of unit length; 4,096 pairs a
step, drawn at random, and τ = 0.07, as SLidR's re-implementation has them (valeoai/SLidR `pretrain/criterion.py`,
`config/`). There the image's side is a self-supervised ResNet with a trained head, and here CLIP's patches as they are,
so that what is learnt can be read by words. Pairs are told apart from those of a process' own scenes.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives.contrast import Contrast, rows_of_a_scene
from hicl.train.taught import Needs


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="pairs", most=rows_of_a_scene(config))


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> Contrast:
    """See `Kind`."""
    return Contrast(config.contrast.temperature)
