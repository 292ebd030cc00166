"""A temperature fitted without labels: on views that say what they say with known sureness."""

import numpy as np
import pytest

from hicl.pipeline.calibration import fitted_sharpness


def views(sharpness, points=20_000, classes=5, seed=0):
    """Two views of each point that score it alike, each with a label drawn by softmax(sharpness · scores)."""
    random = np.random.default_rng(seed)
    scores = 0.1 * random.standard_normal((points, classes)).astype(np.float32)
    drawn = [(sharpness * scores + random.gumbel(size=scores.shape)).argmax(axis=1) for _ in range(2)]
    point = np.tile(np.arange(points), 2)
    order = random.permutation(2 * points)
    return np.tile(scores, (2, 1))[order], np.concatenate(drawn).astype(np.uint8)[order], point[order]


@pytest.mark.parametrize("sharpness", [4.0, 12.0, 100.0])
def test_it_is_what_labels_were_drawn_with(sharpness):
    assert fitted_sharpness(*views(sharpness)) == pytest.approx(sharpness, rel=0.05)


def test_points_that_one_view_sees_say_nothing():
    scores, labels, point = views(12.0, points=2000)
    alone = np.random.default_rng(1).standard_normal((500, 5)).astype(np.float32), np.zeros(500, np.uint8)
    lonely = np.arange(10_000, 10_500)
    together = [np.concatenate(pair) for pair in zip((scores, labels, point), (*alone, lonely), strict=True)]
    assert fitted_sharpness(*together) == fitted_sharpness(scores, labels, point)
    assert fitted_sharpness(*alone, lonely) == 1000


def test_views_that_never_agree_are_not_to_be_trusted():
    scores = np.eye(2, dtype=np.float32)[[0, 1] * 50]
    assert fitted_sharpness(scores, scores.argmax(axis=1).astype(np.uint8), np.arange(100) // 2) < 1.01
