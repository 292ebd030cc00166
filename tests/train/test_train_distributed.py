"""Two processes with one batch between them against one process with that batch."""

import csv
import os
import socket
import warnings

import pytest
import torch
from safetensors.torch import load_file
from synthetic_rooms import TINY, make_cache

from hicl.train import distributed, loop
from hicl.train.config import load

SETTINGS = TINY | {
    "experiment": "V",
    "heads.layers": 2,
    "schedule.epochs": 4,
    "schedule.batch": 4,
    "schedule.absolute": True,
    "schedule.attention_epoch": 1.0,
    "schedule.feedback_epoch": 2.0,
    "optim.lr": 0.05,
    "optim.head_lr": 0.002,
}


EVERY_PART = {
    "experiment": "VI",
    "recipe.pull_weight": 0.5,
    "recipe.match_weight": 0.5,
    "recipe.memory": 3,
    "recipe.average_epoch": 1.0,
    "recipe.average_decay": 0.5,
}


def _process(rank: int, port: int, cache: str, out: str, settings: dict) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # pytest's own setting doesn't reach a spawned process
    try:
        loop.train(cache, load("miniature", None, settings), out, device="cpu")
    finally:
        distributed.stop()


def _rows(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS | EVERY_PART], ids=["V", "VI"])
def test_two_processes_equal_one(tmp_path, settings):
    cache = make_cache(tmp_path / "cache", n_points=500, width=8, val=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (port, str(cache), str(tmp_path / "two"), settings), nprocs=2)
    loop.train(cache, load("miniature", None, settings), tmp_path / "one", device="cpu")
    one, two = _rows(tmp_path / "one"), _rows(tmp_path / "two")
    assert len(one) == 4 and one[-1]["kl"] and one[-1]["inter"]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() & {"ce", "intra", "inter", "kl", "pull", "match"}:
            assert bool(a[name]) == bool(b[name])
            assert not a[name] or abs(float(a[name]) - float(b[name])) <= 1e-4 * abs(float(a[name])) + 1e-6, name
    ours, theirs = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor.float(), theirs[name].float(), rtol=1e-3, atol=1e-4), name
