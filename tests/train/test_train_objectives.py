"""Each objective against its formula in plain loops, and through the command line."""

import numpy as np
import pytest
import torch
from synthetic_rooms import TINY, add_features, make_cache
from typer.testing import CliRunner

from hicl import commands
from hicl.errors import HiclError
from hicl.train import loop
from hicl.train.config import OBJECTIVES, load
from hicl.train.learner import Learner
from hicl.train.objectives.ppkt import info_nce

OTHERS = [name for name in OBJECTIVES if name != "hicl"]
SETTINGS = TINY | {"schedule.epochs": 2, "schedule.batch": 2, "optim.save_every": 2, "contrast.rows": 64}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("objectives") / "cache", n_points=300, edit=add_features)


def _run(*arguments):
    result = CliRunner().invoke(commands.app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", OTHERS)
def test_every_objective_trains_resumes_and_is_evaluated(cache, tmp_path, monkeypatch, name):
    flags = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    train = ("train", "--cache", cache, "--objective", name, "--out")
    assert f"{name}, seed 0" in _run(*train, tmp_path / "straight", *flags)
    done, step = [], Learner.step

    def killing(self, batch):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", killing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cache, load("miniature", None, SETTINGS | {"objective": name}), tmp_path / "killed")
    monkeypatch.setattr(Learner, "step", step)
    _run("train", "--cache", cache, "--resume", "--out", tmp_path / "killed")
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("straight", "killed")]
    assert weights[0] == weights[1]
    assert "mIoU" in _run("evaluate", "--cache", cache, "--model", tmp_path / "straight")


def test_what_does_not_go_together_is_said(cache, tmp_path):
    with pytest.raises(HiclError, match="--exp V: the experiments are those of --objective hicl; leave one"):
        _run("train", "--cache", cache, "--objective", "ppkt", "--exp", "V")
    with pytest.raises(HiclError, match="objective ppk: unknown; known are hicl, ppkt"):
        _run("train", "--cache", cache, "--objective", "ppk")


def test_info_nce_is_its_formula():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 5, 3))
    student = torch.from_numpy(f).requires_grad_()
    total, count = info_nce(student, torch.from_numpy(g), 0.07)
    expected = 0.0
    for i in range(5):
        cosine = [f[i] @ g[j] / np.linalg.norm(f[i]) / np.linalg.norm(g[j]) for j in range(5)]
        expected -= cosine[i] / 0.07 - np.log(sum(np.exp(c / 0.07) for c in cosine))
    assert count == 5 and np.isclose(total.item(), expected)
    assert torch.autograd.gradcheck(lambda x: info_nce(x, torch.from_numpy(g), 0.07)[0], student)
