"""open_clip's own vision transformers: CLIP's, CLIPA's (pooled by average), CoCa's (pooled by learnt queries)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.func import functional_call

from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts.seen import Block, Seen
from hicl.pipeline.teacher.towers.pools import Average, Queries, WholePool
from hicl.pipeline.teacher.towers.tower import Tower, Visual, embed, pooled_token, resized


def tower(visual: Visual, name: str) -> Tower:
    """Of a `VisionTransformer`. Raises `HiclError` where open_clip itself couldn't run it, or pools in two steps."""
    if getattr(visual, "attn_pool_contrastive", None) is not None or visual.proj is None:
        raise HiclError(f"--clip {name}: pools in two steps, which has no dense reading; use another model")
    blocks: list[Block] = [_Residual(block) for block in visual.transformer.resblocks]
    pool: WholePool | None = None
    finish: Callable[[torch.Tensor], torch.Tensor] = lambda x: visual.ln_post(x) @ visual.proj  # noqa: E731
    if visual.attn_pool is not None:
        pool = Queries(visual.attn_pool)
    elif visual.pool_type == "avg" and visual.final_ln_after_pool:
        pool = Average(torch.nn.Identity())
    elif visual.pool_type == "avg":
        pool, finish = Average(visual.ln_post), lambda x: x @ visual.proj
    blocks += [pool] if pool is not None else []

    def whole(seen: Seen) -> torch.Tensor:
        if pool is None:
            return pooled_token(seen, finish)
        return finish(pool.whole(seen.tokens[-1], seen.before))[:, 0]

    return Tower(
        patch=tuple(visual.patch_size),
        depth=len(blocks),
        see=partial(_see, visual, blocks),
        finish=finish,
        whole=whole,
        own=partial(_own, visual),
    )


class _Residual(Block):
    """`ResidualAttentionBlock`, or `CustomResidualAttentionBlock` with what its attention has more: norms of queries
    and keys a head (`qk_norm`), scaled heads (`scale_heads`), a norm of what they gathered (`scale_attn_inner`) and one
    of what they add (`scale_attn`)."""

    def __init__(self, block: Any):
        self.heads, self._block, self._attention = block.attn.num_heads, block, block.attn

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._block(x)

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        attention = self._attention
        q, k, v = F.linear(self._block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        if hasattr(attention, "ln_q"):
            q, k = (
                norm(each.unflatten(-1, (self.heads, -1))).flatten(-2)
                for norm, each in ((attention.ln_q, q), (attention.ln_k, k))
            )
        return q, k, v

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        scale = getattr(self._attention, "head_scale", None)
        if scale is not None:  # [heads, 1, 1]
            gathered = (gathered.unflatten(-1, (self.heads, -1)) * scale[:, 0]).flatten(-2)
        if hasattr(self._attention, "ln_inner"):
            gathered = self._attention.ln_inner(gathered)
        x = self._attention.out_proj(gathered)
        if hasattr(self._block, "ln_attn"):
            x = self._block.ln_attn(x)
        return self._block.ls_1(x)

    def close(self, x: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        x = x + self.project(gathered)
        return x + self._block.ls_2(self._block.mlp(self._block.ln_2(x)))


def _see(visual: Visual, blocks: list[Block], images: torch.Tensor) -> Seen:
    patches = visual.conv1(images)
    x = embed(patches, [visual.class_embedding], visual.positional_embedding, visual.grid_size)
    tokens = [visual.ln_pre(x)]
    for block in visual.transformer.resblocks[: len(blocks) - 1]:
        tokens.append(block(tokens[-1]))
    return Seen(tokens, blocks, tuple(patches.shape[-2:]))


def _own(visual: Visual, images: torch.Tensor) -> torch.Tensor:
    grid = [pixels // patch for pixels, patch in zip(images.shape[-2:], visual.patch_size, strict=True)]
    positions = resized(visual.positional_embedding, visual.grid_size, tuple(grid))
    pooled = functional_call(visual, {"positional_embedding": positions}, (images,))
    return pooled[0] if isinstance(pooled, tuple) else pooled
