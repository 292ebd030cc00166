"""SCLIP (Wang, Mei & Yuille, ECCV 2024): tokens attend to those that ask alike, and to those that answer alike.

In place of softmax(q kᵀ / √d) v the last block has (softmax(q qᵀ / √d) + softmax(k kᵀ / √d)) v; its residual and its
MLP stay (wangf3014/SCLIP, clip/model.py `custom_attn`). The two are summed there, not averaged, and so they are here.
"""

import torch

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen


def read(seen: Seen) -> torch.Tensor:
    x, last = seen.tokens[-1], seen.last
    q, k, v = last.qkv(x)
    return seen.patches(last.close(x, attend(q, q, v, last.heads) + attend(k, k, v, last.heads)))
