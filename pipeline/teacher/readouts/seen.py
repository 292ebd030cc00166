"""What a dense read-out sees of an image tower: the tokens after every block but the last, the blocks, the grid."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

    Tokens = torch.Tensor  # float32 or bfloat16 [B, L, D]


class Block(Protocol):
    """A transformer block in the parts that read-outs take apart. Whatever else its kind has (layer scale, norms of
    queries and keys, scaled heads, rotary positions) is done within these, so that with softmax(q kᵀ / √(D / heads)) v
    as `gathered` in each head, `close` gives what the block itself gives.

    A pooling by attention is one too, of which `project` leads into the joint space, and `close` does no more.

    residual: whether `close` adds to the tokens that the block gets; a pooling doesn't.
    """

    heads: int
    residual: bool = True

    def qkv(self, x: "Tokens") -> tuple["Tokens", "Tokens", "Tokens"]:
        """Queries, keys and values of tokens that the block gets: [B, L, D] each, head beside head."""
        ...

    def project(self, gathered: "Tokens") -> "Tokens":
        """What the attention adds to the tokens, of what its heads gathered, [B, L, D]."""
        ...

    def close(self, x: "Tokens", gathered: "Tokens") -> "Tokens":
        """What the block gives, with its residuals and its MLP, where its heads gathered this."""
        ...


class Seen(NamedTuple):
    """A batch of images before the tower's last block.

    tokens: tokens[n] is what n blocks have made of the images, [B, L, D], up to what the last one gets. A class token
    and registers stand before the patches, as many as there are.
    blocks: all of them, so one more than `tokens` has steps; a pooling is its tower's last, a ResNet's only one.
    grid: rows and columns of patches.
    """

    tokens: Sequence["Tokens"]
    blocks: Sequence[Block]
    grid: tuple[int, int]

    @property
    def before(self) -> int:
        """Tokens that stand before the patches'."""
        return self.tokens[0].shape[1] - self.grid[0] * self.grid[1]

    @property
    def last(self) -> Block:
        return self.blocks[-1]

    def depth(self, n: int) -> int:
        """The number of the block that lies as deep in this tower as the n-th in ViT-B's twelve; never the last."""
        return min(max(round(n * len(self.blocks) / 12), 1), len(self.blocks) - 1)

    def patches(self, tokens: "Tokens") -> "Tokens":
        """[B, L, ...] to [B, rows · columns, ...]"""
        return tokens[:, self.before :]
