"""Each objective against its formula in plain loops, and through the command line."""

import numpy as np
import pytest
import torch
from invoke import hicl
from synthetic_rooms import TINY, add_features, make_cache

from hicl.errors import HiclError
from hicl.train import loop
from hicl.train.config import OBJECTIVES, load
from hicl.train.kernels import masked_labels
from hicl.train.learner import Learner
from hicl.train.log import read_log
from hicl.train.objectives import Inputs
from hicl.train.objectives.chen import Adapter, consistency
from hicl.train.objectives.clip2scene import grid_distance
from hicl.train.objectives.concepts import CONCEPTS, CrossAttention, alignment
from hicl.train.objectives.contrast import info_nce
from hicl.train.objectives.lground import anchor_hinge, other_classes
from hicl.train.objectives.pointmcd import descriptor_distance

OTHERS = [name for name in OBJECTIVES if name != "hicl"]
SETTINGS = TINY | {"schedule.epochs": 2, "schedule.batch": 2, "optim.save_every": 2, "contrast.rows": 64}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("objectives") / "cache", n_points=300, edit=add_features)


@pytest.mark.parametrize("name", OTHERS)
def test_every_objective_learns_and_resumes_to_the_same_weights(cache, tmp_path, monkeypatch, name):
    config, done, step = load("miniature", None, SETTINGS | {"objective": name}), [], Learner.step
    loop.train(cache, config, tmp_path / "straight")

    def killing(self, batch):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", killing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cache, config, tmp_path / "killed")
    monkeypatch.setattr(Learner, "step", step)
    loop.train(cache, config, tmp_path / "killed", resume=True)
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("straight", "killed")]
    assert weights[0] == weights[1]


def test_an_objective_by_the_command_line(cache, tmp_path):
    flags = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    said = hicl("train", "--cache", cache, "--objective", "slidr", "--out", tmp_path / "run", *flags)
    assert "slidr, seed 0" in said
    assert "mIoU" in hicl("evaluate", "--cache", cache, "--model", tmp_path / "run")


def test_what_does_not_go_together_is_said(cache, tmp_path):
    with pytest.raises(HiclError, match="--exp V: the experiments are those of --objective hicl; leave one"):
        hicl("train", "--cache", cache, "--objective", "ppkt", "--exp", "V")
    with pytest.raises(HiclError, match="objective ppk: unknown; known are hicl, "):
        hicl("train", "--cache", cache, "--objective", "ppk")


def test_scores_and_some_voxels_features_are_those_of_all_features():
    torch.manual_seed(0)
    head, text, rows = torch.nn.Linear(6, 9), torch.randn(4, 9), torch.tensor([[3, 0, 3], [7, 1, 2]])
    hidden = torch.randn(8, 6, requires_grad=True)
    inputs, learnt = Inputs(hidden, head, text, batch=None), (hidden, *head.parameters())
    to_scores, to_tokens = torch.randn(8, 4), torch.randn(2, 3, 9)
    found = inputs.scores, inputs.features_of(rows)
    features = head(hidden)
    wanted = features @ text.T, features[rows]
    for ours, theirs, gradient in zip(found, wanted, (to_scores, to_tokens), strict=True):
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours, learnt, gradient, retain_graph=True),
            torch.autograd.grad(theirs, learnt, gradient, retain_graph=True),
        )
    torch.testing.assert_close(inputs.features, features)


def test_info_nce_is_its_formula():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 5, 3))
    student = torch.from_numpy(f).requires_grad_()
    total, count = info_nce(student, torch.from_numpy(g), 0.07)
    expected = 0.0
    for i in range(5):
        cosine = [f[i] @ g[j] / np.linalg.norm(f[i]) / np.linalg.norm(g[j]) for j in range(5)]
        expected -= cosine[i] / 0.07 - np.log(sum(np.exp(c / 0.07) for c in cosine))
    assert count == 5 and np.isclose(total.item(), expected)
    assert torch.autograd.gradcheck(lambda x: info_nce(x, torch.from_numpy(g), 0.07)[0], student)


def _cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_the_hinge_to_anchors_is_its_formula():
    rng = np.random.default_rng(1)
    f, text = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    own, others = rng.integers(0, 5, 6), rng.integers(0, 5, (6, 3))
    arguments = [torch.from_numpy(x) for x in (f, text, own, others)]
    total, count = anchor_hinge(*arguments)
    expected = 0.0
    for i in range(6):
        far = np.mean([1 - _cosine(f[i], text[k]) for k in others[i]])
        expected += max(0, 1 - _cosine(f[i], text[own[i]])) + max(0, 0.6 - far)
    assert count == 6 and np.isclose(total.item(), expected)
    student = arguments[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: anchor_hinge(x, *arguments[1:])[0], student)


def test_negatives_are_all_other_classes_equally_often():
    label = torch.arange(5).repeat(4000)
    drawn = other_classes(label, 5)
    assert (drawn != label[:, None]).all()
    share = torch.bincount((label[:, None] * 5 + drawn).flatten(), minlength=25).view(5, 5) / 12000
    assert torch.allclose(share, (torch.ones(5, 5) - torch.eye(5)) / 4, atol=0.03)
    assert other_classes(torch.zeros(2, dtype=torch.int64), 1).tolist() == [[0] * 3] * 2


def test_descriptors_differ_by_the_mean_over_channels():
    a, b = np.random.default_rng(2).normal(size=(2, 3, 4))
    student = torch.from_numpy(a).requires_grad_()
    total, count = descriptor_distance(student, torch.from_numpy(b))
    assert count == 3 and np.isclose(total.item(), sum(sum(abs(a[v] - b[v])) / 4 for v in range(3)))
    assert torch.autograd.gradcheck(lambda x: descriptor_distance(x, torch.from_numpy(b))[0], student)


def test_concepts_are_aligned_view_by_view():
    rng, attend = np.random.default_rng(3), CrossAttention(4).double()
    f, g = rng.normal(size=(2, 7, 4))
    view = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    student = torch.from_numpy(f).requires_grad_()
    total, count = alignment(attend, student, torch.from_numpy(g), view)
    queries, scale, expected = attend.queries.detach().numpy(), attend.scale.item(), 0.0
    for rows in ([0, 1, 2], [3, 4], [5, 6]):
        for query in queries:
            both = []
            for side in (f, g):
                weight = np.exp([scale * _cosine(query, side[p]) for p in rows])
                both.append(sum(w * side[p] for w, p in zip(weight / weight.sum(), rows, strict=True)))
            expected += 1 - _cosine(*both)
    assert count == 3 * CONCEPTS and np.isclose(total.item(), expected)
    assert torch.autograd.gradcheck(lambda x: alignment(attend, x, torch.from_numpy(g), view)[0], student)


@pytest.mark.parametrize("teacher", [0, 1, 2])
def test_two_networks_learn_the_masks_labels_or_ones_own(teacher):
    rng = np.random.default_rng(4)
    f, h, text = (rng.normal(size=shape) for shape in ((5, 4), (5, 4), (3, 4)))
    labels = [[0, 0, 2], [1], [], [2, 2, 2, 0], [1, 255]]  # of each row's pairs
    histogram = torch.tensor([[own.count(c) for c in range(3)] for own in labels])
    pairs = torch.tensor([len(own) for own in labels]).double()
    point, image = torch.from_numpy(f).requires_grad_(), torch.from_numpy(h).requires_grad_()
    terms = consistency(point, image, torch.from_numpy(text), histogram, pairs, teacher)
    wanted, known = {"ce": 0.0, "image": 0.0, "cos": 0.0}, 0
    for row, own in enumerate(labels):
        for label in own:
            wanted["cos"] += 1 - _cosine(f[row], h[row])
            if label == 255:
                continue
            known += 1
            taught = (label, (text @ h[row]).argmax(), (text @ f[row]).argmax())[teacher]
            for name, feature in (("ce", f[row]), ("image", h[row])):
                wanted[name] -= np.log(np.exp(feature @ text[taught]) / np.exp(text @ feature).sum())
    for name, (total, count) in terms.items():
        assert count == (10 if name == "cos" else known) and np.isclose(total.item(), wanted[name])
    both = lambda a, b: consistency(a, b, torch.from_numpy(text), histogram, pairs, teacher)["cos"][0]  # noqa: E731
    assert torch.autograd.gradcheck(both, (point, image))


def test_the_2d_network_begins_as_its_teacher():
    features = torch.nn.functional.normalize(torch.randn(6, 4))
    torch.testing.assert_close(torch.nn.functional.normalize(Adapter(4)(features)), features)


def test_labels_vote_in_the_masks_of_each_chosen_view():
    rng = np.random.default_rng(5)
    indptr, label = np.array([0, 40, 40, 90, 150]), rng.choice([0, 1, 2, 255], 150).astype(np.uint8)
    mask = rng.choice([-3, 0, 1, 2, 2**31 - 1], 150).astype(np.int32)
    found = masked_labels(indptr, np.array([0, 3]), label, mask)
    for pair in range(150):
        view = int(np.searchsorted(indptr, pair, side="right")) - 1
        own = [p for p in range(indptr[view], indptr[view + 1]) if mask[p] == mask[pair] and label[p] != 255]
        voted = view in (0, 3) and mask[pair] > 0 and own
        votes = [list(label[own]).count(c) for c in range(3)]
        assert found[pair] == (votes.index(max(votes)) if voted else label[pair])


def test_a_grids_points_are_drawn_to_what_their_class_attends_to():
    rng, edge = np.random.default_rng(6), 3
    f, text, histogram = rng.normal(size=(40, 4)), rng.normal(size=(3, 4)), rng.integers(0, 3, (40, 3))
    histogram[::7] = 0  # no camera sees these
    coords = np.concatenate([rng.integers(0, 2, (40, 1)), rng.integers(0, 7, (40, 3))], axis=1)
    grids, expected = {}, 0.0
    for voxel, (scene, *place) in enumerate(coords.tolist()):
        grids.setdefault((scene, *(x // edge for x in place)), []).append(voxel)
    for voxels in grids.values():
        pairs = [voxel for voxel in voxels for _ in range(histogram[voxel].sum())]
        if pairs:
            own = text[histogram[voxels].sum(axis=0).argmax()]
            weights = np.exp([f[voxel] @ own for voxel in pairs])
            fused = sum(weight * f[voxel] for weight, voxel in zip(weights / weights.sum(), pairs, strict=True))
            expected += sum(1 - 1 / (1 + np.exp(-fused @ f[voxel])) for voxel in pairs)
    student = torch.from_numpy(f).requires_grad_()
    others = torch.from_numpy(text), torch.from_numpy(histogram), torch.from_numpy(coords.astype(np.int32)), edge
    total, count = grid_distance(student, *others)
    assert count == histogram.sum() and np.isclose(total.item(), expected) and max(map(len, grids.values())) > 2
    assert torch.autograd.gradcheck(lambda x: grid_distance(x, *others)[0], student)


def test_grids_need_no_features_of_pixels(tmp_path):
    path = make_cache(tmp_path / "cache", train=2, val=0, n_points=300)
    config = load("miniature", None, SETTINGS | {"objective": "clip2scene", "clip2scene.grid": 3})
    loop.train(path, config, tmp_path / "run")
    assert "grid" in read_log(tmp_path / "run")[-1] and "cos" not in read_log(tmp_path / "run")[-1]
