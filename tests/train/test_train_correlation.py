import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl import devices
from hicl.errors import HiclError
from hicl.train.config import HeadConfig, LossConfig
from hicl.train.objectives import correlation
from hicl.train.objectives.correlation import CorrelationHead, PlainBlock, across_scenes, within_scenes
from hicl.train.objectives.losses import feedback_divergence, token_cross_entropy
from hicl.train.tokens import sample_tokens

WIDTH, TOKENS, CLASSES = 16, 7, 5


def _head(block: str, seed: int = 0, trained: bool = True) -> CorrelationHead:
    torch.manual_seed(seed)
    head = CorrelationHead(WIDTH, HeadConfig(layers=3, heads=4, block=block))
    if trained:  # zero-initialised projections would hide what attention sees
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return head


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_every_set_gets_its_quota_rounded_up_or_down_and_all_get_exactly_m(sizes, m, seed):
    sets = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(sets)
    tokens = sample_tokens(sets, m, np.random.default_rng(seed))
    assert tokens.shape == (m,) and tokens.min() >= 0 and tokens.max() < len(sets)
    taken = np.bincount(sets[tokens], minlength=len(sizes))
    quota = m * np.array(sizes) / len(sets)
    assert (np.abs(taken - quota) < 1 + 1e-9).all()
    if m <= len(sets):
        assert len(np.unique(tokens)) == m


def test_expected_number_of_tokens_is_proportional_to_the_set():
    sizes = np.array([1, 3, 200, 40, 2])
    sets, rng = np.repeat(np.arange(5), sizes), np.random.default_rng(0)
    draws = [np.bincount(sets[sample_tokens(sets, 31, rng)], minlength=5) for _ in range(4000)]
    assert np.allclose(np.mean(draws, axis=0), 31 * sizes / sizes.sum(), atol=0.05)
    single = np.mean([np.bincount(sample_tokens(sets, 31, rng), minlength=246) for _ in range(4000)], axis=0)
    assert np.allclose(single, 31 / 246, atol=0.03)  # every voxel equally often


def test_equations_5_and_6_hold_on_the_plain_block():
    torch.manual_seed(0)
    block = PlainBlock(WIDTH).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    text = torch.nn.functional.normalize(torch.randn(CLASSES, WIDTH, dtype=torch.float64), dim=1)
    f = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    label = torch.randint(CLASSES, (TOKENS,))

    w, v = block.weights_and_values(f)
    w.retain_grad(), v.retain_grad()
    logits = (block.combine(f, w, v) @ text.T)[0]
    token_cross_entropy(logits, label)[0].backward()

    residual = logits.softmax(1) - torch.nn.functional.one_hot(label, CLASSES)  # y_mc - 1[c = l_m]
    # e_nc: what value n adds to the logit of class c, Linear and residual included.
    through = torch.eye(WIDTH, dtype=torch.float64) + block.linear.weight.T
    e = (v[0] @ through @ text.T).detach()
    # Eq. 6: dL/dw_mn = sum_c e_nc (y_mc - 1[c = l_m])
    assert torch.allclose(w.grad[0], residual.detach() @ e.T, atol=1e-12)
    # Eq. 5, summed over the queries m that share e_nc: dL/de_nc = sum_m w_mn (y_mc - 1[c = l_m]), by the chain rule
    # dL/dv_n = sum_c dL/de_nc de_nc/dv_n.
    equation_5 = w[0].detach().T @ residual.detach()
    assert torch.allclose(v.grad[0], equation_5 @ text @ through.T.detach(), atol=1e-12)
    # ... and directly, with e as the variable.
    e.requires_grad_()
    direct = ((f + block.linear(f))[0] @ text.T + w[0].detach() @ e).detach() - w[0].detach() @ e.detach()
    assert torch.allclose(direct + w[0].detach() @ e, logits, atol=1e-12)
    token_cross_entropy(direct + w[0].detach() @ e, label)[0].backward()
    assert torch.allclose(e.grad, equation_5, atol=1e-12)


@pytest.mark.parametrize("block", ["vit", "eq3"])
def test_new_heads_pass_their_input_on_so_that_nothing_jumps_at_the_switch(block):
    f = torch.randn(3, TOKENS, WIDTH)
    intra, inter = _head(block, 0, trained=False), _head(block, 1, trained=False)
    refined = across_scenes(inter, within_scenes(intra, f))
    assert torch.equal(refined, f)
    text, label = torch.randn(CLASSES, WIDTH), torch.randint(CLASSES, (3 * TOKENS,))
    after, before = (token_cross_entropy(x.flatten(0, 1) @ text.T, label)[0] for x in (refined, f))
    assert torch.equal(after, before)
    for space in ("feature", "logits"):
        divergence, _ = feedback_divergence(f.flatten(0, 1), refined.flatten(0, 1), LossConfig(kl_space=space), text)
        assert divergence.abs() < 1e-6
    after.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in intra.parameters())


@pytest.mark.parametrize("block", ["vit", "eq3"])
def test_intra_attention_cannot_see_another_scene_and_inter_can(block):
    head = _head(block)
    f = torch.randn(3, TOKENS, WIDTH)
    changed = f.clone()
    changed[2] = torch.randn(TOKENS, WIDTH)
    assert torch.equal(within_scenes(head, f)[:2], within_scenes(head, changed)[:2])
    assert not torch.allclose(across_scenes(head, f)[:2], across_scenes(head, changed)[:2], atol=1e-3)


def test_the_order_of_tokens_means_nothing():
    head, f, order = _head("vit"), torch.randn(1, TOKENS, WIDTH), torch.randperm(TOKENS)
    assert torch.allclose(head(f)[:, order], head(f[:, order]), atol=1e-5)


def test_the_size_of_the_papers_heads():
    head = CorrelationHead(512, HeadConfig())
    assert sum(p.numel() for p in head.parameters()) == 9_457_152  # 9.46 M (METHOD 7.2 row 1)
    assert not any(isinstance(m, torch.nn.LayerNorm) for m in list(head)[-1:])


@pytest.mark.parametrize("fits", [True, False])
def test_attention_written_out_equals_pytorchs_in_values_and_gradients(fits, monkeypatch):
    monkeypatch.setattr(correlation, "products_by_onednn", lambda: True)
    monkeypatch.setattr(correlation, "_WEIGHTS_AT_ONCE", 2 * 4 * 7 * 11 - (not fits))
    called = []
    ours = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *x: called.append(1) or ours(*x))
    torch.manual_seed(0)
    shapes = (2, 4, 7, 16), (2, 4, 11, 16), (2, 4, 11, 16)
    given = [torch.randn(shape, requires_grad=True) for shape in shapes]
    gradient, results = torch.randn(2, 4, 7, 16), []
    for attend in (correlation.attend, ours):
        found = attend(*given)
        results.append((found, *torch.autograd.grad(found, given, gradient)))
    assert len(called) == (not fits)
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture
def by_onednn(monkeypatch):
    """As on a processor whose products oneDNN makes faster."""
    for module in (correlation, devices):
        monkeypatch.setattr(module, "products_by_onednn", lambda: True)


def test_a_heads_products_are_of_one_precision_both_ways_and_no_others(by_onednn):
    """Watched where they are made: in the head's blocks, and before and behind it."""
    seen = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, where):
            ctx.where = where
            seen.append((where, torch.get_float32_matmul_precision()))
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            seen.append((ctx.where, torch.get_float32_matmul_precision()))
            return gradient, None

    head = _head("vit")
    for block in head:
        block.register_forward_hook(lambda module, given, x: Watch.apply(x, "inside"))
    x = Watch.apply(torch.randn(2, TOKENS, WIDTH, requires_grad=True), "outside")
    first = head(x)
    Watch.apply(head(first) + first, "outside").sum().backward()
    assert len(seen) == 2 * (2 + 2 * 3)
    assert all(precision == {"inside": "medium", "outside": "highest"}[where] for where, precision in seen)


@pytest.mark.parametrize("wanted", ["all", "weights", "tokens"])
def test_products_after_a_head_are_as_before_it_wherever_its_gradients_end(by_onednn, wanted):
    head, x = _head("vit"), torch.randn(2, TOKENS, WIDTH, requires_grad=wanted != "all")
    loss = head(x).sum()
    assert torch.get_float32_matmul_precision() == "highest"
    loss.backward(inputs={"all": None, "weights": list(head.parameters()), "tokens": x}[wanted])
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_after_a_head_that_failed_are_as_before_it(by_onednn):
    with pytest.raises(RuntimeError):
        _head("vit")(torch.randn(2, TOKENS, WIDTH + 1, requires_grad=True))
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_width_that_the_attention_heads_do_not_divide_is_refused():
    with pytest.raises(HiclError, match="heads.heads = 5"):
        CorrelationHead(WIDTH, HeadConfig(heads=5))
