"""SLidR: contrast of superpixels with the points they show (Sautier et al., CVPR 2022, arXiv 2203.16258).

L = -mean over superpixels s of log( exp(f_s · g_s / τ) / Σ_t exp(f_s · g_t / τ) )

f_s is the mean of the network's features over the pairs in s, g_s that of the teacher's, both then of unit length; τ =
0.07 (valeoai/SLidR `pretrain/criterion.py`, `config/slidr_minkunet.yaml`). A superpixel is there one of 150 SLIC
segments of an image; here it is a geometric set as an image shows it, so that colour alone never parts a surface.
As in `ppkt`, CLIP's patches stand in for the trained head of the image's side.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives.contrast import Contrast, rows_of_a_scene
from hicl.train.taught import Needs


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="sets", most=rows_of_a_scene(config))


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> Contrast:
    """See `Kind`."""
    return Contrast(config.contrast.temperature)
