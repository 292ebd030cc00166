"""LGround: features are drawn to the text of their class and away from others' (Rozenberszki et al., ECCV 2022).

L = mean over labelled voxels of relu(d⁺) + relu(0.6 - d⁻),   d = 1 - cos(f, text)

d⁺ is the distance to the text of the voxel's own class, d⁻ the mean distance to three other classes, drawn at random
(RozDavid/LanguageGroundedSemseg `lib/losses/ContrastiveLanguageLoss.py`, `config/config.py`). There the classes are
people's labels; here they are the voted labels of the images, of a voxel's pairs the one that most have.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.taught import Needs

MARGIN, NEGATIVES = 0.6, 3


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs("refined")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "LGround":
    """See `Kind`."""
    return LGround()


def other_classes(label_N: torch.Tensor, n_classes: int) -> torch.Tensor:
    """[N, 3] int64: for each label other classes, uniform at random; of a class list of one, itself."""
    # Drawn on the CPU, whose random state a continued run gets back.
    away = 1 + torch.randint(max(1, n_classes - 1), (len(label_N), NEGATIVES)).to(label_N.device)
    return (label_N[:, None] + away) % n_classes


def anchor_hinge(features_Nd: torch.Tensor, text: torch.Tensor, own_N: torch.Tensor, others_NK: torch.Tensor) -> Term:
    """relu(d⁺) + relu(0.6 - d⁻) of every row, as sum and count; own and others are rows of text."""
    distance_NC = 1 - F.normalize(features_Nd, dim=1) @ F.normalize(text, dim=1).T
    near = distance_NC.gather(1, own_N[:, None]).squeeze(1)
    far = distance_NC.gather(1, others_NK).mean(dim=1)
    hinge = F.relu(near) + F.relu(MARGIN - far)
    return hinge.sum(), hinge.new_tensor(float(len(hinge)))


class LGround(Added):
    """See `Objective`. Term: {anchor}."""

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        labelled = inputs.batch.histogram.any(dim=1).nonzero().squeeze(1)
        own = inputs.batch.histogram[labelled].argmax(dim=1)
        others = other_classes(own, len(inputs.text))
        return {"anchor": anchor_hinge(inputs.features[labelled], inputs.text, own, others)}
