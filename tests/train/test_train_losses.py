import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hicl.train.config import LossConfig
from hicl.train.objectives.hicl import weigh
from hicl.train.objectives.losses import feedback_divergence, pair_cross_entropy, token_cross_entropy


def test_pair_loss_and_its_gradient_equal_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    voxel, label = torch.from_numpy(rng.integers(0, 6, 200)), torch.from_numpy(rng.integers(0, 4, 200))
    histogram = torch.zeros(6, 4, dtype=torch.int32)
    for v, c in zip(voxel.tolist(), label.tolist(), strict=True):
        histogram[v, c] += 1
    total, count = pair_cross_entropy(logits, histogram)
    (ours,) = torch.autograd.grad(total, logits)
    brute = sum(-F.log_softmax(logits[v], dim=0)[c] for v, c in zip(voxel.tolist(), label.tolist(), strict=True))
    (expected,) = torch.autograd.grad(brute, logits)
    assert count == 200 and torch.allclose(total, brute) and torch.allclose(ours, expected)


def test_tokens_without_a_label_count_for_nothing():
    logits, label = torch.randn(3, 4), torch.tensor([2, 255, 0])
    total, count = token_cross_entropy(logits, label)
    assert count == 2 and torch.allclose(total, F.cross_entropy(logits[[0, 2]], label[[0, 2]], reduction="sum"))
    total, count = token_cross_entropy(logits, torch.full((3,), 255))
    assert count == 0 and total == 0


@pytest.mark.parametrize("space", ["feature", "logits"])
@pytest.mark.parametrize("direction", ["teacher", "student"])
def test_feedback_is_the_divergence_it_says_and_moves_only_the_student(space, direction):
    torch.manual_seed(0)
    student = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    text = torch.randn(3, 8, dtype=torch.float64)
    config = LossConfig(kl_space=space, kl_direction=direction, kl_temperature=2.0)
    total, count = feedback_divergence(student, teacher, config, text)
    project = (lambda x: x @ text.T) if space == "logits" else (lambda x: x)
    p, q = ((project(x) / 2).softmax(1) for x in (student, teacher))
    a, b = (q, p) if direction == "teacher" else (p, q)
    assert count == 5 and torch.allclose(total, 4 * (a * (a / b).log()).sum())
    total.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_objective_is_the_plain_mean_of_the_active_terms():
    terms = {"ce": torch.tensor(3.0)}
    assert weigh(terms, LossConfig()) == 3
    terms["intra"] = torch.tensor(2.0)
    assert weigh(terms, LossConfig()) == 2.5
    terms["inter"] = torch.tensor(1.0)
    assert weigh(terms, LossConfig()) == (3 + 1.5) / 2
    terms["kl"] = torch.tensor(0.3)
    assert torch.isclose(weigh(terms, LossConfig()), torch.tensor((3 + 1.5 + 0.3) / 3))
    assert torch.isclose(weigh(terms, LossConfig(kl_weight=10)), torch.tensor((3 + 1.5 + 3) / 3))
    assert torch.isclose(weigh(terms, LossConfig(mean_over="labels")), torch.tensor((3 + 1.5) / 2 + 0.3))
