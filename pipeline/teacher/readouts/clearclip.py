"""ClearCLIP (Lan et al., ECCV 2024): what the last block's attention adds, and nothing else.

softmax(q qᵀ / √d) v through the output projection; the residual, which carries what the image is of rather than what is
where, is left out, and with it the MLP (mc-lan/ClearCLIP, open_clip/transformer.py, `ignore_residual`).
"""

import torch

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen


def read(seen: Seen) -> torch.Tensor:
    q, _, v = seen.last.qkv(seen.tokens[-1])
    return seen.patches(seen.last.project(attend(q, q, v, seen.last.heads)))
