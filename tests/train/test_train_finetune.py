"""People's labels: they reach fine-tuning, of the scenes that it says, and nothing else that trains."""

import json

import numpy as np
import pytest
import torch
from invoke import hicl
from safetensors.torch import load_file
from synthetic_rooms import TINY, add_features, make_cache

from hicl.cache.reader import Group
from hicl.errors import HiclError
from hicl.train import loop, pretraining
from hicl.train.config import OBJECTIVES, load
from hicl.train.finetune import labelled_scenes

SETTINGS = TINY | {"schedule.epochs": 1, "schedule.batch": 2, "contrast.rows": 64}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("tune") / "cache", train=4, n_points=400, edit=add_features)


@pytest.fixture(scope="module")
def pretrained(cache, tmp_path_factory):
    config = load("miniature", None, SETTINGS | {"objective": "pointcontrast"})
    return loop.train(cache, config, tmp_path_factory.mktemp("pre") / "pointcontrast")


@pytest.fixture
def truth_read(monkeypatch):
    """Names of the scenes whose true labels are read."""
    read, names = Group.read, []
    watched = lambda self, name: (names.append(self.id) if name == "points/label" else None) or read(self, name)  # noqa: E731
    monkeypatch.setattr(Group, "read", watched)
    return names


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_ever_reads_true_labels(cache, tmp_path, truth_read, name):
    loop.train(cache, load("miniature", None, SETTINGS | {"objective": name, "experiment": "VI"}), tmp_path / name)
    assert truth_read == []


def test_a_larger_share_holds_a_smaller():
    names = [f"scene{i}" for i in range(40)]
    few, more = labelled_scenes(names, 0.05, 3), labelled_scenes(names, 0.25, 3)
    assert len(few) == 2 and len(more) == 10 and set(few) < set(more) and few != labelled_scenes(names, 0.05, 4)
    assert len(labelled_scenes(names, 0.001, 0)) == 1 and labelled_scenes(names, 1.0, 0) == sorted(names)


def test_fine_tuning_reads_the_labels_that_it_says_and_learns_from_them(cache, pretrained, tmp_path, truth_read):
    words = ("finetune", "--cache", cache, "--model", pretrained, "--labels", "50%", "--steps", "60")
    said = hicl(*words, "--out", tmp_path / "tuned")
    names = labelled_scenes([f"train0{i}" for i in range(4)], 0.5, 0)
    assert f"labels of 2 scenes, seed 0: {', '.join(names)}" in said and set(truth_read) == set(names)
    assert json.loads((tmp_path / "tuned/model.json").read_text())["labelled"] == names
    hicl("evaluate", "--cache", cache, "--model", tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned/evaluation-val.json").read_text())["accuracy"] > 60
    with pytest.raises(HiclError, match="tuned: holds something already; choose another --out"):
        hicl(*words, "--out", tmp_path / "tuned")


def test_a_linear_probe_changes_the_head_alone(cache, pretrained, tmp_path):
    hicl("finetune", "--cache", cache, "--model", pretrained, "--linear", "--steps", "3", "--out", tmp_path / "probe")
    before, after = (load_file(run / "model.safetensors") for run in (pretrained, tmp_path / "probe"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"net.head.weight", "net.head.bias"}


def test_the_table_has_a_row_an_objective_and_goes_on_after_a_kill(cache, pretrained, tmp_path, monkeypatch):
    words = ("table-pretraining", "--cache", cache, "--model", pretrained, "--labels", "25%", "--labels", "100%")
    words += ("--seeds", 2, "--out", tmp_path, "--steps")
    save, done = pretraining.checkpoint.save_model, []

    def killing(run, *rest):
        if len(done) == 3:
            (run / "model.safetensors").touch()
            raise HiclError("killed")
        done.append(run.name)
        save(run, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(pretraining.checkpoint, "save_model", killing)
        with pytest.raises(HiclError, match="killed"):
            hicl(*words, 2)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("evaluation-val.json")}
    said = hicl(*words, 2)
    assert len(times) == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())
    rows = json.loads((tmp_path / "pretraining.json").read_text())["rows"]
    assert list(rows) == ["random start", "pointcontrast"] and list(rows["pointcontrast"]) == ["25%", "100%"]
    one = rows["pointcontrast"]["25%"]
    assert len(one["miou"]) == 2 and one["mean"] == np.mean(one["miou"])
    assert np.isclose(one["spread"], np.std(one["miou"], ddof=1))
    assert "mean of 2 seeds" in said and f"| {one['mean']:.2f} ± {one['spread']:.2f} |" in said
    with pytest.raises(HiclError, match=r"finished with other settings \(step\)"):
        hicl(*words, 3)


@pytest.mark.parametrize("share", ["0%", "101%", "10", "some%"])
def test_a_share_is_between_none_and_all(cache, pretrained, tmp_path, share):
    with pytest.raises(HiclError, match=f"--labels {share}: must be a share above 0%"):
        hicl("finetune", "--cache", cache, "--model", pretrained, "--labels", share, "--out", tmp_path / "x")
