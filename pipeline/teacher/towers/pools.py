"""Poolings of an image's last tokens, as blocks of which every patch can be read alone."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Block

Norm = Callable[[torch.Tensor], torch.Tensor]


class Pool(Block):
    """The last block of a tower that pools its tokens. It has no residual: what it projects is all it gives."""

    residual = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        raise TypeError("a pooling gives no tokens that another block could take")

    def close(self, x: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        return self.project(gathered)


class WholePool(Pool):
    """One that needs no more than the tokens to pool them as the model does."""

    @abstractmethod
    def whole(self, x: torch.Tensor, before: int) -> torch.Tensor:
        """What the model pools all tokens to, [B, L, D] to [B, 1, D']. before: tokens that stand before patches."""


class Average(WholePool):
    """The mean of patches: what one gives to it is the patch itself, so plain patches are in the text's space (CLIPA).
    The value path of the block before it would be the wrong reading. For read-outs it is an attention of one head,
    whose queries, keys and values are the tokens."""

    heads = 1

    def __init__(self, norm: Norm):
        self._norm = norm

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self._norm(x)
        return x, x, x

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        return gathered

    def whole(self, x: torch.Tensor, before: int) -> torch.Tensor:
        return self._norm(x[:, before:]).mean(dim=1, keepdim=True)


class Latent(WholePool):
    """timm's `AttentionPoolLatent`, SigLIP's head (multi-head attention pooling, Zhai et al., "Scaling Vision
    Transformers", CVPR 2022): a learnt query attends to the tokens, then an MLP with a residual.

    If it saw one patch alone, the softmax would be 1 and the patch's value would be all it gathers: with values in
    place of the attention, this is the head's own answer for each patch. Patches have no queries of their own here;
    read-outs that need some get the keys.
    """

    def __init__(self, pool: Any, norm: Norm, includes_before: bool):
        """includes_before: whether it attends to the class token and registers too."""
        self.heads, self._pool, self._norm, self._includes_before = pool.num_heads, pool, norm, includes_before

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        k, v = self._pool.kv(self._norm(x)).chunk(2, dim=-1)
        k = self._pool.k_norm(k.unflatten(-1, (self.heads, -1))).flatten(-2)
        return k, k, v

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        x = self._pool.proj(gathered)
        return x + self._pool.mlp(self._pool.norm(x))

    def whole(self, x: torch.Tensor, before: int) -> torch.Tensor:
        _, k, v = self.qkv(x if self._includes_before else x[:, before:])
        q = self._pool.q(self._pool.latent)
        q = self._pool.q_norm(q.unflatten(-1, (self.heads, -1))).flatten(-2)
        return self.project(attend(q.expand(len(x), -1, -1), k, v, self.heads))


class Queries(WholePool):
    """open_clip's `AttentionalPooler` (CoCa, Yu et al., TMLR 2022): learnt queries attend to the tokens, and the first
    one's answer is the image's. A patch alone gives its value, as of `Latent`."""

    def __init__(self, pooler: Any):
        self.heads, self._pooler = pooler.attn.num_heads, pooler

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, (_, keys, values) = self._pooler.ln_k(x), self._projections()
        k = F.linear(x, *keys)
        return k, k, F.linear(x, *values)

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        return self._pooler.attn.out_proj(gathered)

    def whole(self, x: torch.Tensor, before: int) -> torch.Tensor:
        _, k, v = self.qkv(x)
        q = F.linear(self._pooler.ln_q(self._pooler.query[:1]), *self._projections()[0])
        return self.project(attend(q.expand(len(x), 1, -1), k, v, self.heads))

    def _projections(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of queries, keys and values."""
        attention = self._pooler.attn
        if attention.in_proj_weight is not None:
            weights = attention.in_proj_weight.chunk(3)
        else:  # tokens of another width than the queries
            weights = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
        return list(zip(weights, attention.in_proj_bias.chunk(3), strict=True))
