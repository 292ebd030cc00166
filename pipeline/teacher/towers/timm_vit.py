"""timm's vision transformers, with class token (EVA, MobileCLIP), pooled by average (ViTamin) or by a learnt query
(SigLIP, PE)."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts.seen import Block, Seen
from hicl.pipeline.teacher.towers.pools import Average, Latent, WholePool
from hicl.pipeline.teacher.towers.tower import Tower, Visual, embed, pooled_token, resized

# Kinds of blocks that `_Block` takes apart.
_BLOCKS = ("Block", "EvaBlock", "EvaBlockPostNorm")


def tower(visual: Visual, name: str) -> Tower:
    """Of a `TimmModel` whose trunk is a `VisionTransformer` or an `Eva`. Raises `HiclError` for a pooling or a kind of
    block that isn't known."""
    trunk = visual.trunk
    kinds = {type(block).__name__ for block in trunk.blocks} - {*_BLOCKS}
    if kinds or trunk.global_pool not in ("token", "avg", "map"):
        what = f"blocks are {', '.join(sorted(kinds))}" if kinds else f"pooling is {trunk.global_pool!r}"
        raise HiclError(f"--clip {name}: its {what}, which has no dense reading; use another model")
    pool: WholePool | None = None
    norm: Callable[[torch.Tensor], torch.Tensor] = torch.nn.Identity()
    if trunk.global_pool == "map":
        includes = getattr(trunk, "pool_include_prefix", True)  # Eva's attends to all tokens
        pool = Latent(trunk.attn_pool, trunk.norm, includes)
    elif trunk.global_pool == "avg":
        pool = Average(trunk.norm)
    else:
        norm = trunk.norm

    def finish(x: torch.Tensor) -> torch.Tensor:
        return visual.head(trunk.head(trunk.fc_norm(norm(x))))

    def whole(seen: Seen) -> torch.Tensor:
        if pool is None:
            return pooled_token(seen, finish)
        return finish(pool.whole(seen.tokens[-1], seen.before))[:, 0]

    trunk.patch_embed.strict_img_size = False
    return Tower(
        patch=tuple(trunk.patch_embed.feat_ratio(as_scalar=False)),
        depth=len(trunk.blocks) + (pool is not None),
        see=partial(_see, trunk, _rotary(trunk), pool),
        finish=finish,
        whole=whole,
        own=partial(_own, visual),
    )


class _Block(Block):
    """timm's `Block`, `EvaBlock` (with rotary positions) or `EvaBlockPostNorm` (norms behind attention and MLP)."""

    def __init__(self, block: Any, rotary: torch.Tensor | None, before: int):
        """rotary: of the grid at hand, [rows · columns, 2 · width of a head]. before: tokens that aren't turned."""
        self.heads, self._block, self._rotary, self._before = block.attn.num_heads, block, rotary, before
        self._post_norm = type(block).__name__ == "EvaBlockPostNorm"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._block(x) if self._rotary is None else self._block(x, rope=self._rotary)

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        attention = self._block.attn
        x = x if self._post_norm else self._block.norm1(x)
        if attention.qkv is None:
            q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
        else:
            fused = attention.qkv(x)
            if getattr(attention, "q_bias", None) is not None:  # EVA's, whose keys have none
                fused = fused + torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
            q, k, v = fused.chunk(3, dim=-1)
        return self._placed(attention.q_norm, q), self._placed(attention.k_norm, k), v

    def _placed(self, norm: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Queries or keys [B, L, D], each head's normed and turned by its place."""
        if self._rotary is None and isinstance(norm, torch.nn.Identity):
            return x
        x = norm(x.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        if self._rotary is not None:
            from timm.layers.pos_embed_sincos import apply_rot_embed_cat

            half = getattr(self._block.attn, "rotate_half", False)
            turned = apply_rot_embed_cat(x[:, :, self._before :], self._rotary, half=half).type_as(x)
            x = torch.cat([x[:, :, : self._before], turned], dim=2)
        return x.transpose(1, 2).flatten(2)

    def project(self, gathered: torch.Tensor) -> torch.Tensor:
        attention = self._block.attn
        return self._added(attention.proj(attention.norm(gathered)), 1)

    def close(self, x: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        x = x + self.project(gathered)
        return x + self._added(self._block.mlp(x if self._post_norm else self._block.norm2(x)), 2)

    def _added(self, x: torch.Tensor, part: int) -> torch.Tensor:
        """What the attention (part 1) or the MLP (2) adds, normed or scaled as the block does it."""
        if self._post_norm:
            return getattr(self._block, f"norm{part}")(x)
        scale = getattr(self._block, f"ls{part}", None)
        if scale is not None:
            return scale(x)
        gamma = getattr(self._block, f"gamma_{part}", None)
        return x if gamma is None else gamma * x


def _rotary(trunk: Any) -> Callable[[tuple[int, int]], torch.Tensor | None]:
    """Rotary positions for a grid: as the trunk would make them, without changing it, as two threads may read."""
    if getattr(trunk, "rope", None) is None:
        return lambda grid: None

    @functools.lru_cache(maxsize=8)
    def of(grid: tuple[int, int]) -> torch.Tensor:
        rope = copy.deepcopy(trunk.rope)
        rope.update_feat_shape(list(grid))
        return rope.get_embed()

    return of


def _see(trunk: Any, rotary: Callable, pool: WholePool | None, images: torch.Tensor) -> Seen:
    patches = _patches(trunk.patch_embed, images)
    grid = (patches.shape[-2], patches.shape[-1])
    before = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
    flat = [row for token in before for row in token[0]]
    positions = None if trunk.pos_embed is None else trunk.pos_embed[0]
    x = embed(patches, flat, positions, tuple(trunk.patch_embed.grid_size))
    tokens = [trunk.norm_pre(x)]
    blocks = [_Block(block, rotary(grid), len(flat)) for block in trunk.blocks]
    for block in blocks if pool else blocks[:-1]:
        tokens.append(block(tokens[-1]))
    return Seen(tokens, [*blocks, pool] if pool else blocks, grid)


def _patches(embed: Any, images: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] to [B, D, rows, columns]"""
    x = embed(images)
    if x.ndim == 4:  # made for images of any size: [B, rows, columns, D]
        return x.permute(0, 3, 1, 2)
    return x.transpose(1, 2).unflatten(2, embed.dynamic_feat_size(tuple(images.shape[-2:])))


def _own(visual: Visual, images: torch.Tensor) -> torch.Tensor:
    with _sized(visual.trunk, tuple(images.shape[-2:])):
        return visual(images)


@contextlib.contextmanager
def _sized(trunk: Any, size: tuple[int, ...]) -> Iterator[None]:
    """The trunk made for images of another size, and put back: only before threads read."""
    embedding, native, grid = trunk.pos_embed, trunk.patch_embed.img_size, tuple(trunk.patch_embed.grid_size)
    try:
        trunk.set_input_size(size)
        if embedding is not None:
            small = resized(embedding[0], grid, tuple(trunk.patch_embed.grid_size))
            trunk.pos_embed = torch.nn.Parameter(small[None], requires_grad=False)
        yield
    finally:
        trunk.set_input_size(native)
        trunk.pos_embed = embedding
