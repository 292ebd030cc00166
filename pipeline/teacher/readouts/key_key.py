"""MaskCLIP's reading with values averaged by the similarity of keys."""

import torch

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen


def read(seen: Seen) -> torch.Tensor:
    """close(x, softmax(k kᵀ / √d) v) with d numbers a head."""
    x = seen.tokens[-1]
    _, k, v = seen.last.qkv(x)
    return seen.patches(seen.last.close(x, attend(k, k, v, seen.last.heads)))
