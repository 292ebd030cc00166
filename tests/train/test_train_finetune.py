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
from hicl.train import loop
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


def test_the_table_has_a_row_an_objective_and_a_random_start(cache, pretrained, tmp_path):
    words = ("--cache", cache, "--model", pretrained, "--labels", "25%", "--labels", "100%", "--steps", "2")
    said = hicl("table-pretraining", *words, "--out", tmp_path)
    rows = json.loads((tmp_path / "pretraining.json").read_text())["rows"]
    assert list(rows) == ["random start", "pointcontrast"] and list(rows["pointcontrast"]) == ["25%", "100%"]
    assert "| pre-trained by | 25% | 100% |" in said and np.isfinite(list(rows["random start"].values())).all()


@pytest.mark.parametrize("share", ["0%", "101%", "10", "some%"])
def test_a_share_is_between_none_and_all(cache, pretrained, tmp_path, share):
    with pytest.raises(HiclError, match=f"--labels {share}: must be a share above 0%"):
        hicl("finetune", "--cache", cache, "--model", pretrained, "--labels", share, "--out", tmp_path / "x")
