"""NACLIP (Hajimiri, Ben Ayed & Dolz, WACV 2025): a patch attends to its neighbourhood.

softmax(k kᵀ / √d + ω) v through the output projection, without residual and MLP, where ω = exp(-r² / 2σ²) of two
patches r apart, σ = 5 patches, and 0 from or to the class token (sinahmr/NACLIP, clip/model.py `custom_attn`).
"""

import torch

from hicl.pipeline.teacher.readouts.attention import attend, nearness
from hicl.pipeline.teacher.readouts.seen import Seen


def read(seen: Seen) -> torch.Tensor:
    x, last = seen.tokens[-1], seen.last
    _, k, v = last.qkv(x)
    near = nearness(seen.grid, seen.before, x.device)
    return seen.patches(last.project(attend(k, k, v, last.heads, near)))
