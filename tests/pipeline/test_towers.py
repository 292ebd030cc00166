"""Towers of every family, small and with all their numbers drawn at random.

The oracles are the libraries' own modules on what one patch sees: a block whose attention mask lets every token see
itself alone, a pooling of one token, a head on a map of one place.
"""

from unittest import mock

import open_clip
import pytest
import timm
import torch
from open_clip.model import _build_vision_tower

from hicl.errors import HiclError
from hicl.pipeline.teacher import towers
from hicl.pipeline.teacher.readouts import READ_OUTS, load
from hicl.pipeline.teacher.towers.tower import assert_pools

WIDTH = 12  # of the joint space
VIT = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8}
CUSTOM = {"block_type": "custom", "qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True}
CUSTOM |= {"scale_fc": True, "ls_init_value": 0.5}
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 4}


def trunk(name, pool, proj, size, **smaller):
    """A vision config, and what to make smaller of timm's own."""
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": size}, smaller


FAMILIES = {
    "custom": (VIT | CUSTOM, {}),
    "clipa": (VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}, {}),
    "average": (VIT | {"pool_type": "avg"}, {}),
    "coca": (VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True}, {}),
    "timm-clip": trunk("vit_base_patch16_clip_224", "token", None, 224, **SMALL),
    "mobileclip": trunk("vit_base_mci_224", "token", None, 224, depth=1),
    "siglip": trunk("vit_base_patch16_siglip_224", "map", "none", 224, embed_dim=WIDTH, depth=2, num_heads=3),
    "registers": trunk("test_vit3", "map", None, 160, depth=2),
    "any-size": trunk("test_vit2", "avg", "linear", 160, depth=2),
    "rms": trunk("test_vit4", "avg", "linear", 160, depth=2),
    "eva": trunk("eva_giant_patch14_224", "token", None, 224, **SMALL),
    "eva02": trunk("eva02_base_patch16_clip_224", "token", None, 224, **SMALL),
    "post-norm": trunk("eva02_enormous_patch14_clip_224", "token", None, 224, **SMALL),
    "pe": trunk("vit_pe_core_tiny_patch16_384", "map", None, 384, depth=2),
    "vitamin": trunk("vitamin_small_224", "", "linear", 224, depth=1),
    "convnext": trunk("test_convnext", "", "mlp", 160),
    "fastvit": trunk("fastvit_mci0", "avg", None, 256, layers=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32)),
}


def build(config, smaller):
    real = timm.create_model
    with mock.patch("timm.create_model", lambda name, **options: real(name, **options, **smaller)):
        visual = _build_vision_tower(WIDTH, dict(config), quick_gelu=False).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(3)
    for value in visual.parameters():
        value += torch.randn(value.shape, generator=random) * (0.3 if value.ndim == 1 else 0.1 * value.std() + 0.01)
    for name, value in visual.named_buffers():
        if "running" in name:
            value += 0.2 * torch.rand(value.shape, generator=random)
    return visual


@pytest.fixture(scope="module")
def built():
    return {family: build(*made) for family, made in FAMILIES.items()}


def images(tower, rows, columns):
    random = torch.Generator().manual_seed(7)
    return torch.randn(2, 3, rows * tower.patch[0], columns * tower.patch[1], generator=random)


@pytest.mark.parametrize("family", FAMILIES)
def test_put_together_again_it_is_the_model(built, family):
    tower = towers.of(built[family], family)
    cosine, dim = tower.tested(torch.device("cpu"))
    assert cosine > 1 - 1e-5 and dim == WIDTH
    assert assert_pools(tower, torch.device("cpu"), family) == WIDTH
    before = built[family](torch.ones(1, 3, *built[family].image_size))  # and the model is as it was
    assert towers.of(built[family], family).tested(torch.device("cpu"))[0] == cosine
    after = built[family](torch.ones(1, 3, *built[family].image_size))
    assert torch.equal(*(x[0] if isinstance(x, tuple) else x for x in (before, after)))


def alone(visual, block, x, rope):
    """A token-pooled tower's last block, each token seeing itself alone."""
    if rope is not None:
        return block(x, rope=rope, attn_mask=torch.eye(x.shape[1], dtype=torch.bool))
    off = torch.full((x.shape[1], x.shape[1]), float("-inf")).fill_diagonal_(0)
    return block(x, attn_mask=off)


def reading(visual, x):
    """MaskCLIP's reading of images [B, 3, H, W] of the size that a tower was made for, by its library's own modules."""
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        tokens = visual._embeds(x)
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        if visual.attn_pool is not None:
            tokens = last(tokens)[:, 1:]
            return torch.stack([visual._pool(tokens[:, i : i + 1])[0] for i in range(tokens.shape[1])], 1) @ visual.proj
        tokens = alone(visual, last, tokens, None) if visual.pool_type == "tok" else last(tokens)
        return visual.ln_post(tokens)[:, 1:] @ visual.proj
    trunk = visual.trunk
    if not hasattr(trunk, "blocks"):
        fields = trunk.forward_features(x)
        places = [fields[:, :, i : i + 1, j : j + 1] for i in range(fields.shape[2]) for j in range(fields.shape[3])]
        return torch.stack([visual.head(trunk.forward_head(place)) for place in places], 1)
    if trunk.global_pool == "token":
        tokens, rope = trunk.patch_embed(x), None
        if isinstance(trunk, timm.models.eva.Eva):
            tokens, rope = trunk._pos_embed(tokens)
        else:
            tokens = trunk._pos_embed(tokens)
        tokens = trunk.norm_pre(tokens)
        for block in trunk.blocks[:-1]:
            tokens = block(tokens, rope=rope) if rope is not None else block(tokens)
        tokens = trunk.norm(alone(visual, trunk.blocks[-1], tokens, rope))
        return visual.head(trunk.head(trunk.fc_norm(tokens)))[:, 1:]
    tokens = trunk.forward_features(x)[:, trunk.num_prefix_tokens :]
    trunk.pool_include_prefix, trunk.num_prefix_tokens, counted = True, 0, trunk.num_prefix_tokens
    read = [visual.head(trunk.forward_head(tokens[:, i : i + 1])) for i in range(tokens.shape[1])]
    trunk.num_prefix_tokens = counted
    return torch.stack(read, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_maskclip_is_each_patch_alone(built, family):
    visual = build(*FAMILIES[family])
    tower = towers.of(visual, family)
    rows, columns = (side // patch for side, patch in zip(visual.image_size, tower.patch, strict=True))
    x = images(tower, rows, columns)
    found = tower.grid(x, load("maskclip", tower.depth, family))
    assert found.shape == (2, rows, columns, WIDTH)
    torch.testing.assert_close(found.flatten(1, 2), reading(visual, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_read_out_of_any_grid(built, family):
    tower = towers.of(built[family], family)
    for dense, module in READ_OUTS.items():
        if tower.depth == 1 and module in ("resclip", "scclip"):
            continue
        found = tower.grid(images(tower, 2, 5), load(dense, tower.depth, family))
        assert found.shape == (2, 2, 5, WIDTH) and found.isfinite().all(), dense


@pytest.mark.parametrize("name", ["ln_attn", "head_scale", "ln_inner", "ln_q", "ln_k", "ls_1", "ls_2", "mlp.ln"])
def test_no_tensor_of_a_custom_block_is_skipped(name):
    """What changes the model's vector changes the patches; `ln_q` and `ln_k` where attention asks them."""
    visual = build(*FAMILIES["custom"])
    tower = towers.of(visual, "custom")
    x, read = images(tower, 4, 4), load("qq" if name == "ln_q" else "kk", tower.depth, "custom")
    pooled, dense = visual(x), tower.grid(x, read)
    changed = [value for key, value in visual.transformer.resblocks[-1].named_parameters() if name in key]
    assert changed
    for value in changed:
        value *= 1 + torch.rand(value.shape)
    assert not torch.allclose(visual(x), pooled, atol=1e-3)
    assert not torch.allclose(tower.grid(x, read), dense, atol=1e-3)


def test_a_tower_that_is_made_otherwise_is_refused():
    visual = build(*FAMILIES["timm-clip"])
    visual.trunk.blocks[-1].attn.register_forward_hook(lambda module, given, x: x.flip(-1))
    with pytest.raises(HiclError, match="--clip Odd-16: can't be read densely: .*cosine -?0[.]") as error:
        assert_pools(towers.of(visual, "Odd-16"), torch.device("cpu"), "Odd-16")
    assert "\n" not in str(error.value)
    visual.trunk.patch_embed = torch.nn.Identity()
    visual.trunk.patch_embed.feat_ratio = lambda as_scalar: (16, 16)
    with pytest.raises(HiclError, match="--clip Odd-16: can't be read densely [(].*use another model"):
        assert_pools(towers.of(visual, "Odd-16"), torch.device("cpu"), "Odd-16")


@pytest.mark.parametrize("name, said", [("test_vit_relpos", "one size of images"), ("test_vit", "pooling is 'max'")])
def test_towers_that_have_no_dense_reading(name, said):
    visual = build(*trunk(name, "max" if name == "test_vit" else "avg", "linear", 160))
    with pytest.raises(HiclError, match=f"--clip Odd-16: .*{said}"):
        towers.of(visual, "Odd-16")
