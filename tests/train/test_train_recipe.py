"""What experiment VI adds, against what the definitions say, in plain loops."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_rooms import TINY, make_cache
from torch.nn import functional as F

from hicl.cache.opening import open_cache
from hicl.train import distributed, stream
from hicl.train.config import load
from hicl.train.learner import Learner
from hicl.train.objectives import recipe
from hicl.train.objectives.correlation import CorrelationHead, Memory, PlainBlock, VitBlock, across_scenes
from hicl.train.objectives.sets import match_divergence, pull_distance, set_means
from hicl.train.taught import Needs

SETTINGS = TINY | {
    "experiment": "VI",
    "heads.layers": 2,
    "schedule.epochs": 6,
    "schedule.batch": 2,
}
OFF = {
    "recipe.spread": False,
    "recipe.own_labels": False,
    "recipe.balance": 0.0,
    "recipe.pull_weight": 0.0,
    "recipe.match_weight": 0.0,
    "recipe.height": False,
}


def _features(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_sets_mean_and_the_pull_towards_it(seed, n, n_sets):
    rng = np.random.default_rng(seed)
    features, sets = _features(rng, n, 3).requires_grad_(), torch.from_numpy(rng.integers(0, n_sets, n))
    found = set_means(features, sets, n_sets)
    for k in range(n_sets):
        own = features[sets == k]
        assert torch.allclose(found[k], own.mean(dim=0) if len(own) else torch.zeros(3).double())
    target = _features(rng, n_sets, 3).requires_grad_()
    total, count = pull_distance(features, target, sets)
    by_hand = sum(1 - f @ target[k] / (f.norm() * target[k].norm()) for f, k in zip(features, sets, strict=True))
    assert count == n and torch.allclose(total, by_hand)
    total.backward()
    assert target.grad is None and features.grad.abs().sum() > 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_likeness_to_other_scenes_is_matched(seed, scenes, m):
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, scenes - 1))
    own, taught = _features(rng, 2, m, 3).requires_grad_(), _features(rng, scenes, m, 3).requires_grad_()
    own_scenes = own[: min(2, scenes - first)]
    total, count = match_divergence(own_scenes, taught, first, 0.5)
    expected = 0.0
    for b in range(len(own_scenes)):
        others = torch.cat([taught[s] for s in range(scenes) if s != first + b])
        for i in range(m):
            student, teacher = (
                torch.stack([F.cosine_similarity(x, other, dim=0) / 0.5 for other in others])
                for x in (own_scenes[b, i], taught[first + b, i])
            )
            q = teacher.exp() / teacher.exp().sum()
            p = student.exp() / student.exp().sum()
            expected = expected + (q * (q / p).log()).sum()
    assert count == len(own_scenes) * m and torch.allclose(total, expected)
    total.backward()
    assert taught.grad is None and torch.isfinite(own.grad).all()


def test_one_scene_has_no_other_to_be_like():
    own = torch.rand(1, 4, 3, requires_grad=True)
    total, count = match_divergence(own, torch.rand(1, 4, 3), 0, 0.1)
    total.backward()
    assert total == 0 and count == 0 and (own.grad == 0).all()


def test_labels_of_sets_by_images_and_network():
    said = torch.tensor([[0.5, 0.5, 0], [0, 0, 0], [0, 0.25, 0.75], [0, 0, 0]])
    logits = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 1.0]])
    found = recipe.joint(logits, said).numpy()
    for row, own, joined in zip(said.numpy(), logits.numpy(), found, strict=True):
        network = np.exp(own) / np.exp(own).sum()
        expected = network * (row + 0.02)
        np.testing.assert_allclose(joined, expected / expected.sum(), rtol=1e-5)
    assert found.argmax(axis=1).tolist() == [1, 0, 1, 2]


def test_frequencies_follow_the_labels_of_the_steps():
    found, share = recipe.Frequency(3, decay=0.5), np.full(3, 1 / 3)
    for counts in ([4, 0, 0], [1, 3, 0], [0, 0, 0], [0, 2, 0]):
        share = 0.5 * share + 0.5 * np.array(counts) / max(1, sum(counts))
        np.testing.assert_allclose(found.updated(torch.tensor(counts)), np.maximum(share, 1e-4), rtol=1e-6)


def test_an_average_follows_the_weights_and_the_statistics():
    net, average = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    seen = []
    for step in range(4):
        with torch.no_grad():
            net.weight.fill_(step)
        net(torch.rand(5, 2))
        recipe.follow(average, net, 0.75)
        seen.append((net.weight[0].item(), net.running_mean[0].item()))
    weight, mean = 1.0, 0.0
    for new_weight, new_mean in seen:
        weight, mean = 0.75 * weight + 0.25 * new_weight, 0.75 * mean + 0.25 * new_mean
    assert np.isclose(average.weight[0].item(), weight) and np.isclose(average.running_mean[0].item(), mean)
    assert average.num_batches_tracked == 4


@pytest.mark.parametrize("make", [lambda: VitBlock(8, 2, 2), lambda: PlainBlock(8)])
def test_a_memory_is_attended_to_like_other_tokens(make):
    """A block over all tokens together gives its first ones what it gives them alone with the rest as memory."""
    torch.manual_seed(0)
    block = make()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, memory = torch.randn(1, 5, 8), torch.randn(1, 7, 8)
    together = block(torch.cat([x, memory], dim=1))[:, :5]
    assert torch.allclose(block(x, memory), together, atol=1e-5)
    assert not torch.allclose(block(x), together, atol=1e-2)


def test_a_memory_holds_the_newest_and_no_gradient_reaches_it():
    torch.manual_seed(0)
    config = load("miniature", None, {"heads.layers": 2, "heads.heads": 2}).heads
    head, memory = CorrelationHead(8, config), Memory(2, 10, 8)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    given_first, expected = [], []
    for _ in range(3):
        tokens = torch.randn(2, 3, 8, requires_grad=True)
        found = across_scenes(head, tokens, memory)
        x = tokens.reshape(1, 6, 8)
        known = torch.cat(given_first[::-1], dim=0)[:10] if given_first else None
        state = head[0](x, None if known is None else known[None])
        second = torch.cat(expected[::-1], dim=0)[:10] if expected else None
        assert torch.allclose(found.view(1, 6, 8), head[1](state, None if second is None else second[None]), atol=1e-6)
        given_first.append(x[0].detach())
        expected.append(state[0].detach())
        found.sum().backward()
        assert not memory.tokens.requires_grad
    assert memory.filled == 10
    assert torch.equal(memory.of(0)[0], torch.cat(given_first[::-1])[:10])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(make_cache(tmp_path_factory.mktemp("recipe") / "cache", n_points=500, width=8))


def _learner(cache, **changes):
    config = load("miniature", None, SETTINGS | {key.replace("__", "."): value for key, value in changes.items()})
    learner = Learner(config, torch.from_numpy(cache.text.copy()), distributed.start("cpu"))
    source = stream.make_source(cache, Needs("refined", said=True), config.heads, 0, config.reading)
    return learner, source


def _said(scene, n_classes):
    """[K, C] by a loop over all pairs of all images."""
    sets, votes = scene.read("sets/id"), {}
    spread = scene.read("points/spread") if scene.has("points/spread") else None
    for point, label in zip(scene.read("pairs/point"), scene.read("pairs/raw"), strict=True):
        if label != 255:
            votes.setdefault(int(sets[point]), np.zeros(n_classes))[label] += 1
    said = []
    for k in range(sets.max() + 1):
        own = votes.get(k, np.zeros(n_classes))
        own = own / max(1, own.sum())
        if spread is not None and own.any():
            own = (own + np.eye(n_classes)[spread[sets == k][0]]) / 2
        said.append(own)
    return np.stack(said)


def _cross_entropy(logits, target):
    """Of probabilities [n, C], over the rows that have any."""
    logs = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return -(target * logs).sum() / target.sum()


@pytest.mark.parametrize("own_labels", [False, True])
@pytest.mark.parametrize(("balance", "set_share"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.3)])
def test_labels_come_from_all_images_and_later_from_the_average_too(cache, own_labels, balance, set_share):
    parts = {"recipe__own_labels": own_labels, "recipe__balance": balance, "recipe__set_share": set_share}
    learner, source = _learner(cache, **parts, optim__lr=0.05)
    for numbers in ([0, 1], [2, 3], [1, 2]):
        learner.step(stream.make_batch(cache, source, 0, numbers))
    for epoch in (0, 5):
        batch = stream.make_batch(cache, source, epoch, [2, 0])
        net, scene = learner.modules["net"], batch.coords[:, 0].numpy()
        average = learner.objective.average
        with torch.no_grad():
            logits = (net(batch.coords, batch.features, 2, batch.grid) @ learner.text.T).numpy().astype(float)
            if own_labels:
                taught = average(batch.coords, batch.features, 2, batch.grid) @ learner.text.T
        target = np.zeros((len(scene), 5))
        for number, name in enumerate(batch.scenes):
            for k, said in enumerate(_said(cache.scene(name), 5)):
                rows = np.flatnonzero((scene == number) & (batch.sets.numpy() == k))
                target[rows] = said
                if epoch == 5 and own_labels and len(rows):
                    joined = taught[rows].mean(dim=0).softmax(dim=0).numpy() * (said + 0.02)
                    target[rows] = joined / joined.sum()
        if balance:
            share = 0.99 * learner.objective.frequency.share.numpy() + 0.01 * target.sum(axis=0) / target.sum()
            logits += balance * np.log(share)
        pooled = np.empty_like(logits)
        for number in range(2):
            for k in np.unique(batch.sets.numpy()):
                rows = np.flatnonzero((scene == number) & (batch.sets.numpy() == k))
                pooled[rows] = logits[rows].mean(axis=0) if len(rows) else 0
        terms = learner.terms(batch)
        expected = (1 - set_share) * _cross_entropy(logits, target) + set_share * _cross_entropy(pooled, target)
        assert np.isclose(terms["ce"].item(), expected, rtol=1e-4)
        if epoch == 5:
            tokens = batch.tokens.flatten().numpy()
            # The heads have just begun.
            assert abs(terms["intra"].item() - _cross_entropy(logits[tokens], target[tokens])) < 0.05


def test_with_every_part_off_it_is_experiment_five(cache):
    learner, source = _learner(cache, **{key.replace(".", "__"): value for key, value in OFF.items()})
    plain, _ = _learner(cache, experiment="V")
    assert set(learner.modules) == set(plain.modules) == {"net", "intra", "inter"}
    for epoch in (0, 3, 5):
        batch = stream.make_batch(cache, source, epoch, [0, 3])
        bare = dataclasses.replace(batch, said=torch.zeros_like(batch.said))
        assert learner.step(batch) == plain.step(bare)


def test_the_total_adds_the_new_terms_by_their_weights(cache):
    learner, source = _learner(cache, recipe__pull_weight=0.5, recipe__match_weight=2.0)
    terms = learner.terms(stream.make_batch(cache, source, 5, [0, 1]))
    assert {"pull", "match"} <= set(terms)
    five = {name: value for name, value in terms.items() if name not in ("pull", "match")}
    total = learner.objective.total(terms)
    expected = learner.objective.base.total(five) + 0.5 * terms["pull"] + 2.0 * terms["match"]
    assert torch.allclose(total, expected)
    total.backward()
    assert all(p.grad is None for p in learner.objective.average.parameters())
