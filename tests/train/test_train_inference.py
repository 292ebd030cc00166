from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_rooms import CLASSES, room, text_embedding

from hicl.errors import HiclError
from hicl.train import inference, network
from hicl.train.config import Config, ModelConfig, StreamConfig
from hicl.train.kernels import grid_shape, voxelise

SMALL = ModelConfig(stem=4, planes=(4, 4, 4, 4, 4, 4, 4, 4))
SPVCNN = replace(SMALL, network="spvcnn")


def _model(width=16, voxel_size=0.1, box_voxels=inference.BOX_VOXELS, model=SMALL):
    torch.manual_seed(0)
    net = network.build(Config(model=model), width, torch.device("cpu"))
    for module in net.modules():  # statistics as of a trained network
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    text = torch.from_numpy(text_embedding(width))
    return inference.Model(net.eval(), text, {"classes": list(CLASSES)}, StreamConfig(voxel_size), box_voxels)


def _street(length=60.0, n=20_000):
    """A cloud several halos long: rooms in a row."""
    rng = np.random.default_rng(0)
    xyz = np.concatenate([room(rng, n // 15)[0] + np.float32([4 * i, i % 3, 0]) for i in range(15)])
    return xyz[xyz[:, 0] < length], rng.integers(0, 256, (len(xyz), 3)).astype(np.uint8)


def test_a_point_gets_the_class_of_its_voxel_and_its_probability():
    model = _model()
    rng = np.random.default_rng(0)
    xyz, rgb = room(rng, 1500)[0], rng.integers(0, 256, (1500, 3)).astype(np.uint8)
    features, voxel_of_point = model.features(xyz, rgb)
    prediction = model.predict(xyz, rgb)
    scores = features @ text_embedding(16).T
    each = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert prediction.label.shape == prediction.score.shape == (1500,)
    assert (prediction.label == scores.argmax(axis=1)[voxel_of_point]).all()
    assert np.allclose(prediction.score, each.max(axis=1)[voxel_of_point], atol=1e-6)


def test_other_words_are_scored_on_the_same_features():
    model, rng = _model(), np.random.default_rng(0)
    xyz, rgb = room(rng, 500)[0], np.zeros((500, 3), np.uint8)
    words = rng.normal(size=(300, 16)).astype(np.float32)
    features, voxel_of_point = model.features(xyz, rgb)
    assert (model.predict(xyz, rgb, words).label == (features @ words.T).argmax(axis=1)[voxel_of_point]).all()


@pytest.mark.parametrize("kind", [SMALL, SPVCNN], ids=["minkunet", "spvcnn"])
def test_a_cloud_in_boxes_has_the_features_of_the_whole(kind):
    xyz, rgb = _street()
    whole, _ = _model(model=kind).features(xyz, rgb)
    model = _model(box_voxels=5_000, model=kind)
    coords, _, _ = voxelise(xyz, 0.1)
    assert len(list(inference.boxes(coords, model.box_voxels, model.net.REACH))) > 3
    pieces, _ = model.features(xyz, rgb)
    assert np.abs(whole).max() > 0.1 and np.allclose(pieces, whole, atol=1e-5)
    assert (model.predict(xyz, rgb).label == _model(model=kind).predict(xyz, rgb).label).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_boxes_hold_every_voxel_once_with_all_that_is_near(seed, most):
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, rng.integers(1, 400, 3), (300, 3)), axis=0).astype(np.int32)
    owner = np.full(len(coords), -1)
    for number, (rows, inside, corner) in enumerate(inference.boxes(coords, most, 93)):
        assert (owner[rows[inside]] == -1).all() and (corner % 16 == 0).all() and (coords[rows] >= corner).all()
        owner[rows[inside]] = number
        own = coords[rows[inside]]
        low, high = own.min(0) // 16 * 16 - 93, own.max(0) // 16 * 16 + 15 + 93
        reach = ((coords >= low) & (coords <= high)).all(axis=1)
        assert np.isin(np.flatnonzero(reach), rows).all()
    assert (owner >= 0).all()


def test_a_thin_wide_cloud_is_cut_where_its_grid_would_be_too_large():
    """spconv's cell numbers are 32-bit integers, which would overflow without a word."""
    rng = np.random.default_rng(0)
    coords = np.unique(rng.integers(0, (6000, 6000, 1500), (500, 3)), axis=0).astype(np.int32)
    for rows, _, corner in inference.boxes(coords, 10**6, 202):
        assert np.prod(np.array(grid_shape(coords[rows] - corner), np.int64)) < 2**31


def test_arrays_that_do_not_fit_are_refused():
    model, xyz, rgb = _model(), np.zeros((5, 3), np.float32), np.zeros((5, 3), np.uint8)
    for bad in ((xyz, rgb / 255), (xyz, rgb[:4]), (xyz[:, :2], rgb[:, :2])):
        with pytest.raises(ValueError, match="expected float32"):
            model.predict(*bad)
    for words in (np.zeros((0, 16)), np.zeros((3, 15)), np.zeros((70_000, 16))):
        with pytest.raises(ValueError, match="text: expected"):
            model.predict(xyz, rgb, words)


def test_only_a_finished_model_is_loaded(tmp_path):
    for name in ("state-00000200.safetensors", "old.safetensors"):
        with pytest.raises(HiclError, match="not a finished model"):
            inference.load(tmp_path / name)


@pytest.mark.parametrize("kind", [SMALL, SPVCNN], ids=["minkunet", "spvcnn"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_beyond_its_reach_comes_to_a_voxel(axis, kind):
    """The dependence measured by autograd, on a wire along an axis, for both ends of a coarsest cell."""
    model = _model(model=kind)
    coords = np.zeros((576, 4), np.int32)
    coords[:, 1 + axis] = np.arange(576)
    grid = [16, 16, 16]
    grid[axis] = 576
    reach = []
    for voxel in (272, 287):
        colour = torch.zeros(576, 3, requires_grad=True)
        torch.manual_seed(1)
        features = model.net(torch.from_numpy(coords), colour + torch.rand(576, 3), 1, grid)
        features[voxel].sum().backward()
        seen = np.flatnonzero(colour.grad.abs().sum(1).numpy())
        reach += [272 - seen.min(), seen.max() - 287]
    # Less than half of it would be a wire that carries nothing, and proves nothing.
    assert model.net.REACH / 2 < max(reach) <= model.net.REACH
