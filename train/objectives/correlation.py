"""Intra-scene and inter-scene correlation: the two transformers of Eq. 3 to 7.

Shapes: B scenes, M tokens a scene, d channels. The intra head gets [B, M, d], so that attention can't leave a scene;
the inter head gets the same tokens as [1, B M, d]. Neither is part of a saved model.
"""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.errors import HiclError
from hicl.train.config import HeadConfig


class VitBlock(nn.Module):
    """Pre-LN self-attention and MLP. Both output projections start at zero, so a new block passes its input on."""

    def __init__(self, width: int, heads: int, ffn: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, ffn * width)
        self.fc2 = nn.Linear(ffn * width, width)
        for layer in (self.out, self.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, d] to [B, T, d]."""
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class PlainBlock(nn.Module):
    """The block as Eq. 3 prints it: f̃_m = f_m + Σ_n w_mn v_n, f̂_m = f̃_m + Linear(f̃_m); w a softmax over n.

    Values and Linear start at zero, as the other block's outputs do.
    """

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value, self.linear = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.value, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def weights_and_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """w [B, T, T] and v [B, T, d] of tokens [B, T, d]."""
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.shape[-1] ** 0.5
        return scores.softmax(dim=-1), self.value(x)

    def combine(self, x: torch.Tensor, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """f̂ [B, T, d] of f = x, w and v."""
        x = x + weights @ values
        return x + self.linear(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, d] to [B, T, d]."""
        return self.combine(x, *self.weights_and_values(x))


class CorrelationHead(nn.Sequential):
    """Layers of blocks, without positions (visual correlation knows none) and without a final LayerNorm.

    A final norm would rescale features that are scored against the text by raw inner product (METHOD 7.2 row 1).

    Raises:
        HiclError: d can't be divided among the attention heads.
    """

    def __init__(self, width: int, config: HeadConfig):
        if config.block == "vit" and width % config.heads:
            raise HiclError(f"heads.heads = {config.heads} doesn't divide the teacher's width {width}")
        make = {"vit": lambda: VitBlock(width, config.heads, config.ffn), "eq3": lambda: PlainBlock(width)}
        super().__init__(*(make[config.block]() for _ in range(config.layers)))


def within_scenes(head: nn.Module, tokens_BMd: torch.Tensor) -> torch.Tensor:
    """Intra-scene correlation (Eq. 3): each scene's tokens attend to that scene. [B, M, d] to [B, M, d]."""
    return head(tokens_BMd)


def across_scenes(head: nn.Module, tokens_BMd: torch.Tensor) -> torch.Tensor:
    """Inter-scene correlation (Eq. 7): the union of all scenes' tokens attends to itself. [B, M, d] to [B, M, d]."""
    b, m, d = tokens_BMd.shape
    return head(tokens_BMd.reshape(1, b * m, d)).view(b, m, d)
