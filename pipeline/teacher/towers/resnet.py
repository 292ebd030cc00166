"""OpenAI's ResNets, whose attention pooling is the only block that read-outs see."""

from functools import partial
from typing import Any

import torch
from torch.func import functional_call

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen
from hicl.pipeline.teacher.towers.pools import Pool
from hicl.pipeline.teacher.towers.tower import Tower, Visual, resized


def tower(visual: Visual) -> Tower:
    """Of a `ModifiedResNet`."""
    pool = _Pool(visual.attnpool)
    return Tower(
        patch=(32, 32),
        depth=1,
        see=partial(_see, visual, pool),
        finish=torch.nn.Identity(),
        whole=lambda seen: pool.ask(seen.tokens[-1], _positions(visual, seen.grid)),
        own=partial(_own, visual),
    )


class _Pool(Pool):
    """open_clip's `AttentionPool2d`. Patches are read without the positions that it adds to them, as MaskCLIP does."""

    def __init__(self, pool: Any):
        self.heads, self._pool = pool.num_heads, pool

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self._pool.q_proj(x), self._pool.k_proj(x), self._pool.v_proj(x)

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        return self._pool.c_proj(gathered)

    def ask(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The model's own pooling of patches [B, N, D] to [B, d]: their mean asks, with positions [1 + N, D]."""
        q, k, v = self.qkv(torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + positions)
        return self.project(attend(q[:, :1], k, v, self.heads))[:, 0]


def _see(visual: Visual, pool: _Pool, images: torch.Tensor) -> Seen:
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
    return Seen([x.flatten(2).transpose(1, 2)], [pool], tuple(x.shape[-2:]))


def _positions(visual: Visual, grid: tuple[int, int]) -> torch.Tensor:
    embedding = visual.attnpool.positional_embedding
    side = round((len(embedding) - 1) ** 0.5)
    return resized(embedding, (side, side), grid)


def _own(visual: Visual, images: torch.Tensor) -> torch.Tensor:
    grid = images.shape[-2] // 32, images.shape[-1] // 32
    return functional_call(visual, {"attnpool.positional_embedding": _positions(visual, grid)}, (images,))
