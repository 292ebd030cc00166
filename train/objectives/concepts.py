"""Concept alignment: cross-attention draws concepts from points, and they are compared with the image's (Yao et al.,
"3D Point Cloud Pre-training with Knowledge Distillation from 2D Images", arXiv 2212.08974).

L = mean over views v and concepts k of 1 - cos(c_vk(f), c_vk(g)),   c_vk(x) = Σ_p softmax_p(q_k · x̂_p · s) x_p

p runs over the patches that show points; f_p is the mean of the network's features there, g_p the teacher's, x̂ of unit
length; q_k are K learnt queries of unit length, gone at inference, s a learnt scale.

Only the abstract was at hand, and no code: it says that cross-attention extracts concepts from the points, which are
compared with the image's semantics. Ours are the rest: the same queries for both sides, since the two lie in one space;
K = 16; a cosine; and no gradient to the queries from the image's side, so that they don't move to where it is easy.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.taught import Needs

CONCEPTS = 16


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="patches")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "Concepts":
    """See `Kind`."""
    return Concepts(text.shape[1], group)


class CrossAttention(nn.Module):
    """K queries that each gather from tokens [n, d] what is like them: [K, d]."""

    def __init__(self, width: int):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(CONCEPTS, width))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        likeness = F.normalize(self.queries, dim=1) @ F.normalize(tokens, dim=1).T
        return (self.scale * likeness).softmax(dim=1) @ tokens


def alignment(attend: nn.Module, student_Rd: torch.Tensor, teacher_Rd: torch.Tensor, view_R: torch.Tensor) -> Term:
    """1 - cosine of each view's concepts by both sides, as sum and count; a view's rows follow each other."""
    total, count = student_Rd.sum() * 0, 0
    lengths = view_R.unique_consecutive(return_counts=True)[1].tolist()
    for student, teacher in zip(student_Rd.split(lengths), teacher_Rd.split(lengths), strict=True):
        with torch.no_grad():
            wanted = attend(teacher)
        cosine = F.cosine_similarity(attend(student), wanted, dim=1)
        total, count = total + (1 - cosine).sum(), count + len(cosine)
    return total, total.new_tensor(float(count))


class Concepts(Added):
    """See `Objective`. Term: {concept}."""

    def __init__(self, width: int, group: Group):
        super().__init__()
        self.heads["attention"] = CrossAttention(width).to(group.device)
        self._wrapped = group.wrap(self.heads["attention"])

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught = inputs.taught
        return {"concept": alignment(self._wrapped, taught.pooled(inputs.features), taught.features, taught.view)}
