import pytest

from hicl.config import to_toml
from hicl.errors import HiclError
from hicl.train import config
from hicl.train.config import PRESETS, load, phase_epochs


@pytest.mark.parametrize("preset", PRESETS)
def test_the_stored_toml_gives_the_same_configuration(tmp_path, preset):
    wanted = load(preset, None, {"experiment": "III", "stream.elastic": 0.1, "schedule.absolute": True})
    (tmp_path / "config.toml").write_text(to_toml(wanted))
    assert load("scannet", tmp_path / "config.toml") == wanted


def test_the_scannet_preset_is_the_papers():
    c = PRESETS["scannet"]
    assert (c.schedule.epochs, c.schedule.batch, c.stream.voxel_size, c.stream.views) == (120, 8, 0.05, 8)
    assert (c.optim.lr, c.optim.momentum, c.optim.dampening, c.optim.weight_decay, c.optim.head_lr) == (
        *(0.2, 0.9, 0.1, 1e-4, 2e-4),
    )
    assert (c.heads.layers, c.heads.tokens, phase_epochs(c.schedule)) == (3, 1024, (10, 20))


def test_phases_keep_their_proportion_unless_absolute():
    assert phase_epochs(load("scannet", None, {"schedule.epochs": 60}).schedule) == (5, 10)
    short = load("scannet", None, {"schedule.epochs": 60, "schedule.absolute": True})
    assert phase_epochs(short.schedule) == (10, 20)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"schedule.epoch": 3}, "unknown key 'schedule.epoch'; did you mean 'schedule.epochs'"),
        ({"epochs": 3}, "unknown key 'epochs'; did you mean 'schedule.epochs'"),
        ({"schedule.epochs": 3.5}, "must be a whole number"),
        ({"schedule.epochs": 0}, "greater than 0"),
        ({"schedule.epochs": True}, "must be a whole number"),
        ({"optim.lr": "fast"}, "--set: optim.lr = 'fast' must be a number"),
        ({"stream.flip": 1}, "must be true or false"),
        ({"model.planes": 32}, "must be a list"),
        ({"optim.lr": -1}, "at least 0"),
        ({"optim.lr": float("nan")}, "finite"),
        ({"experiment": "VII"}, "experiment VII: unknown"),
        ({"heads.block": "vgg"}, "vit, eq3"),
        ({"model.planes": [1, 2]}, "eight widths"),
        ({"stream": 3}, "must be a table"),
    ],
)
def test_what_it_cannot_train_with_is_refused(overrides, words):
    with pytest.raises(HiclError, match=words):
        load("scannet", None, overrides)


def test_bad_files_and_presets_are_refused(tmp_path):
    with pytest.raises(HiclError, match="none.toml: no such file"):
        load("scannet", tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(HiclError, match="not a readable TOML"):
        load("scannet", tmp_path / "bad.toml")
    with pytest.raises(HiclError, match="preset 'tiny'"):
        load("tiny")


def test_experiments_switch_on_one_thing_after_the_other():
    steps = [(e.labels, e.intra, e.inter, e.feedback, e.recipe) for e in config.EXPERIMENTS.values()]
    assert steps == [
        ("raw", False, False, False, False),
        ("refined", False, False, False, False),
        ("refined", True, False, False, False),
        ("refined", True, True, False, False),
        ("refined", True, True, True, False),
        ("refined", True, True, True, True),
    ]
    assert [e.paper for e in config.EXPERIMENTS.values()] == [28.8, 31.1, 32.1, 36.1, 36.6, None]
