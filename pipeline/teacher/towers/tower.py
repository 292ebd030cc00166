"""An image tower taken apart for dense reading, and the test of whether it was taken apart rightly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts.attention import attend
from hicl.pipeline.teacher.readouts.seen import Seen
from hicl.pipeline.teacher.readouts.smoothing import smoothed

if TYPE_CHECKING:
    from hicl.pipeline.teacher.readouts import ReadOut

Visual = Any
"""The image half of an open_clip model, whose parts torch.nn.Module's types don't tell."""

# Rows and columns of patches of the images that a tower is tested on: few, and not square.
_GRID = (2, 3)
_ALIKE = 0.999


@dataclass(frozen=True)
class Tower:
    """patch: pixels in a patch, (rows, columns). depth: how many blocks read-outs see. see: normalised images
    [B, 3, H, W] of whole patches to what they are before the last block. finish: tokens [B, N, D] after the last block
    to the joint space, [B, N, d].

    whole: what is seen of whole images to a vector each, [B, d]: by the parts that read-outs are given, but pooled as
    the model pools. own: the same images to the vector that the model itself gives.
    """

    patch: tuple[int, int]
    depth: int
    see: Callable[[torch.Tensor], Seen]
    finish: Callable[[torch.Tensor], torch.Tensor]
    whole: Callable[[Seen], torch.Tensor]
    own: Callable[[torch.Tensor], torch.Tensor]

    def grid(self, images: torch.Tensor, read_out: "ReadOut", smooth: bool = False) -> torch.Tensor:
        """Normalised images [B, 3, H, W] to the joint space, [B, rows, columns, d]. smooth: by keys."""
        seen = self.see(images)
        features = self.finish(read_out(seen))
        return (smoothed(features, seen) if smooth else features).unflatten(1, seen.grid)

    @torch.inference_mode()
    def tested(self, device: torch.device) -> tuple[float, int]:
        """(cosine of `whole` and `own`, the smaller of two random images'; width d of the joint space)."""
        size = [count * pixels for count, pixels in zip(_GRID, self.patch, strict=True)]
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
        own = self.own(images).float()
        return F.cosine_similarity(self.whole(self.see(images)).float(), own).min().item(), own.shape[-1]


def assert_pools(tower: Tower, device: torch.device, name: str) -> int:
    """Width d of the joint space of a tower whose parts, put together again, are the model: of small images, a
    thousandth or less from its own vectors. Raises `HiclError` for another: it would be read wrongly without a word."""
    try:
        cosine, dim = tower.tested(device)
    except Exception as error:  # of whatever a library's tower is made differently than expected
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise HiclError(f"--clip {name}: can't be read densely ({reason}); use another model") from None
    if not cosine > _ALIKE:  # not a number, too
        raise HiclError(
            f"--clip {name}: can't be read densely: its parts, put together again, give an image another vector than "
            f"the model does (cosine {cosine:.3f}); use another model"
        )
    return dim


def pooled_token(seen: Seen, finish: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The class token as the last block leaves it, in the joint space: [B, d]."""
    x = seen.tokens[-1]
    q, k, v = seen.last.qkv(x)
    return finish(seen.last.close(x, attend(q, k, v, seen.last.heads))[:, :1])[:, 0]


def embed(
    patches: torch.Tensor, before: list[torch.Tensor], embedding: torch.Tensor | None, grid: tuple[int, int]
) -> torch.Tensor:
    """Tokens [B, n + rows · columns, D] of an image: class token and registers, then patches, with their positions.

    patches: [B, D, rows, columns]. before: n tokens [D]. embedding: positions [rows' · columns', D], with or without
    those of the tokens before, of the grid that the model was trained with. None: the model has none.
    """
    size = tuple(patches.shape[-2:])
    x = patches.flatten(2).transpose(1, 2)
    head = [token.expand(len(x), 1, -1) for token in before]
    if embedding is None:
        return torch.cat([*head, x], dim=1)
    positions = resized(embedding, grid, size)
    if len(positions) == x.shape[1]:
        return torch.cat([*head, x + positions], dim=1)
    return torch.cat([*head, x], dim=1) + positions


def resized(embedding: torch.Tensor, grid: tuple[int, int], size: tuple[int, ...]) -> torch.Tensor:
    """Positional embedding [n + rows · columns, D] for another grid: plain bicubic as MaskCLIP does it. open_clip's and
    timm's own resizing antialiases, which in torch is another cubic kernel: 5 % relative difference when going up."""
    if grid == size:
        return embedding
    before = len(embedding) - grid[0] * grid[1]
    image = embedding[before:].T.unflatten(1, grid)[None]
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:before], image[0].flatten(1).T])
