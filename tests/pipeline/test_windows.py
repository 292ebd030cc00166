"""Sliding windows against windows cut and averaged one by one."""

import dataclasses

import numpy as np
import pytest

from hicl.errors import HiclError
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.windows import starts


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("window", range(1, 6))
@pytest.mark.parametrize("stride", range(1, 6))
def test_windows_cover_an_axis_with_no_more_of_them_than_it_takes(length, window, stride):
    if stride > window:
        return
    window = min(window, length)
    found = starts(length, window, stride)
    covered = {patch for start in found for patch in range(start, start + window)}
    assert covered == set(range(length)) and found == sorted(set(found))
    assert (
        found[:-1] == [stride * i for i in range(len(found) - 1)] and len(found) == -(-(length - window) // stride) + 1
    )


@pytest.mark.parametrize(("kind", "patch", "side"), [("vit", 8, 32), ("resnet", 32, 64)])
def test_features_are_the_means_of_windows_read_by_themselves(tiny_clip, kind, patch, side):
    tiny = getattr(tiny_clip, kind)
    config = TeacherConfig(tiny.config, tiny.weights, short_side=6 * patch)
    images = [np.random.default_rng(seed).integers(0, 256, (6 * patch, 7 * patch, 3), np.uint8) for seed in range(2)]
    whole = Teacher(dataclasses.replace(config, short_side=side))
    wide, stride = side // patch, side // patch // 2
    wanted = np.zeros((2, 6, 7, 12))
    for image, total in zip(images, wanted, strict=True):
        for row in starts(6, wide, stride):
            for column in starts(7, wide, stride):
                part = image[row * patch : row * patch + side, column * patch : column * patch + side]
                total[row : row + wide, column : column + wide] += whole.encode_images([part])[0]
    wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    for batch in (None, 3):
        found = Teacher(dataclasses.replace(config, window=side), batch=batch).encode_images(images)
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_window_as_large_as_the_image_is_the_image(tiny_clip):
    config = TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights)
    image = np.random.default_rng(0).integers(0, 256, (32, 56, 3), np.uint8)
    windowed = Teacher(dataclasses.replace(config, window=56)).encode_images([image])
    np.testing.assert_array_equal(windowed, Teacher(config).encode_images([image]))


def test_what_a_fingerprint_takes_in_is_what_is_in_use():
    """Caches from before windows stay up to date."""
    assert sorted(TeacherConfig().identity()) == ["clip", "dense", "short_side", "weights"]
    set_so = TeacherConfig(window=224, key_smoothing=True).identity()
    assert (set_so["window"], set_so["key_smoothing"], "window_stride" in set_so) == (224, True, False)


@pytest.mark.parametrize("settings", [{"window_stride": 8}, {"window": 32, "window_stride": 40}])
def test_a_stride_without_a_window_or_with_gaps(settings):
    with pytest.raises(HiclError, match="^--window-stride .*: needs a --window at least as large$"):
        PreprocessConfig(**settings)


def test_a_window_smaller_than_a_patch(tiny_clip):
    with pytest.raises(HiclError, match="^--window 7: less than one patch of 8x8$"):
        Teacher(TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights, window=7))
