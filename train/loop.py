"""The training loop: scenes in, one 3D network out.

Epochs 1 to 10 of 120 train the network on the pairs' labels (Eq. 1); from 11 on the correlation heads join with their
own cross-entropy (Eq. 4); after 20 the network also learns from what the heads made of its features (Eq. 8).
"""

import contextlib
import dataclasses
import time
from pathlib import Path

import torch

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.config import flat, shown, to_toml
from hicl.errors import HiclError
from hicl.files import locked, part_of
from hicl.train import checkpoint, distributed, evaluate, inference, order, run_folder, stream
from hicl.train.config import FREE_ON_RESUME, Config, check, stored
from hicl.train.distributed import Group
from hicl.train.learner import Learner
from hicl.train.log import Log
from hicl.train.objectives import kind


def train(
    cache_path: str | Path, config: Config, out: Path, resume: bool = False, device: str = "auto", show: bool = True
) -> Path:
    """Train one network; returns the run's folder `out` with `model.safetensors`, `model.json` and `log.csv`.

    Args:
        cache_path: a cache with scenes in its split "train".
        config: from `hicl.train.config.load`.
        out: a new folder, or with `resume` that of a run that was stopped.
        device: "auto", "cpu" or "cuda"; under torchrun each process takes its own GPU.
        show: how far it is, on stderr.

    Raises:
        HiclError: everything a user can mend; nothing that was there before is overwritten.
    """
    config, out = check(config), Path(out)
    cache = open_cache(cache_path)
    group = distributed.start(device)
    if config.threads and group.device.type == "cpu":
        torch.set_num_threads(config.threads)
    source = stream.make_source(cache, kind(config).needs(config), config.heads, config.seed, config.reading)
    epochs = config.schedule.epochs
    steps = order.plan(len(source.scenes), config.schedule.batch, config.seed, epochs, group.rank, group.world)
    identity = {
        "classes": list(cache.classes),
        "width": int(cache.text.shape[1]),
        "text": cache.fingerprint,
        "data": cache.split_fingerprint("train"),
    }
    with locked(out) if group.leads else contextlib.nullcontext():
        _train(cache, config, out, resume, show, group, source, steps, identity)
        group.wait()
    return out


def _train(
    cache: CacheReader,
    config: Config,
    out: Path,
    resume: bool,
    show: bool,
    group: Group,
    source: stream.Source,
    steps: list[tuple[int, list[int]]],
    identity: dict,
) -> None:
    epochs = config.schedule.epochs
    tensors, state = _open_run(out, config, identity, resume, group)
    learner = Learner(config, torch.from_numpy(cache.text.copy()), group)
    if state:
        learner.restore(tensors, out / state["tensors"])
    first, per_epoch = state.get("step", 0), len(steps) // epochs
    if first > len(steps):
        raise HiclError(f"{out / 'state.json'}: step {first} of {len(steps)}; start anew with another --out")
    if len(steps[0][1]) * group.world == 1 and "inter" in learner.objective.heads and group.leads:
        print("note: a batch of one scene: inter-scene correlation sees no other scene")

    batches = stream.batches(source, steps, first, pin=group.device.type == "cuda")
    with Log(out, config.name, len(steps), first, state.get("log"), group.leads, show) as log:
        for step in range(first + 1, len(steps) + 1):
            asked = time.perf_counter()
            batch = next(batches)
            got = time.perf_counter()
            rates = learner.set_rates(batch.epoch)
            losses = learner.step(batch)
            busy = time.perf_counter() - got
            log.step(step, losses, rates, batch.points * group.world, got - asked, busy)
            if step % per_epoch == 0:
                epoch = batch.epoch + 1
                wanted = config.schedule.evaluate_every and epoch % config.schedule.evaluate_every == 0
                log.epoch(epoch, step, rates, _validate(learner, cache) if wanted else None)
            if step % config.optim.save_every == 0 and step < len(steps):
                _save(learner, out, step, config, identity, log)
    if group.leads:
        learner.assert_finite()
        meta = {
            "dataset": cache.dataset,
            "teacher": cache.teacher,
            "experiment": config.name,
            "config": dataclasses.asdict(config),
        }
        checkpoint.save_model(out, learner.modules["net"], learner.text, meta | identity | {"step": len(steps)})
        run_folder.drop_state(out)


def _save(learner: Learner, out: Path, step: int, config: Config, identity: dict, log: Log) -> None:
    if learner.group.leads:
        learner.assert_finite()
        meta = {"config": dataclasses.asdict(config), "identity": identity, "log": log.state()}
        checkpoint.save_state(out, step, learner.tensors(), meta)


def _validate(learner: Learner, cache: CacheReader) -> float:
    """mIoU in 0..1 on the validation scenes, whose true labels nothing else here reads."""
    miou = 0.0
    if learner.group.leads:
        meta = {"classes": list(cache.classes)}
        net = learner.net.eval()
        model = inference.Model(net, learner.text, meta, learner.config.reading)
        miou = evaluate.evaluate(model, cache).miou
        net.train()
    learner.group.wait()
    return miou


def _open_run(out: Path, config: Config, identity: dict, resume: bool, group: Group) -> tuple[dict, dict]:
    """(tensors, meta) of the state to continue from, both empty for a new run, whose folder is made here."""
    if run_folder.has_model(out):
        run_folder.drop_state(out)  # of a run that was killed when it had just written its model
        raise HiclError(f"{out}: holds a finished run; choose another --out")
    begun = run_folder.has_state(out)
    if begun and not resume:
        raise HiclError(f"{out}: holds an unfinished run; continue it with --resume, or choose another --out")
    if resume and not begun and not (out / "config.toml").exists():
        raise HiclError(f"{out}: nothing to resume here; start without --resume")
    # What a run writes first; it may have been killed at it.
    there, settings = set(out.glob("*")), out / "config.toml"
    strangers = there - {part_of(settings)}
    if strangers and settings not in there and not begun:
        raise HiclError(f"{out}: holds {min(strangers).name} and no run; choose another --out")
    tensors: dict[str, torch.Tensor] = {}
    state: dict = {}
    if begun:
        tensors, state = checkpoint.load_state(out)
        _same_run(out, state, config, identity)
    if group.leads:
        run_folder.replace_text(out / "config.toml", to_toml(config))
    group.wait()
    return tensors, state


def _same_run(out: Path, state: dict, config: Config, identity: dict) -> None:
    was, now = state["identity"], identity
    reasons = {
        "classes": "the cache's class list is another",
        "width": f"the cache's teacher has width {now['width']}, the run's {was['width']}",
        "text": "the cache's text embedding is another",
        "data": "the cache's training scenes changed",
    }
    for key, reason in reasons.items():
        if was[key] != now[key]:
            raise HiclError(f"{out}: can't be resumed: {reason} since it began; start anew with another --out")
    old, new = flat(stored(config, state["config"], str(out / "state.json"))), flat(config)
    changed = [f"{k} was {shown(old[k])}, is {new[k]!r}" for k in new if k not in FREE_ON_RESUME and old[k] != new[k]]
    if changed:
        raise HiclError(f"{out}: can't be resumed with other settings: {'; '.join(changed)}")
