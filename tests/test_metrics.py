import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from hicl.metrics import confusion, iou, scores


def test_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 255, 255], np.uint8)
    predicted = np.array([0, 1, 255, 1, 2, 0, 255], np.uint8)
    matrix = confusion(truth, predicted, 4)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0] * 5, [0] * 5])
    # Class 0: 1 hit of 3 true and 1 said. Class 1: 1 hit, 2 true, 2 said. 2 is only said, 3 not even that.
    found = scores(matrix)
    assert found["iou"][:2] == pytest.approx([100 / 3, 100 / 3]) and found["iou"][2:] == [None, None]
    assert found["miou"] == pytest.approx(100 / 3)
    assert found["accuracy"] == pytest.approx(40)
    np.testing.assert_array_equal(np.isnan(iou(matrix)), [False, False, True, True])


@pytest.mark.parametrize("truth", [[], [255, 255]])
def test_nothing_to_score(truth):
    matrix = confusion(np.array(truth, np.uint8), np.array(truth, np.uint8), 2)
    assert scores(matrix) == {"accuracy": None, "miou": None, "iou": [None, None]}


labels = st.sampled_from([0, 1, 2, 3, 254, 255])


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
@settings(deadline=None, max_examples=40)
def test_as_scikit_learn_says(pairs):
    truth, predicted = np.array(pairs, np.uint8).T
    n, known = 255, truth != 255
    matrix = confusion(truth, predicted, n)
    assert matrix.shape == (n, n + 1) and matrix.sum() == known.sum()
    if not known.any():
        return
    truth, predicted = truth[known].astype(int), predicted[known].astype(int)
    np.testing.assert_array_equal(matrix, confusion_matrix(truth, predicted, labels=range(n + 1))[:n])
    found = scores(matrix)
    assert found["accuracy"] == pytest.approx(100 * accuracy_score(truth, predicted))
    occurring = sorted(set(truth.tolist()))
    expected = 100 * jaccard_score(truth, predicted, labels=occurring, average=None, zero_division=0)
    np.testing.assert_allclose([found["iou"][c] for c in occurring], expected, rtol=1e-12)
    assert found["miou"] == pytest.approx(expected.mean())
    assert all(found["iou"][c] is None for c in range(n) if c not in occurring)
