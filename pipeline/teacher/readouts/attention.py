"""Attention of several heads, for read-outs that ask other tokens than CLIP's last block does."""

import torch
import torch.nn.functional as F

NEIGHBOURHOOD = 5.0
"""NACLIP's standard deviation in patches (sinahmr/NACLIP, README.md: `--std 5`), and ResCLIP's."""


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q kᵀ / √d + bias) v in each head of d numbers, without the output projection: [B, L, D] each to
    [B, L, D]. bias: [L, L]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    bias = None if bias is None else bias.to(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


def nearness(grid: tuple[int, int], before: int, device: torch.device) -> torch.Tensor:
    """exp(-r² / 2σ²) of two patches r apart, 0 where one isn't a patch: [L, L] of tokens of which so many stand before
    the patches."""
    rows, columns = (torch.arange(size, dtype=torch.float32, device=device) for size in grid)
    near = [torch.exp(-((x[:, None] - x) ** 2) / (2 * NEIGHBOURHOOD**2)) for x in (rows, columns)]
    return F.pad(torch.kron(*near), (before, 0, before, 0))
