"""SC-CLIP (Bai et al., arXiv 2411.15869): calibrated by what the blocks before the last know.

1. The 5 % of patches of block 11 whose density is lowest beside their neighbours' become the mean of those around them
   (`_mending`), in block 11 and in block 9.
2. S is the cosine of two patches of block 9. x is block 11 averaged by it: by [S ≥ β] S, its rows summing to one.
3. y = ½ (softmax(3 (S - mean S) where ≥ 0) + softmax(k kᵀ / √d)) v of x, projected, plus 0.3 of the class token. No
   residual, no MLP.
4. The same of the sum of blocks 4 to 10, instead of x, with its own class token, is added.
5. All of it is averaged by similarity again, of block 4.

β = 0.4 (SuleBai/SC-CLIP, clip/model.py). Two things there depend on what is beside an image, or on its shape, and are
otherwise here: mean S is an image's own, and an outlier's row is its number divided by the columns, not by the rows.
Tokens before the patches don't take part. A tower without a class token adds none, nor does one that ends in a pooling:
what that gives lies in another space than its tokens.
"""

import torch
import torch.nn.functional as F

from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen

LEAST_BLOCKS = 2
_NEIGHBOURS, _OUTLIERS = 30, 0.05
_BETA, _SHARPNESS, _CLASS_SHARE = 0.4, 3.0, 0.3
_SIMILAR, _COARSE, _SUMMED = 9, 4, range(4, 11)


def read(seen: Seen) -> torch.Tensor:
    x = seen.patches(seen.tokens[-1])
    mend = _mending(x.float(), seen.grid).to(x.dtype)
    similar = _cosines(mend @ seen.patches(seen.tokens[seen.depth(_SIMILAR)]))
    focus = _SHARPNESS * (similar - similar.mean(dim=(1, 2), keepdim=True))
    focus = focus.masked_fill(focus < 0, float("-inf")).softmax(dim=-1)
    levels = torch.stack([seen.tokens[seen.depth(n)] for n in _SUMMED]).sum(dim=0)
    y = _closed(seen, _averaged(similar, mend @ x), focus) + _closed(seen, seen.patches(levels), focus)
    if seen.before and seen.last.residual:
        y = y + _CLASS_SHARE * (seen.tokens[-1] + levels)[:, :1]
    return _averaged(_cosines(seen.patches(seen.tokens[seen.depth(_COARSE)])), y)


def _closed(seen: Seen, x: torch.Tensor, focus: torch.Tensor) -> torch.Tensor:
    last, before = seen.last, seen.tokens[-1][:, : seen.before]  # a block with rotary positions counts on them
    _, k, v = (seen.patches(each) for each in last.qkv(torch.cat([before, x], dim=1)))
    return last.project((focus.to(v.dtype) @ v + attend(k, k, v, last.heads)) / 2)


def _cosines(x: torch.Tensor) -> torch.Tensor:
    """[B, N, D] to [B, N, N]"""
    x = F.normalize(x, dim=-1)
    return x @ x.transpose(1, 2)


def _averaged(similar: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    weight = similar.masked_fill(similar < _BETA, 0)
    return (weight / (weight.sum(dim=-1, keepdim=True) + 1e-6)).to(x.dtype) @ x


def _mending(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The matrix [B, N, N] that puts the mean of the up to eight sound patches around it in an outlier's place.

    x: float32 [B, N, D]. Outliers are by the local outlier factor (Breunig et al. 2000) as SC-CLIP's code has it: a
    patch's density is the inverse of its squared distance from its 30th neighbour, and its factor the neighbours' mean
    density by its own. An outlier amid outliers stays.
    """
    distance = torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist").square()
    count = min(_NEIGHBOURS, x.shape[1] - 1)
    nearest, who = distance.topk(count + 1, largest=False)
    density = 1 / nearest[:, :, -1].clamp(min=1e-6)
    neighbours = density[:, None].expand_as(distance).gather(2, who[:, :, 1:])
    factor = (neighbours / density[:, :, None]).mean(dim=-1)
    outlier = factor > factor.quantile(1 - _OUTLIERS, dim=1, keepdim=True)
    steps = [torch.arange(size, device=x.device) for size in grid]
    beside = torch.kron(*(((step[:, None] - step).abs() <= 1).float() for step in steps))
    around = beside * ~outlier[:, None]
    number = around.sum(dim=-1, keepdim=True)
    mended = outlier[:, :, None] & (number > 0)
    return torch.where(mended, around / number.clamp(min=1), torch.eye(x.shape[1], device=x.device))
