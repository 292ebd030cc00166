"""Chen et al. (NeurIPS 2023, arXiv 2306.03899): labels that vote in masks, and a 2D and a 3D network that teach each
other.

L = mean over pairs of -log softmax_c(f T)[l] - log softmax_c(h T)[l] + 1 - cos(f, h)

f is the 3D network's feature of a pair's voxel, h the 2D network's, l the pair's label: at first CLIP's after a vote in
each of a segmenter's masks; from a third of the training on, in each step with equal probability this one, the best
class of the 2D network, or that of the 3D network.

The abstract names CLIP's labels that SAM's masks refine, networks that are trained together by consistent predictions,
and a latent space that SAM's features make consistent; there is no code (runnanchen/Label-Free-Scene-Understanding).
What is decided here:

- A mask's label is the most frequent one of its pairs, in each view alone; `hicl masks` finds masks by colours.
- A cache has no images, so the 2D network is a residual MLP on the teacher's frozen features, the mean of a voxel's
  pixels in the step's views. It begins as the teacher itself, learns its scale, and is gone at inference.
- Both networks learn the same draw, and one's own classes may be what it is taught; nothing is learnt through a label.
- The warm-up is as long as CLIP2Scene's, of the same authors; terms weigh the same; no temperature, as there.
- SAM's features aren't in a cache: the two networks' are drawn to each other, and both give way.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.objectives.losses import own_labels, pair_cross_entropy, pair_distance
from hicl.train.taught import Needs

WARM_UP = 1 / 3  # of the epochs
_SCALE = 10.0  # of the 2D network at first: teacher and text have unit length, and scores below 1 tell little apart


def needs(config: Config) -> Needs:
    """See `Kind`."""
    return Needs("masked", rows="voxels")


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "Chen":
    """See `Kind`."""
    return Chen(text.shape[1], WARM_UP * config.schedule.epochs, group)


class Adapter(nn.Module):
    """The 2D network: features [R, d] to [R, d], at first `_SCALE` times themselves."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.scale = nn.Parameter(torch.tensor(_SCALE))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * (features + self.out(F.relu(self.hidden(features))))


class Chen(Added):
    """See `Objective`. Terms: {ce, image, cos}. width: d. warm_up: epoch from which on networks may label."""

    def __init__(self, width: int, warm_up: float, group: Group):
        super().__init__()
        self.warm_up = warm_up
        self.heads["adapter"] = Adapter(width).to(group.device)
        self._wrapped = group.wrap(self.heads["adapter"])

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        batch, taught = inputs.batch, inputs.taught
        # A draw in every epoch, so that a resumed run draws the same whenever the warm-up ends.
        drawn = int(torch.randint(3, ()))
        voxel = taught.entries[1]  # of each row: there one has one
        return consistency(
            inputs.features.index_select(0, voxel),  # whose way back is faster than that of indexing
            self._wrapped(taught.features),
            inputs.text,
            batch.histogram[voxel],
            taught.count,
            drawn if batch.epoch >= self.warm_up else 0,
        )


def consistency(
    point_Rd: torch.Tensor,
    image_Rd: torch.Tensor,
    text: torch.Tensor,
    histogram_RC: torch.Tensor,
    pairs_R: torch.Tensor,
    teacher: int,
) -> dict[str, Term]:
    """The three terms, of rows of pairs that share their features.

    Args:
        histogram: labels of a row's pairs, after the masks' vote. pairs: how many a row has, labelled or not.
        teacher: whose labels both learn: 0, the masks'; 1, the 2D network's; 2, the 3D network's.
    """
    by_point, by_image = point_Rd @ text.T, image_Rd @ text.T
    labels = own_labels((by_image, by_point)[teacher - 1], histogram_RC) if teacher else histogram_RC
    return {
        "ce": pair_cross_entropy(by_point, labels),
        "image": pair_cross_entropy(by_image, labels),
        "cos": pair_distance(point_Rd, F.normalize(image_Rd, dim=1), pairs_R),
    }
