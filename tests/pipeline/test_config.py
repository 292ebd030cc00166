import dataclasses

import pytest

from hicl.errors import HiclError
from hicl.pipeline.config import build
from hicl.pipeline.datasets.rgbd import Settings


def from_toml(tmp_path, text, **overrides):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return build(Settings, path, overrides)


def test_defaults():
    assert build(Settings, None, {}) == Settings()
    assert build(Settings, None, {"sets": None, "frame_step": None}) == Settings()
    # The method's own numbers: METHOD 6, 1.2 and section 3.2 of the paper.
    config = Settings()
    assert (config.k_threshold, config.min_size, config.max_gap, config.vote) == (0.01, 20, 0.05, "image")
    assert (config.clip, config.weights, config.dense) == ("ViT-B-16-quickgelu", "openai", "maskclip")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sets = "knn"


def test_the_command_line_goes_before_the_file(tmp_path):
    text = 'sets = "mesh"\nframe_step = 5\nmax_gap = 1\n'
    config = from_toml(tmp_path, text, frame_step=7, vote=None)
    assert (config.sets, config.frame_step, config.vote) == ("mesh", 7, "image")
    assert config.max_gap == 1.0 and isinstance(config.max_gap, float)


@pytest.mark.parametrize(
    "text, said",
    [
        ("frame_steps = 5", "unknown key 'frame_steps'; did you mean 'frame_step'?"),
        ("[points]\nx = 1", "unknown key 'points'"),
        ("frame_step = true", "frame_step = True"),
        ("min_size = false", "min_size = False"),
        ("max_gap = true", "max_gap = True"),
        ("frame_step = 5.0", "frame_step = 5.0"),
        ('frame_step = "5"', "frame_step = '5'"),
        ("sets = 5", "sets = 5"),
        ("sets = true", "sets = True"),
        ('max_gap = "0.05"', "max_gap = '0.05'"),
        ("clip = 1979-05-27", "clip = "),
        ("clip = ['a']", "clip = "),
        ("frame_step = ", "not a readable TOML"),
        ("frame_step = 5\nframe_step = 6", "not a readable TOML"),
        (b"\xff", "not a readable TOML"),
    ],
)
def test_a_file_that_will_not_do(tmp_path, text, said):
    with pytest.raises(HiclError, match=f"mine.toml: .*{said}") as error:
        from_toml(tmp_path, text)
    assert "\n" not in str(error.value)


def test_missing(tmp_path):
    with pytest.raises(HiclError, match="none.toml: no such file"):
        build(Settings, tmp_path / "none.toml", {})


@pytest.mark.parametrize("name", ["sets", "vote", "teacher", "poses", "axes"])
def test_choices(tmp_path, name):
    with pytest.raises(HiclError, match=f"--{name} magic: unknown; known are"):
        build(Settings, None, {name: "magic"})
    with pytest.raises(HiclError, match=f"--{name} magic"):
        from_toml(tmp_path, f'{name} = "magic"')


@pytest.mark.parametrize("name", ["frame_step", "k_threshold", "min_size", "max_gap", "short_side", "depth_scale"])
@pytest.mark.parametrize("value", [0, -1])
def test_ranges(name, value):
    with pytest.raises(HiclError, match=f"--{name.replace('_', '-')} .*: must be greater than 0"):
        build(Settings, None, {name: value})


def test_label_images_need_a_folder():
    assert build(Settings, None, {"teacher": "labels", "labels_dir": "x"}).labels_dir == "x"
    for half in ({"teacher": "labels"}, {"labels_dir": "x"}):
        with pytest.raises(HiclError, match="--teacher labels and --labels-dir DIR go together"):
            build(Settings, None, half)
