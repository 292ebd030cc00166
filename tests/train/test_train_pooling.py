"""One answer a set, and the network together with the images: against what the definitions say, point by point."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_rooms import CLASSES, make_cache, room, text_embedding

from hicl.cache.opening import open_cache
from hicl.metrics import confusion
from hicl.train import answers, evaluate, inference, network
from hicl.train.config import load
from hicl.train.pooling import image_labels, set_means

SMALL = load("miniature", None, {"model.stem": 4, "model.planes": [4] * 8})


def _model(width=16, box_voxels=inference.BOX_VOXELS):
    torch.manual_seed(0)
    net = network.build(SMALL, width, torch.device("cpu"))
    with torch.no_grad():
        net.head.weight.mul_(20)  # answers that differ from point to point
    text = torch.from_numpy(text_embedding(width))
    return inference.Model(net.eval(), text, {"classes": list(CLASSES)}, SMALL.stream, box_voxels)


def _log_probabilities(model, xyz, rgb, text):
    """[N, C] float64 of each point alone, by its voxel."""
    features, voxel_of_point = model.features(xyz, rgb)
    scores = features[voxel_of_point].astype(np.float64) @ np.asarray(text, np.float64).T
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_mean_of_a_set_is_that_of_its_points_however_they_come(seed, n, n_sets):
    rng = np.random.default_rng(seed)
    _, voxel_of_point = np.unique(rng.integers(0, 12, n), return_inverse=True)
    sets = rng.integers(0, n_sets, n).astype(np.int32)
    features = rng.normal(size=(voxel_of_point.max() + 1, 3)).astype(np.float32)
    order = rng.permutation(len(features))
    pieces = [(rows, torch.from_numpy(features[rows])) for rows in np.array_split(order, 3)]
    found = set_means(pieces, voxel_of_point, sets).numpy()
    assert found.shape == (sets.max() + 1, 3)
    for k in range(len(found)):
        own = features[voxel_of_point[sets == k]]
        np.testing.assert_allclose(found[k], own.mean(axis=0) if len(own) else np.zeros(3), atol=1e-6)


@pytest.mark.parametrize("box_voxels", [inference.BOX_VOXELS, 300])
@pytest.mark.parametrize("words", [None, 7])
def test_a_set_gets_the_class_of_its_mean_log_probability(box_voxels, words):
    model, rng = _model(box_voxels=box_voxels), np.random.default_rng(0)
    xyz, _, sets = room(rng, 2000)
    rgb = rng.integers(0, 256, (len(xyz), 3)).astype(np.uint8)
    text = None if words is None else rng.normal(size=(words, 16)).astype(np.float32)
    each = _log_probabilities(model, xyz, rgb, model.text if text is None else text)
    found = model.predict(xyz, rgb, text, sets)
    for k in np.unique(sets):
        mean = each[sets == k].mean(axis=0)
        assert (found.label[sets == k] == mean.argmax()).all()
        probability = np.exp(mean.max()) / np.exp(mean).sum()
        np.testing.assert_allclose(found.score[sets == k], probability, atol=1e-5)
    assert (found.label != model.predict(xyz, rgb, text).label).any()  # else nothing was tried


def test_sets_that_do_not_fit_the_points_are_refused():
    model, xyz, rgb = _model(), np.zeros((5, 3), np.float32), np.zeros((5, 3), np.uint8)
    for sets in (np.zeros(4, np.int32), np.zeros(5), np.full(5, -1)):
        with pytest.raises(ValueError, match="sets: expected whole numbers from 0"):
            model.predict(xyz, rgb, sets=sets)


def test_what_images_say_is_half_shares_and_half_the_spread_label():
    label, sets = np.array([2, 2, 1, 255, 0, 255], np.uint8), np.array([0, 0, 1, 2, 3])
    of_pair = np.array([0, 0, 0, 0, 2, 3])
    found = image_labels(label, of_pair, sets, None, 3)
    np.testing.assert_allclose(found, [[0, 1 / 3, 2 / 3], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
    found = image_labels(label, of_pair, sets, np.array([1, 1, 255, 0, 255], np.uint8), 3)
    np.testing.assert_allclose(found, [[0, 2 / 3, 1 / 3], [0, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_the_surer_of_two_is_taken_or_their_mean():
    alone = np.float32([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
    images = np.float32([[0.25, 0.75], [0.45, 0.55], [0.2, 0.8], [0, 0]])
    assert answers.together(alone, images, "surer").argmax(axis=1).tolist() == [1, 0, 0, 1]
    assert answers.together(alone, images, "average").argmax(axis=1).tolist() == [1, 0, 0, 1]
    assert answers.together(alone, images, "product").argmax(axis=1).tolist() == [1, 0, 0, 1]
    alone[0] = [0.8, 0.2]  # surer than 0.75, and so in the mean
    assert answers.together(alone, images, "surer").argmax(axis=1)[0] == 0
    images[1] = [0.41, 0.59]  # less sure than 0.6, and as far from the middle
    alone[1] = [0.6, 0.4]
    assert answers.together(alone, images, "surer").argmax(axis=1)[1] == 0


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(make_cache(tmp_path_factory.mktemp("pooling") / "cache", train=1, val=2))


@pytest.mark.parametrize("pool", ["sets", "none"])
@pytest.mark.parametrize("ensemble", ["none", "product", "average", "surer"])
def test_an_evaluation_counts_the_answers_that_the_definitions_give(cache, pool, ensemble, tmp_path):
    model, expected = _model(), np.zeros((5, 6), np.int64)
    for name in cache.scene_ids("val"):
        scene = cache.scene(name)
        arrays = ("points/xyz", "points/rgb", "points/label", "sets/id", "pairs/point", "pairs/raw")
        xyz, rgb, truth, sets, point, raw = (scene.read(array) for array in arrays)
        logs = _log_probabilities(model, xyz, rgb, model.text)
        if pool == "sets":
            logs = np.stack([logs[sets == k].mean(axis=0) for k in range(sets.max() + 1)])[sets]
        alone = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        spread = scene.read("points/spread") if scene.has("points/spread") else None
        label = []
        for own, k in zip(alone, sets, strict=True):
            votes = np.bincount(raw[(sets[point] == k) & (raw != 255)], minlength=5)
            shares = votes / max(1, votes.sum())
            if spread is not None and votes.any():
                shares = (shares + np.eye(5)[spread[sets == k][0]]) / 2
            if ensemble == "average":
                own = own + shares
            elif ensemble == "product":
                own = own * np.sqrt(shares + 0.02)
            elif ensemble == "surer" and shares.max() > own.max():
                own = shares
            label.append(own.argmax())
        expected += confusion(truth, np.array(label), 5)
    scores = evaluate.evaluate(model, cache, pool=pool, ensemble=ensemble)
    assert np.abs(scores.confusion - expected[:, :5]).sum() <= 2  # float32 may tip a tie
    saved = evaluate.save(scores, tmp_path, cache)
    assert (
        saved.name
        == {"none": "evaluation-val", "sets": "evaluation-val-sets"}[pool]
        + ("" if ensemble == "none" else f"-{ensemble}")
        + ".json"
    )
    assert ("each by its set" in evaluate.protocol(scores)) == (pool == "sets")
