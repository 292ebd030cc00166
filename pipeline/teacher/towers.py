"""CLIP's image towers, run up to a feature for each patch instead of one for the image.

CLIP pools its last feature map by attention; what a patch would contribute is its value, so the value path alone, sent
through the same projection as the pooled vector, lands in the text's space at every patch (MaskCLIP).
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from hicl.errors import HiclError

if TYPE_CHECKING:
    from hicl.pipeline.teacher.readouts import ReadOut

Visual = Any
"""The image half of an open_clip model, whose parts torch.nn.Module's types don't tell."""


class Tower(NamedTuple):
    """patch: pixels in a patch, (rows, columns). grid: (normalised images [B, 3, H, W], read-out) to [B, h, w, d]."""

    patch: tuple[int, int]
    grid: "Callable[[torch.Tensor, ReadOut], torch.Tensor]"


def of(visual: Visual, name: str) -> Tower:
    """The tower of an open_clip model. Raises `HiclError` where its architecture has no dense reading."""
    import open_clip

    if isinstance(visual, open_clip.transformer.VisionTransformer):
        if visual.attn_pool is not None or visual.proj is None:
            raise HiclError(f"--clip {name}: pools by cross-attention, which has no dense reading; use a plain ViT")
        return Tower(tuple(visual.patch_size), partial(_vit, visual))
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        return Tower((32, 32), partial(_resnet, visual))
    raise HiclError(f"--clip {name}: a {type(visual).__name__} can't be read densely; use a ViT or an RN model")


def short_side(visual: Visual) -> int:
    """Pixels of the shorter side of the images that a tower was trained on."""
    size = visual.image_size
    return size if isinstance(size, int) else min(size)


def _vit(visual: Visual, x: torch.Tensor, read_out: "ReadOut") -> torch.Tensor:
    x = visual.conv1(x)
    rows, columns = x.shape[-2:]
    cls = visual.class_embedding.expand(len(x), 1, -1)
    x = torch.cat([cls, x.flatten(2).transpose(1, 2)], dim=1)
    x = visual.ln_pre(x + _positions(visual.positional_embedding, visual.grid_size, (rows, columns)))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    attention = last.attn
    q, k, v = F.linear(last.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    x = x + last.ls_1(attention.out_proj(read_out(q, k, v, attention.num_heads)))
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    x = visual.ln_post(x)[:, 1:] @ visual.proj
    return x.unflatten(1, (rows, columns))


def _resnet(visual: Visual, x: torch.Tensor, read_out: "ReadOut") -> torch.Tensor:
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(x)))))
    rows, columns = x.shape[-2:]
    x, pool = x.flatten(2).transpose(1, 2), visual.attnpool
    x = read_out(pool.q_proj(x), pool.k_proj(x), pool.v_proj(x), pool.num_heads)
    return pool.c_proj(x).unflatten(1, (rows, columns))


def _positions(embedding: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Positional embedding for another grid: plain bicubic as MaskCLIP does it. open_clip's own resizing antialiases,
    which in torch is another cubic kernel: 5 % relative difference when going up."""
    if grid == size:
        return embedding
    cls, patches = embedding[:1], embedding[1:]
    image = patches.T.unflatten(1, grid)[None]
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return torch.cat([cls, image[0].flatten(1).T])
