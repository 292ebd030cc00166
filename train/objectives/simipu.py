"""SimIPU: pixels with points, and points with themselves (Li et al., AAAI 2022, arXiv 2112.04680).

L = InfoNCE(u(g_i), v(f_i)) over pairs + InfoNCE(s(f_i), stop(s(f'_i))) over matches of the cloud with a moved copy

u, v and s are projections of three layers, each with batch normalisation, to 128 channels, the hidden width twice the
feature's for images and the feature's own for points; τ = 0.07; both terms count the same (zhyever/SimIPU
`project_cl/configs/simipu/simipu_kitti.py` and `decorator/inter_intro_decorator_moco_better.py`).

What differs: the image's network is the frozen teacher, as SimIPU would train it and we train points; so no gradient is
stopped at the point's side of the first term, as theirs is. Pairs are of one of the two clouds alone, as there. They
match 512 points with the nearest of the moved copy; here a point is the same point, in two overlapping parts
(`train/twins.py`). Projections are gone at inference, so that words read its features no better than chance: for `hicl
finetune`.
"""

import torch
from torch import nn

from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Added, Inputs, Term
from hicl.train.objectives.contrast import info_nce, projection, rows_of_a_scene
from hicl.train.taught import Needs

OUT = 128


def needs(config: Config) -> Needs:
    """See `Kind`."""
    rows = rows_of_a_scene(config)
    return Needs(rows="pairs", most=rows, matches=rows)


def make(config: Config, net: nn.Module, text: torch.Tensor, group: Group) -> "SimIpu":
    """See `Kind`."""
    return SimIpu(text.shape[1], config.contrast.temperature, group)


class SimIpu(Added):
    """See `Objective`. Terms: {cross, intra}."""

    def __init__(self, width: int, temperature: float, group: Group):
        super().__init__()
        self.temperature = temperature
        for name, hidden in (("image", 2 * width), ("point", width), ("self", width)):
            self.heads[name] = group.synchronise_norms(projection(width, hidden, OUT).to(group.device))
        self._wrapped = {name: group.wrap(head) for name, head in self.heads.items()}

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught, matches = inputs.taught, inputs.matches
        image, point = self._wrapped["image"](taught.features), self._wrapped["point"](taught.pooled(inputs.features))
        both = self._wrapped["self"](inputs.features[matches.T.flatten()])
        first, second = both.chunk(2)
        return {
            "cross": info_nce(image, point, self.temperature),
            "intra": info_nce(first, second.detach(), self.temperature),
        }
