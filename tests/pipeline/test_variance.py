import numpy as np
import pytest

from hicl.pipeline.variance import parts, set_shares


def test_the_parts_are_what_the_numbers_were_drawn_with():
    rng = np.random.default_rng(0)
    for between, within in ((0.0, 1.0), (1.0, 1.0), (0.25, 1.0), (1.0, 0.0)):
        groups = []
        for _ in range(3000):
            room = rng.normal(size=3) * (between / 3) ** 0.5
            groups.append(room + rng.normal(size=(rng.integers(1, 12), 3)) * (within / 3) ** 0.5)
        found = parts(groups)
        assert found[0] == pytest.approx(between, abs=0.06) and found[1] == pytest.approx(within, abs=0.06)


def test_the_parts_of_a_few_numbers_by_hand():
    """Two scenes of two sets: means 1 and 4, scatter 2 · 1² and 2 · 2² over 4 - 2; MSB = 2 · 2 · 1.5², typical 2."""
    found = parts([np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])])
    assert found == (pytest.approx((9 - 5) / 2), pytest.approx(5))
    assert all(np.isnan(parts([np.ones((3, 2))]))) and all(np.isnan(parts([np.ones((1, 2)), np.ones((1, 2))])))


def test_a_sets_shares_and_its_true_class():
    sets = np.array([0, 0, 0, 1, 1, 2, 3])
    truth = np.array([1, 1, 0, 255, 255, 2, 0], np.uint8)
    label = np.array([1, 1, 0, 255, 2, 0, 255], np.uint8)
    shares, of_set = set_shares(label, sets[[0, 1, 2, 2, 3, 5, 6]], sets, truth, 3)
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    assert of_set.tolist() == [1, 255, 2, 255]
