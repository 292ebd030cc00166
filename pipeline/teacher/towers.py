"""CLIP's image towers, taken apart for dense reading: a feature for each patch instead of one for the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts.seen import Block, Seen
from hicl.pipeline.teacher.readouts.smoothing import smoothed

if TYPE_CHECKING:
    from hicl.pipeline.teacher.readouts import ReadOut

Visual = Any
"""The image half of an open_clip model, whose parts torch.nn.Module's types don't tell."""


@dataclass(frozen=True)
class Tower:
    """patch: pixels in a patch, (rows, columns). blocks: all of them. see: normalised images [B, 3, H, W] to what they
    are before the last block. finish: patch tokens [B, N, D] to the joint space, [B, N, d]."""

    patch: tuple[int, int]
    blocks: Sequence[Block]
    see: Callable[[torch.Tensor], Seen]
    finish: Callable[[torch.Tensor], torch.Tensor]

    def grid(self, images: torch.Tensor, read_out: "ReadOut", smooth: bool = False) -> torch.Tensor:
        """Normalised images [B, 3, H, W] to the joint space, [B, rows, columns, d]. smooth: by keys."""
        seen = self.see(images)
        features = self.finish(read_out(seen))
        return (smoothed(features, seen) if smooth else features).unflatten(1, seen.grid)


def of(visual: Visual, name: str) -> Tower:
    """The tower of an open_clip model. Raises `HiclError` where its architecture has no dense reading."""
    import open_clip

    if isinstance(visual, open_clip.transformer.VisionTransformer):
        if visual.attn_pool is not None or visual.proj is None:
            raise HiclError(f"--clip {name}: pools by cross-attention, which has no dense reading; use a plain ViT")
        blocks = [_Residual(block) for block in visual.transformer.resblocks]
        return Tower(tuple(visual.patch_size), blocks, partial(_see_vit, visual, blocks), partial(_finish_vit, visual))
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        pool = [_Pool(visual.attnpool)]
        return Tower((32, 32), pool, partial(_see_resnet, visual, pool), torch.nn.Identity())
    raise HiclError(f"--clip {name}: a {type(visual).__name__} can't be read densely; use a ViT or an RN model")


def short_side(visual: Visual) -> int:
    """Pixels of the shorter side of the images that a tower was trained on."""
    size = visual.image_size
    return size if isinstance(size, int) else min(size)


class _Residual(Block):
    """open_clip's `ResidualAttentionBlock`."""

    def __init__(self, block: Any):
        self.heads, self._block = block.attn.num_heads, block

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._block(x)

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        attention = self._block.attn
        q, k, v = F.linear(self._block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        return q, k, v

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        return self._block.ls_1(self._block.attn.out_proj(gathered))

    def close(self, x: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        x = x + self.project(gathered)
        return x + self._block.ls_2(self._block.mlp(self._block.ln_2(x)))


class _Pool(Block):
    """open_clip's `AttentionPool2d`, without the mean and the positions that its pooled vector is asked with."""

    def __init__(self, pool: Any):
        self.heads, self._pool = pool.num_heads, pool

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self._pool.q_proj(x), self._pool.k_proj(x), self._pool.v_proj(x)

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        return self._pool.c_proj(gathered)

    def close(self, x: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        return self.project(gathered)


def _see_vit(visual: Visual, blocks: list[_Residual], x: torch.Tensor) -> Seen:
    x = visual.conv1(x)
    rows, columns = x.shape[-2:]
    cls = visual.class_embedding.expand(len(x), 1, -1)
    x = torch.cat([cls, x.flatten(2).transpose(1, 2)], dim=1)
    tokens = [visual.ln_pre(x + _positions(visual.positional_embedding, visual.grid_size, (rows, columns)))]
    for block in blocks[:-1]:
        tokens.append(block(tokens[-1]))
    return Seen(tokens, blocks, (rows, columns))


def _finish_vit(visual: Visual, x: torch.Tensor) -> torch.Tensor:
    return visual.ln_post(x) @ visual.proj


def _see_resnet(visual: Visual, pool: list[_Pool], x: torch.Tensor) -> Seen:
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(x)))))
    rows, columns = x.shape[-2:]
    return Seen([x.flatten(2).transpose(1, 2)], pool, (rows, columns))


def _positions(embedding: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Positional embedding for another grid: plain bicubic as MaskCLIP does it. open_clip's own resizing antialiases,
    which in torch is another cubic kernel: 5 % relative difference when going up."""
    if grid == size:
        return embedding
    cls, patches = embedding[:1], embedding[1:]
    image = patches.T.unflatten(1, grid)[None]
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return torch.cat([cls, image[0].flatten(1).T])
