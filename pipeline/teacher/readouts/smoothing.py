"""MaskCLIP's key smoothing: patches that answer alike are read alike.

Each patch's feature becomes the sum of all patches', times the cosine of their keys in the last block, which may be
negative and isn't normalised (chongzhou96/MaskCLIP, mmseg/models/decode_heads/maskclip_head.py:137-153). There the
classes' probabilities are summed up; features don't hang on the class list, and their sum gives any class the sum of
its scores. As there, keys go through the output projection first, but for an attention pool's.
"""

import torch
import torch.nn.functional as F

from hicl.pipeline.teacher.readouts.seen import Seen


def smoothed(features: torch.Tensor, seen: Seen) -> torch.Tensor:
    """[B, rows · columns, d] to the same; of what comes in, unit length is taken."""
    _, keys, _ = seen.last.qkv(seen.tokens[-1])
    keys = F.normalize(seen.patches(keys if len(seen.blocks) == 1 else seen.last.project(keys)), dim=-1)
    return keys @ keys.transpose(1, 2) @ F.normalize(features, dim=-1)
