"""Intra-scene and inter-scene correlation: the two transformers of Eq. 3 to 7.

Shapes: B scenes, M tokens a scene, d channels. The intra head gets [B, M, d], so that attention can't leave a scene;
the inter head gets the same tokens as [1, B M, d]. Neither is part of a saved model.
"""

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hicl.devices import fastest_products, products_by_onednn
from hicl.errors import HiclError
from hicl.train.config import HeadConfig

_WEIGHTS_AT_ONCE = 1 << 22  # of attention


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

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        """[B, T, d] to [B, T, d]; memory [B, Q, d] is attended to as well."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if memory is not None:
            remembered = F.linear(self.norm1(memory), self.qkv.weight[d:], self.qkv.bias[d:])
            more = remembered.view(b, -1, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([k, more[0]], dim=2), torch.cat([v, more[1]], dim=2)
        attended = attend(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q kᵀ / √d) v: [B, heads, T, d] and twice [B, heads, S, d] to [B, heads, T, d].

    PyTorch's own goes block by block, so that the weights never lie in memory as a whole; on a CPU by products that are
    small for oneDNN, which takes half as long for all at once where they fit into the cache.
    """
    weights = q.shape[:-1].numel() * k.shape[-2]
    if q.device.type != "cpu" or weights > _WEIGHTS_AT_ONCE or not products_by_onednn():
        return F.scaled_dot_product_attention(q, k, v)
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1) @ v


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

    def weights_and_values(
        self, x: torch.Tensor, memory: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """w [B, T, T + Q] and v [B, T + Q, d] of tokens [B, T, d] and memory [B, Q, d]."""
        known = x if memory is None else torch.cat([x, memory], dim=1)
        scores = self.query(x) @ self.key(known).transpose(1, 2) / x.shape[-1] ** 0.5
        return scores.softmax(dim=-1), self.value(known)

    def combine(self, x: torch.Tensor, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """f̂ [B, T, d] of f = x, w and v."""
        x = x + weights @ values
        return x + self.linear(x)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        """[B, T, d] to [B, T, d]; memory [B, Q, d] is attended to as well."""
        return self.combine(x, *self.weights_and_values(x, memory))


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

    def forward(self, x: torch.Tensor, memory: "Memory | None" = None) -> torch.Tensor:
        """[B, T, d] to [B, T, d]. memory, for B = 1, is attended to and then remembers what each block was given."""
        there_and_back = x.requires_grad or not torch.is_grad_enabled()  # or no gradient would end the region
        if x.device.type != "cpu" or not products_by_onednn() or not there_and_back:
            return self._through_blocks(x, memory)
        outside = torch.get_float32_matmul_precision()
        with fastest_products():
            x = self._through_blocks(_GradientsBehind.apply(x, outside, outside), memory)
            return _GradientsBehind.apply(x, torch.get_float32_matmul_precision(), outside)

    def _through_blocks(self, x: torch.Tensor, memory: "Memory | None") -> torch.Tensor:
        states = []
        for layer, block in enumerate(self):
            states.append(x.detach())
            x = block(x, None if memory is None else memory.of(layer))
        if memory is not None:
            memory.remember(torch.cat(states))
        return x


class _GradientsBehind(torch.autograd.Function):
    """Passes on what it is given. Where gradients have come back through it, float32 products are of the precision
    `behind`: between two of these, all are of one. When the pass ends, wherever it ends, they are of `afterwards`.

    The heads' matrices have the same sizes in every step, as `hicl.devices.fastest_products` wants them.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, behind: str, afterwards: str) -> torch.Tensor:
        ctx.behind, ctx.afterwards = behind, afterwards
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        torch.set_float32_matmul_precision(ctx.behind)
        # A pass may end within the head, where gradients of its weights alone are asked for.
        afterwards = functools.partial(torch.set_float32_matmul_precision, ctx.afterwards)
        torch.autograd.Variable._execution_engine.queue_callback(afterwards)
        return gradient, None, None


class Memory(nn.Module):
    """What the blocks of a head were given in the last steps: no gradient reaches it.

    Args:
        layers: blocks of the head.
        size: tokens that are kept, the newest.
        width: d.
    """

    tokens: torch.Tensor
    filled: torch.Tensor

    def __init__(self, layers: int, size: int, width: int):
        super().__init__()
        self.register_buffer("tokens", torch.zeros(layers, size, width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def of(self, layer: int) -> torch.Tensor | None:
        """[1, Q, d], the newest first; None before the first step."""
        filled = int(self.filled)
        return self.tokens[layer : layer + 1, :filled] if filled else None

    def remember(self, states_LTd: torch.Tensor) -> None:
        """Put these in front, and forget what is too much."""
        size = self.tokens.shape[1]
        # A new tensor: the old one is part of a graph that is yet to be run backwards.
        self.tokens = torch.cat([states_LTd.float(), self.tokens], dim=1)[:, :size].contiguous()
        self.filled = (self.filled + states_LTd.shape[1]).clamp(max=size)


def within_scenes(head: nn.Module, tokens_BMd: torch.Tensor) -> torch.Tensor:
    """Intra-scene correlation (Eq. 3): each scene's tokens attend to that scene. [B, M, d] to [B, M, d]."""
    return head(tokens_BMd)


def across_scenes(head: nn.Module, tokens_BMd: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
    """Inter-scene correlation (Eq. 7): the union of all scenes' tokens attends to itself. [B, M, d] to [B, M, d].

    memory: of scenes of earlier steps, whose tokens are keys and values as well.
    """
    b, m, d = tokens_BMd.shape
    union = tokens_BMd.reshape(1, b * m, d)
    return (head(union) if memory is None else head(union, memory)).view(b, m, d)
