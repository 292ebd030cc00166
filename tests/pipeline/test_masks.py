"""Masks by colours, and their way into a cache."""

import numpy as np
from scipy import ndimage

from hicl.pipeline.masks import _neighbours, colour_masks


def test_plain_areas_are_masks():
    """Three areas without noise, of which two have one colour and don't touch."""
    image = np.full((60, 80, 3), (200, 190, 180), np.uint8)
    area = np.ones((60, 80), int)
    for number, (rows, columns) in enumerate(((slice(8, 25), slice(10, 30)), (slice(30, 55), slice(40, 75))), start=2):
        image[rows, columns], area[rows, columns] = (40, 60, 160), number
    found = colour_masks(image)
    masks = set()
    for number in (1, 2, 3):
        away = ndimage.binary_erosion(area == number, iterations=4, border_value=1)  # from the smoothed outline
        masks |= {(number, mask) for mask in np.unique(found[away]).tolist()}
    assert len(masks) == 3 and len(dict(masks)) == 3 and len({mask for _, mask in masks}) == 3 and found.min() == 1


def test_large_images_are_segmented_in_120_rows():
    assert colour_masks(np.zeros((480, 200, 3), np.uint8)).shape == (120, 50)


def test_each_two_neighbours_are_compared_once():
    pixel = np.arange(12).reshape(3, 4)
    found = [frozenset(pair) for a, b in _neighbours(pixel) for pair in zip(a.ravel(), b.ravel(), strict=True)]
    near = lambda a, b: max(abs(a // 4 - b // 4), abs(a % 4 - b % 4)) == 1  # noqa: E731
    assert sorted(map(sorted, found)) == sorted([a, b] for a in range(12) for b in range(a + 1, 12) if near(a, b))
