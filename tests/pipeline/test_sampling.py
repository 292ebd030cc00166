import numpy as np
import pytest

from hicl.pipeline.sampling import denoised, label_pixels, scores_at


@pytest.mark.parametrize(
    "grid, size", [((6, 8), (96, 128)), ((14, 26), (120, 161)), ((1, 3), (7, 9)), ((5, 1), (3, 4)), ((9, 9), (4, 5))]
)
def test_equals_interpolating_everything_and_taking_the_best(grid, size):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((*grid, 20)).astype(np.float32)
    dense = torch.nn.functional.interpolate(
        torch.from_numpy(scores).permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False
    )[0]
    pixel = np.stack(np.mgrid[: size[0], : size[1]], axis=-1).reshape(-1, 2).astype(np.uint16)
    labels = label_pixels(scores, pixel, size)
    assert labels.dtype == np.uint8
    best, second = dense.topk(2, dim=0).values
    decided = (best - second > 1e-5).numpy().ravel()  # what is closer is a matter of rounding
    assert decided.mean() > 0.999
    assert np.array_equal(labels[decided], dense.argmax(dim=0).numpy().ravel()[decided])
    np.testing.assert_allclose(scores_at(scores, pixel, size), dense.flatten(1).T.numpy(), atol=1e-5)


def test_ties_go_to_the_lowest_class():
    scores = np.zeros((2, 2, 4), np.float32)
    scores[..., 1:3] = 1
    assert label_pixels(scores, np.array([[0, 0], [3, 5]], np.uint16), (4, 6)).tolist() == [1, 1]


def test_the_border_is_held_and_the_middle_mixed():
    scores = np.array([[[1, 0], [0, 1]]], np.float32)  # class 0 on the left patch, 1 on the right
    pixel = np.array([[0, c] for c in range(8)], np.uint16)
    assert label_pixels(scores, pixel, (4, 8)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_what_does_not_fit_is_refused():
    scores = np.zeros((2, 2, 3), np.float32)
    assert label_pixels(scores, np.zeros((0, 2), np.uint16), (4, 6)).shape == (0,)
    for pixel in ([4, 0], [0, 6]):
        with pytest.raises(ValueError, match="within 4 x 6"):
            label_pixels(scores, np.array([pixel], np.uint16), (4, 6))
    for shape in ((2, 2), (2, 2, 0), (2, 2, 256)):
        with pytest.raises(ValueError, match="scores"):
            label_pixels(np.zeros(shape, np.float32), np.zeros((0, 2), np.uint16), (4, 6))


@pytest.mark.parametrize("seed", range(10))
def test_prompt_denoising_takes_away_what_is_nowhere_sure(seed):
    scores = (0.05 * np.random.default_rng(seed).standard_normal((4, 5, 6))).astype(np.float32)
    sure = set()
    for row in scores.reshape(-1, 6).astype(float):
        share = np.exp(100 * row) / np.exp(100 * row).sum()
        sure |= {c for c in range(6) if share[c] >= 0.92}
    expected = scores.copy()
    for c in set(range(6)) - sure if sure else ():
        expected[:, :, c] = scores.min()
    np.testing.assert_array_equal(denoised(scores, 0.92), expected)
    assert sure


def test_where_no_class_is_sure_all_stay():
    scores = np.zeros((2, 2, 3), np.float32)
    assert denoised(scores, 0.5) is scores
