"""MaskCLIP's reading with values averaged by the similarity of queries."""

import torch

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen


def read(seen: Seen) -> torch.Tensor:
    """close(x, softmax(q qᵀ / √d) v) with d numbers a head."""
    x = seen.tokens[-1]
    q, _, v = seen.last.qkv(x)
    return seen.patches(seen.last.close(x, attend(q, q, v, seen.last.heads)))
