"""OpenScene's distillation (Peng et al., CVPR 2023): the network learns the image features fused at each point.

L = mean over voxels that an image shows of 1 - cos(f, g)

f is the network's feature of a voxel, g the mean over all views of what they say there (`run/distill.py`; fusion:
`scripts/feature_fusion/scannet_openseg.py:74-109`). At most 20,000 voxels a scene and step, as many as a file of theirs
has points. Optimiser and schedule are those of every objective here, SGD and a cosine, in place of Adam with 1e-4 and a
polynomial: rows of one table differ in what is learnt alone.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.objectives.losses import pair_distance
from hicl.train.taught import Needs

_MOST_VOXELS = 20_000


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs(rows="voxels", most=_MOST_VOXELS, every_view=True)


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "OpenScene":
    """See `Kind`."""
    return OpenScene()


class OpenScene(Added):
    """See `Objective`. Term: {cos}."""

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught = inputs.taught
        fused = F.normalize(taught.features, dim=1)
        return {"cos": pair_distance(taught.pooled(inputs.features), fused, torch.ones_like(taught.count))}
