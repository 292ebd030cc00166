import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.pipeline.teacher.clip import quantise
from hicl.pipeline.teacher.features import class_scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_codes_are_the_nearest_of_255_steps_up_to_the_largest_component(seed, size):
    grid = (size * np.random.default_rng(seed).standard_normal((3, 2, 4, 7))).astype(np.float32)
    grid[0, 0, 0] = 0
    codes, scale = quantise(torch.from_numpy(grid))
    assert codes.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == (3, 2, 4)
    assert (np.abs(codes * scale[..., None].astype(np.float64) - grid) <= scale[..., None] * 0.5001).all()
    assert (np.abs(codes).max(axis=-1)[scale > 0] == 127).all()
    assert scale[0, 0, 0] == 0 and not codes[0, 0, 0].any()


@pytest.mark.parametrize("h, w, d, n_classes", [(3, 5, 32, 20), (1, 1, 7, 1), (2, 3, 6, 301), (2, 2, 1, 3)])
def test_scores_are_the_dot_products(h, w, d, n_classes):
    rng = np.random.default_rng(0)
    codes, scale = quantise(torch.from_numpy(rng.standard_normal((h, w, d)).astype(np.float32)))
    text = rng.standard_normal((n_classes, d)).astype(np.float32)
    expected = (codes.astype(np.float64) * scale[..., None]) @ text.astype(np.float64).T
    scores = class_scores(codes, scale, text)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="text: expected"):
        class_scores(codes, scale, text[:, :-1])


def test_a_patch_s_scores_do_not_depend_on_its_neighbours():
    rng = np.random.default_rng(1)
    codes, scale = quantise(torch.from_numpy(rng.standard_normal((3, 3, 70)).astype(np.float32)))
    text = rng.standard_normal((21, 70)).astype(np.float32)
    whole = class_scores(codes, scale, text)
    for row in range(3):
        assert np.array_equal(
            class_scores(codes[row : row + 1, :1], scale[row : row + 1, :1], text)[0, 0], whole[row, 0]
        )
        assert np.array_equal(class_scores(codes[row:, 1:], scale[row:, 1:], text), whole[row:, 1:])
