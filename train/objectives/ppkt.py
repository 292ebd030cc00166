"""PPKT: contrastive pixel-to-point knowledge transfer (Liu et al., "Learning from 2D", arXiv 2104.04687).

L = -mean over pairs i of log( exp(f_i · g_i / τ) / Σ_j exp(f_i · g_j / τ) )

f_i is the network's feature of the point of pair i, g_i the teacher's of its pixel, both of unit length; 4,096 pairs a
step, drawn at random, and τ = 0.07, as SLidR's re-implementation has them (valeoai/SLidR `pretrain/criterion.py`,
`config/`). There the image's side is a self-supervised ResNet with a trained head, and here CLIP's patches as they are,
so that what is learnt can be read by words. Pairs are told apart from those of a process' own scenes.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Inputs, Term
from hicl.train.taught import Needs


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="pairs", most=-(-config.contrast.rows // config.schedule.batch))


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "Contrast":
    """See `Kind`."""
    return Contrast(config.contrast.temperature)


def info_nce(student_Rd: torch.Tensor, teacher_Rd: torch.Tensor, temperature: float) -> Term:
    """InfoNCE of rows against all rows of the other side, both made of unit length: sum and count."""
    logits = F.normalize(student_Rd, dim=1) @ F.normalize(teacher_Rd, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, own, reduction="sum"), logits.new_tensor(float(len(logits)))


class Contrast:
    """See `Objective`. Term: {nce}, of whatever rows the teacher's features are of."""

    def __init__(self, temperature: float):
        self.temperature = temperature
        self.heads: dict[str, nn.Module] = {}
        self.kept: dict[str, nn.Module] = {}

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught = inputs.taught
        return {"nce": info_nce(taught.pooled(inputs.features), taught.features, self.temperature)}

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        return terms["nce"]

    def stepped(self) -> None:
        pass
