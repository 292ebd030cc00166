"""PointMCD: what a view shows, as points and image have it (Zhang et al., TMM 2023, arXiv 2207.03128).

L = mean over views v of mean over channels of | a(mean of f over what v shows) - g_v |

g_v is the view's descriptor, f the network's features, a an aligning layer that is gone at inference; L1 with weight 1
(keeganhk/PointMCD `scripts/distiller_dg_c.py`, `cdbs/distillers.py`). The visibility is ours: the pairs of a view.

What differs: PointMCD knows objects, whose descriptor is a classifier's last layer; a room's view has the mean of the
teacher's features at its pairs. It takes the maximum over the visible points, which in a room is that of a few of ten
thousand, and here the mean stands. Its layer ends in a ReLU; CLIP's channels have either sign. Its 0.1 times the task's
loss has no place where there are no labels.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.taught import Needs


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="views")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "PointMcd":
    """See `Kind`."""
    return PointMcd(text.shape[1], group)


def descriptor_distance(student_Rd: torch.Tensor, teacher_Rd: torch.Tensor) -> Term:
    """The mean absolute difference of each row, as sum and count."""
    distance = (student_Rd - teacher_Rd).abs().mean(dim=1)
    return distance.sum(), distance.new_tensor(float(len(distance)))


class PointMcd(Added):
    """See `Objective`. Term: {view}."""

    def __init__(self, width: int, group: Group):
        super().__init__()
        self.heads["align"] = nn.Linear(width, width).to(group.device)
        self._wrapped = group.wrap(self.heads["align"])

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught = inputs.taught
        return {"view": descriptor_distance(self._wrapped(taught.pooled(inputs.features)), taught.features)}
