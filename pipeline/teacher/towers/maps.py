"""timm's convolutional towers (ConvNeXt, FastViT and others): a feature map, averaged, then a head.

What a patch gives to the average is the patch itself, and the head's answer for it alone is its reading; as of
`pools.Average`, which is the only block that read-outs see.
"""

from functools import partial

import torch

from hicl.pipeline.teacher.readouts.seen import Seen
from hicl.pipeline.teacher.towers.pools import Average
from hicl.pipeline.teacher.towers.tower import Tower, Visual

_SIDE = 256  # pixels of an image whose feature map says how large a patch is


def tower(visual: Visual) -> Tower:
    """Of a `TimmModel` whose trunk makes feature maps."""
    pool = Average(torch.nn.Identity())
    finish = partial(_finish, visual)
    return Tower(
        patch=_patch(visual),
        depth=1,
        see=partial(_see, visual, pool),
        finish=finish,
        whole=lambda seen: finish(pool.whole(seen.tokens[-1], 0))[:, 0],
        own=visual,
    )


@torch.inference_mode()
def _patch(visual: Visual) -> tuple[int, int]:
    parameter = next(visual.parameters())
    rows, columns = visual.trunk.forward_features(parameter.new_zeros(1, 3, _SIDE, _SIDE)).shape[-2:]
    return _SIDE // rows, _SIDE // columns


def _see(visual: Visual, pool: Average, images: torch.Tensor) -> Seen:
    x = visual.trunk.forward_features(images)
    return Seen([x.flatten(2).transpose(1, 2)], [pool], tuple(x.shape[-2:]))


def _finish(visual: Visual, x: torch.Tensor) -> torch.Tensor:
    """Each patch as an image of one: [B, N, D] to [B, N, d]."""
    pooled = visual.trunk.forward_head(x.flatten(0, 1)[..., None, None])
    return visual.head(pooled).unflatten(0, x.shape[:2])
