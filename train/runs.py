"""The runs of a table: trained and scored some at a time; finished ones are kept, stopped ones continued."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.config import flat, shown
from hicl.errors import HiclError
from hicl.processes import pool
from hicl.progress import Progress
from hicl.train import order, run_folder
from hicl.train.config import FREE_ON_RESUME, OBJECTIVES, Config, stored
from hicl.train.log import read_log

_LOOK_S = 2.0


@dataclass(frozen=True)
class Task:
    """A run to train, and what a process needs for it. show: how far it is, on stderr."""

    cache: str | Path
    config: Config
    run: Path
    device: str
    show: bool


def settings_of(config: Config, name: str, seed: int) -> Config:
    """Of the run that is called by this name: an objective's, or an experiment's."""
    if name in OBJECTIVES:
        return replace(config, objective=name, seed=seed)
    return replace(config, objective="hicl", experiment=name, seed=seed)


def tasks_of(
    cache: str | Path, config: Config, names: Sequence[str], seeds: list[int], out: Path, device: str, jobs: int
) -> list[Task]:
    """Of each run by its name and seed, the last names first: those take longest, and the last one that is waited for
    should be short. Raises `HiclError` as `assert_same`."""
    every = [settings_of(config, name, seed) for seed in seeds for name in reversed(names)]
    found = [Task(cache, own, out / "runs" / f"{own.name}-seed{own.seed}", device, jobs == 1) for own in every]
    for task in found:
        assert_same(task)
    return found


def n_steps(cache: CacheReader, config: Config) -> int:
    """Steps of a run."""
    schedule = config.schedule
    return len(order.plan(len(cache.scene_ids("train")), schedule.batch, config.seed, schedule.epochs, 0, 1))


def train(task: Task) -> None:
    """Train, or continue, the run of a task; nothing where it is finished."""
    # Here and not above: the parent of many jobs trains nothing, and spconv takes seconds to import.
    from hicl.train import loop

    if not run_folder.has_model(task.run):
        resume = run_folder.has_state(task.run)
        loop.train(task.cache, task.config, task.run, resume=resume, device=task.device, show=task.show)
    run_folder.drop_state(task.run)  # of one that was killed when it had just written its model


def each_done(
    title: str, tasks: Sequence[Task], work: Callable[[Task], str], jobs: int, steps: int
) -> Iterator[tuple[Path, str]]:
    """(folder, what `work` says) of each run as it ends, `jobs` at a time in processes of their own. steps: of each.

    Raises `HiclError` where such a process is killed.
    """
    runs = [task.run for task in tasks]
    if jobs == 1:
        for task in tasks:
            yield task.run, work(task)
        return
    with pool(jobs) as processes, Progress(title, steps * len(runs), "step") as bar:
        pending = {processes.submit(work, task): task.run for task in tasks}
        try:
            while pending:
                for future in wait(pending, _LOOK_S, FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
                at = {run: min(_last_step(run), steps) for run in runs}
                bar.note = ", ".join(f"{run.name} {100 * at[run] // steps} %" for run in runs if 0 < at[run] < steps)
                bar.update(sum(at.values()) - bar.done)
        except BrokenExecutor:
            raise HiclError(
                f"{title}: a run was killed, likely for memory; use fewer --jobs (now {jobs}). The same command keeps"
                " what is finished and continues the rest"
            ) from None
        finally:
            processes.shutdown(cancel_futures=True)


def _last_step(run: Path) -> int:
    """How far a run's log says it is; 0 where there is none."""
    try:
        return int(read_log(run)[-1]["step"])
    except (HiclError, IndexError):
        return 0


def assert_same(task: Task) -> None:
    """Raise `HiclError` where a task's run is finished with other settings, or on another cache."""
    if not run_folder.has_model(task.run):
        return
    cache = open_cache(task.cache)
    meta = run_folder.model_meta(task.run)
    had = flat(stored(Config(), meta["config"], str(task.run / "model.json")))
    new = flat(task.config)
    changed = [f"{k} was {shown(had[k])}, is {new[k]!r}" for k in new if k not in FREE_ON_RESUME and had[k] != new[k]]
    if meta.get("text") != cache.fingerprint or meta.get("data") != cache.split_fingerprint("train"):
        changed.append("the cache is another, or changed")
    if changed:
        raise HiclError(
            f"{task.run}: finished with other settings ({'; '.join(changed)}); delete it or choose another --out"
        )


def papers(dataset: str) -> str:
    """The data set of the paper that a cache's is to be compared with."""
    return "nuScenes" if dataset == "nuscenes" else "ScanNet"


def over_seeds(values: list[float]) -> dict:
    """mean and spread (standard deviation, from two on) of a number that each seed has."""
    return {
        "mean": statistics.mean(values) if values else None,
        "spread": statistics.stdev(values) if len(values) > 1 else None,
    }


def of_seeds(seeds: list[int]) -> str:
    """What a number of `with_spread` is."""
    return f"mean of {len(seeds)} seeds ± standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"


def with_spread(row: dict) -> str:
    """A row of `over_seeds`, to be read."""
    return f"{row['mean']:.2f}" + ("" if row["spread"] is None else f" ± {row['spread']:.2f}")
