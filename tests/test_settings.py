"""One declaration a setting: what is printed of it can be given back, and the page says what the code does."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hicl import commands
from hicl.commands.settings import page
from hicl.config import settings_of, to_toml
from hicl.errors import HiclError
from hicl.pipeline import config, datasets
from hicl.train.config import PRESETS, Config, load


def run(*words):
    return CliRunner().invoke(commands.app, [str(word) for word in words])


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_what_config_prints_is_taken_back(name, tmp_path):
    kind = datasets.load(name).Settings
    (tmp_path / "all.toml").write_text(run("config", "preprocess", name).output)
    assert config.build(kind, tmp_path / "all.toml", {}) == kind()
    edited = (
        (tmp_path / "all.toml")
        .read_text()
        .replace("min_size = 20", "min_size = 7")
        .replace("# frame_step =", "frame_step = 3")
    )
    (tmp_path / "all.toml").write_text(edited)
    assert config.build(kind, tmp_path / "all.toml", {}) == kind(min_size=7, frame_step=3)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_training_too(preset, tmp_path):
    (tmp_path / "all.toml").write_text(run("config", "train", "--preset", preset).output)
    assert load("scannet", tmp_path / "all.toml") == load(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_default_that_is_told_is_the_value_that_is_printed(preset):
    for block in run("config", "train", "--preset", preset).output.split("\n\n"):
        if "[default: " in block:
            told = " ".join(block.splitlines()[:-1]).replace("# ", "").partition("[default: ")[2].removesuffix("]")
            assert told == block.splitlines()[-1].partition(" = ")[2].strip('"')


def test_help_and_page_tell_what_train_takes_by_itself():
    """Voxels of 10 cm, the miniature's, and not the 5 cm of the paper; where both agree, one value."""
    listed = run("train", "--help").output
    for text, column in ((listed, "[default: {}]"), (page(), "| {} |")):
        for key, value in (("stream.voxel_size", "0.1; scannet: 0.05; street: 0.3"), ("heads.layers", "3")):
            assert any(key in line and column.format(value) in line for line in text.splitlines())
    assert "| `preset` | miniature |" in page()


def test_text_that_toml_must_escape_comes_back():
    scanned = config.PreprocessConfig(weights='C:\\clip "old"\n\tnäher.pt')
    assert tomllib.loads(to_toml(scanned))["weights"] == scanned.weights


def test_every_setting_says_what_it_is():
    kinds = [config.PreprocessConfig, Config, *(datasets.load(name).Settings for name in datasets.DATASETS)]
    for setting in (setting for kind in kinds for setting in settings_of(kind)):
        assert len(setting.about.help) > 5 and not setting.about.help.endswith("."), setting.key
        if setting.about.choices:
            assert setting.default is None or setting.default in setting.about.choices


def test_every_setting_is_in_the_help():
    for name in datasets.DATASETS:
        listed = run("preprocess", name, "--help").output
        for field in dataclasses.fields(datasets.load(name).Settings):
            assert config.option(field.name) + " " in listed
    listed = run("train", "--help").output
    assert all(setting.key in listed for setting in settings_of(Config) if "." in setting.key)


def test_the_page_is_up_to_date():
    assert (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8") == page(), "make docs"


def test_a_data_set_that_is_not_there():
    result = run("config", "preprocess", "kitti")
    assert isinstance(result.exception, HiclError) and "there are scannet, miniature, rgbd" in str(result.exception)
    assert run("preprocess", "kitti").exit_code == 2


def test_version():
    assert run("--version").output == "hicl 0.1.0\n"
