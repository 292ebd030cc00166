import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import jaccard_score
from synthetic_rooms import TINY, make_cache

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.train import ablation, distributed, inference, loop, minkunet, run_folder, stream
from hicl.train.config import EXPERIMENTS, load
from hicl.train.learner import Learner
from hicl.train.taught import Needs

SETTINGS = TINY | {
    "heads.layers": 1,
    "schedule.epochs": 6,
    "schedule.batch": 2,
    "schedule.attention_epoch": 20.0,
    "schedule.feedback_epoch": 40.0,
    "optim.save_every": 5,
}


def _config(experiment="V", **changes):
    return load(
        "miniature", None, SETTINGS | {"experiment": experiment} | {k.replace("__", "."): v for k, v in changes.items()}
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("loop") / "cache", n_points=500, width=8)


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    return loop.train(cache, _config(schedule__evaluate_every=3), tmp_path_factory.mktemp("run") / "V")


def _rows(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def _numbers(run):
    return [{k: row[k] for k in ("epoch", "step", "ce", "intra", "inter", "kl", "lr", "miou")} for row in _rows(run)]


def test_terms_join_at_their_phases(finished):
    rows = _rows(finished)
    assert [bool(r["intra"]) for r in rows] == [False, True, True, True, True, True]
    assert [bool(r["inter"]) for r in rows] == [False, True, True, True, True, True]
    assert [bool(r["kl"]) for r in rows] == [False, False, True, True, True, True]
    assert [bool(r["miou"]) for r in rows] == [False, False, True, False, False, True]
    assert float(rows[0]["lr"]) == 0.2 and float(rows[-1]["lr"]) < 0.02
    assert float(rows[-1]["ce"]) < float(rows[0]["ce"])


def test_at_the_switch_the_heads_losses_equal_the_networks_own(cache):
    group = distributed.start("cpu")
    opened = open_cache(cache)
    config = _config(heads__token_label="own")
    learner = Learner(config, torch.from_numpy(opened.text.copy()), group)
    source = stream.make_source(opened, Needs("refined"), config.heads, 0, config.stream)
    batch = stream.make_batch(opened, source, 5, [0, 1])
    terms = learner.terms(batch)
    net = learner.modules["net"]
    logits = net(batch.coords, batch.features, 2, batch.grid)[batch.tokens.flatten()] @ learner.text.T
    label = torch.where(batch.histogram.sum(1) > 0, batch.histogram.argmax(1), 255)[batch.tokens.flatten()]
    own = torch.nn.functional.cross_entropy(logits, label, ignore_index=255)
    assert torch.allclose(terms["intra"], own) and torch.allclose(terms["inter"], own)
    assert terms["kl"].abs() < 1e-6


def test_a_saved_model_is_the_network_and_the_text(finished):
    tensors = load_file(finished / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"net", "text"}
    assert not any(word in name for name in tensors for word in ("qkv", "fc1", "intra", "inter", "norm1"))
    model = inference.load(finished, torch.device("cpu"))
    assert model.net.head.out_features == 8
    assert not run_folder.has_state(finished) and not list(finished.glob("state-*"))
    assert not [p for p in finished.rglob("*") if p.suffix in (".pt", ".pth", ".pkl", ".bin")]


def test_every_loss_and_rate_is_a_tensorboard_scalar(finished):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"loss/ce", "loss/intra", "loss/inter", "loss/kl", "rate/net", "rate/heads", "val/miou"} <= names
    assert {"speed/points_per_s", "speed/wait_share"} <= names
    assert [e.step for e in events.Scalars("loss/ce")] == list(range(1, 13))


def test_being_scored_on_the_way_changes_nothing(cache, finished, tmp_path):
    unscored = loop.train(cache, _config(), tmp_path / "V")
    assert (unscored / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize("killed_at", [3, 7, 12])
def test_a_killed_run_resumes_to_the_same_weights(cache, finished, tmp_path, monkeypatch, killed_at):
    config, done = _config(schedule__evaluate_every=3), []
    step = Learner.step

    def killing(self, batch):
        if len(done) == killed_at - 1:
            raise KeyboardInterrupt
        done.append(batch.scenes)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", killing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cache, config, tmp_path / "V")
    assert run_folder.has_state(tmp_path / "V") == (killed_at > 5) and not run_folder.has_model(tmp_path / "V")
    monkeypatch.setattr(Learner, "step", step)
    loop.train(cache, config, tmp_path / "V", resume=True)
    assert (tmp_path / "V" / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert _numbers(tmp_path / "V") == _numbers(finished)


EVERY_PART = {
    "recipe.pull_weight": 0.5,
    "recipe.match_weight": 0.5,
    "recipe.memory": 3,
    "recipe.average_epoch": 20.0,
}


def test_a_killed_run_of_the_recipe_resumes_to_the_same_weights(cache, tmp_path, monkeypatch):
    """With its moving average and its memory."""
    config, done = load("miniature", None, SETTINGS | EVERY_PART | {"experiment": "VI"}), []
    undisturbed = loop.train(cache, config, tmp_path / "undisturbed")
    step = Learner.step

    def killing(self, batch):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(batch.scenes)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", killing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cache, config, tmp_path / "VI")
    monkeypatch.setattr(Learner, "step", step)
    names = load_file(next((tmp_path / "VI").glob("state-*.safetensors"))).keys()
    assert any(name.startswith("average.") for name in names) and "memory.tokens" in names
    loop.train(cache, config, tmp_path / "VI", resume=True)
    assert (tmp_path / "VI" / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    ours, theirs = _rows(tmp_path / "VI"), _rows(undisturbed)
    assert all(a[k] == b[k] for a, b in zip(ours, theirs, strict=True) for k in ("ce", "inter", "kl", "pull", "match"))
    assert ours[-1]["pull"] and ours[-1]["match"] and not ours[0]["pull"]
    assert {name.split(".")[0] for name in load_file(undisturbed / "model.safetensors")} == {"net", "text"}


def test_a_run_killed_by_the_system_resumes_to_the_same_weights(cache, tmp_path):
    config = _config(schedule__epochs=40, stream__workers=1, optim__save_every=3)
    undisturbed = loop.train(cache, config, tmp_path / "undisturbed")
    run = tmp_path / "V"
    settings = tmp_path / "settings.toml"
    settings.write_text((undisturbed / "config.toml").read_text())
    command = ["-m", "hicl", "train", "--cache", cache, "--config", settings, "--device", "cpu", "--out", run]
    child = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not run_folder.has_state(run):
            assert child.poll() is None, "training ended before a state was saved"
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not run_folder.has_model(run)
    loop.train(cache, config, run, resume=True)
    assert (run / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert _numbers(run) == _numbers(undisturbed)


def test_nothing_that_was_there_is_overwritten(cache, finished, tmp_path, monkeypatch):
    before = {p: p.read_bytes() for p in finished.iterdir() if p.is_file()}
    for resume in (False, True):
        with pytest.raises(HiclError, match="holds a finished run"):
            loop.train(cache, _config(), finished, resume=resume)
    assert {p: p.read_bytes() for p in finished.iterdir() if p.is_file()} == before
    with pytest.raises(HiclError, match="nothing to resume"):
        loop.train(cache, _config(), tmp_path / "new", resume=True)


@pytest.fixture
def stopped(cache, tmp_path, monkeypatch):
    """A run that was killed after its first saved state."""
    save = loop._save

    def save_and_die(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cache, _config(), tmp_path / "V")
    monkeypatch.undo()
    return tmp_path / "V"


def test_a_run_is_not_continued_as_another(cache, stopped, tmp_path):
    with pytest.raises(HiclError, match="unfinished run; continue it with --resume"):
        loop.train(cache, _config(), stopped)
    with pytest.raises(HiclError, match="optim.lr was 0.2, is 0.1"):
        loop.train(cache, _config(optim__lr=0.1), stopped, resume=True)
    wider = make_cache(tmp_path / "wide", n_points=500, width=12)
    with pytest.raises(HiclError, match="teacher has width 12, the run's 8"):
        loop.train(wider, _config(), stopped, resume=True)
    renamed = make_cache(tmp_path / "renamed", n_points=500, width=8, classes=("wall", "floor", "bed", "chair", "lamp"))
    with pytest.raises(HiclError, match="class list is another"):
        loop.train(renamed, _config(), stopped, resume=True)
    other = make_cache(tmp_path / "other", n_points=500, width=8, train=5)
    with pytest.raises(HiclError, match="training scenes changed"):
        loop.train(other, _config(), stopped, resume=True)


def test_a_state_that_does_not_fit_is_refused_with_the_names(cache, stopped):
    meta = json.loads((stopped / "state.json").read_text())
    file = stopped / meta["tensors"]
    tensors = load_file(file)
    assert any(n.startswith("sgd.") for n in tensors) and any(n.startswith("adamw.inter.") for n in tensors)
    whole = dict(tensors)
    del tensors["net.stem.weight"]
    tensors["net.head.weight"] = torch.zeros(8, 5)
    tensors["net.strange"] = torch.zeros(1)
    save_file(tensors, file)
    with pytest.raises(HiclError) as caught:
        loop.train(cache, _config(), stopped, resume=True)
    for words in (
        "net.stem.weight is missing",
        "net.head.weight is float32 [8, 5] instead of float32 [8, 4]",
        "net.strange is unknown",
    ):
        assert words in str(caught.value)
    save_file({n: t for n, t in whole.items() if n != "sgd.stem.weight:momentum_buffer"}, file)
    with pytest.raises(HiclError, match="sgd.stem.weight:momentum_buffer missing"):
        loop.train(cache, _config(), stopped, resume=True)
    save_file(whole | {"ghost": torch.zeros(1)}, file)
    with pytest.raises(HiclError, match="ghost"):
        loop.train(cache, _config(), stopped, resume=True)
    file.write_bytes(b"nonsense")
    with pytest.raises(HiclError, match="unreadable"):
        loop.train(cache, _config(), stopped, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_scene(cache, tmp_path, monkeypatch):
    make = stream.make_batch

    def spoiled(*args):
        batch = make(*args)
        if "train01" in batch.scenes:
            position = batch.scenes.index("train01")
            batch.features[batch.coords[:, 0] == position] = float("nan")
        return batch

    monkeypatch.setattr(stream, "make_batch", spoiled)
    with pytest.raises(HiclError, match="not finite .* scene train01;") as caught:
        loop.train(cache, _config(), tmp_path / "V")
    assert "train00" not in str(caught.value) and not run_folder.has_model(tmp_path / "V")


def test_a_rate_that_explodes_is_an_error_and_no_model(cache, tmp_path):
    with pytest.raises(HiclError, match="lower optim.lr"):
        loop.train(cache, _config("I", optim__lr=1e20), tmp_path / "I")
    assert not run_folder.has_model(tmp_path / "I")


def test_out_of_memory_says_what_to_lower(cache, tmp_path, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(minkunet.MinkUNet, "trunk", full)
    with pytest.raises(HiclError, match="lower schedule.batch"):
        loop.train(cache, _config("I"), tmp_path / "I")


def test_a_batch_of_one_scene_trains_and_says_what_it_lacks(tmp_path, capsys):
    single = make_cache(tmp_path / "one", train=1, val=1, n_points=500, width=8)
    loop.train(single, _config(schedule__epochs=2, schedule__attention_epoch=0.0), tmp_path / "V")
    assert "inter-scene correlation sees no other scene" in capsys.readouterr().out


def test_all_variants_of_the_heads_and_losses_train(cache, tmp_path):
    short = dict(schedule__epochs=2, schedule__attention_epoch=0.0, schedule__feedback_epoch=0.0)
    for i, change in enumerate(
        (
            dict(heads__block="eq3", heads__inter_input="raw"),
            dict(loss__kl_space="logits", loss__kl_direction="student", optim__bf16="on"),
        )
    ):
        loop.train(cache, _config(**short, **change), tmp_path / str(i))


def test_table_2_is_made_once_and_only_once(cache, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    config = _config(schedule__epochs=2)
    grown = []

    def say(line):  # told before the tables are written: they hold the runs of the lines before
        if grown or (tmp_path / "table2.json").exists():
            grown.append(json.loads((tmp_path / "table2.json").read_text()))
            text = (tmp_path / "table2.md").read_text()
            assert (
                text.startswith("Not all runs have ended; missing: I-seed")
                and "| V | + feedback" in text
                and "| VI | " in text
            )

    results = ablation.table2(cache, config, tmp_path, [0, 1], say=say)
    assert [len(table["missing"]) for table in grown] == list(range(11, 0, -1)) and len(grown) == 11
    assert [len(grown[0]["experiments"][name]["miou"]) for name in EXPERIMENTS] == [0, 0, 0, 0, 0, 1]
    assert list(results) == ["experiments", "seeds", "dataset", "protocol", "preset", "config", "labels_alone"]
    assert list(results["experiments"]) == list(EXPERIMENTS)
    saved = json.loads((tmp_path / "table2.json").read_text())
    assert all(len(row["miou"]) == 2 for row in saved["experiments"].values())
    table = (tmp_path / "table2.md").read_text()
    assert "| I | baseline | 28.8 |" in table and "| V | + feedback distillation | 36.6 | +0.5 |" in table
    alone = results["labels_alone"]["miou"]
    assert f"| | labels alone, no network | | | {alone:.2f} | | |" in table and "Labels alone: " in table
    rooms = [open_cache(cache).scene(name) for name in open_cache(cache).scene_ids("val")]
    truth, label = (np.concatenate([room.read(f"points/{what}") for room in rooms]) for what in ("label", "spread"))
    assert alone == pytest.approx(100 * jaccard_score(truth, label, average="macro"))
    assert (tmp_path / "table2.png").stat().st_size > 1000
    for name in EXPERIMENTS:
        row = results["experiments"][name]
        assert {"pooled", "ensemble"} <= set(row) if name in ("V", "VI") else "pooled" not in row
    pooled = json.loads((tmp_path / "runs/VI-seed1/evaluation-val-sets.json").read_text())["miou"]
    assert results["experiments"]["VI"]["pooled"]["miou"][1] == pooled
    assert table.count("| | pooled in the scan's sets |") == 2
    monkeypatch.setattr(loop, "train", None)  # a second training would fail
    again = ablation.table2(cache, config, tmp_path, [0, 1])
    assert again == results
    with pytest.raises(HiclError, match="finished with other settings .*optim.lr was 0.2, is 0.1"):
        ablation.table2(
            cache, load("miniature", None, SETTINGS | {"schedule.epochs": 2, "optim.lr": 0.1}), tmp_path, [0]
        )
