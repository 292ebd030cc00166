"""Table 2: the five experiments, each with every seed, and the paper's column beside ours."""

import json
import statistics
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path

from hicl.cache.reader import open_cache
from hicl.config import flat, shown, updated
from hicl.errors import HiclError
from hicl.processes import pool
from hicl.train import checkpoint, stream
from hicl.train.config import EXPERIMENTS, FREE_ON_RESUME, Config
from hicl.train.log import minutes

PAPER_NOTE = "Paper: ScanNet val, CLIP ViT-B/16, Table 2 of HICL (CVPR 2024)."


def table2(
    cache_path: str | Path,
    config: Config,
    out: Path,
    seeds: list[int],
    experiments: tuple[str, ...] = tuple(EXPERIMENTS),
    jobs: int = 1,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> dict:
    """Train and evaluate every experiment with every seed; finished runs are kept, stopped ones continued.

    Args:
        cache_path: a cache with the splits "train" and "val" and true labels for "val".
        config: shared by all runs but for experiment and seed.
        out: gets `runs/<experiment>-seed<n>/`, `table2.json`, `table2.md` and, with matplotlib, `table2.png`.
        jobs: runs at the same time, each in a process of its own.
        say: told of every run that is done.

    Returns:
        What `table2.json` holds: {"experiments": {"I": {"miou": [one per seed, percent], …}, …}, …}.

    Raises:
        HiclError: as `train` and `evaluate`; or a finished run in `out` had other settings.
    """
    out = Path(out)
    cache = open_cache(cache_path)
    cache.scene_ids("val")
    tasks = []
    for seed in seeds:
        for experiment in reversed(experiments):  # the longest first, so that the last one to be waited for is short
            wanted = replace(config, experiment=experiment, seed=seed)
            run = out / "runs" / f"{experiment}-seed{seed}"
            _check_finished(run, wanted, cache)
            tasks.append((cache_path, wanted, run, device, jobs == 1))
    if jobs == 1:
        for task in tasks:
            say(_one(*task))
    else:
        with pool(jobs) as processes:
            futures = [processes.submit(_one, *task) for task in tasks]
            try:
                for future in as_completed(futures):
                    say(future.result())
            finally:
                processes.shutdown(cancel_futures=True)
    results = _collect(out, config, seeds, experiments, cache)
    checkpoint.replace_text(out / "table2.json", json.dumps(results, indent=1) + "\n")
    checkpoint.replace_text(out / "table2.md", markdown(results))
    picture(results, out / "table2.png")
    return results


def _check_finished(run: Path, wanted: Config, cache) -> None:
    if not checkpoint.has_model(run):
        return
    _, meta = checkpoint.load_model(run)
    had = flat(updated(Config(), meta["config"], str(run / "model.json")))
    new = flat(wanted)
    changed = [f"{k} was {shown(had[k])}, is {new[k]!r}" for k in new if k not in FREE_ON_RESUME and had[k] != new[k]]
    if meta.get("text") != cache.fingerprint or meta.get("data") != stream.split_fingerprint(cache, "train"):
        changed.append("the cache is another, or changed")
    if changed:
        raise HiclError(
            f"{run}: finished with other settings ({'; '.join(changed)}); delete it or choose another --out"
        )


def _one(cache_path: str | Path, config: Config, run: Path, device: str, show: bool) -> str:
    # Here and not above: the parent of many jobs trains nothing, and spconv takes seconds to import.
    from hicl.train import distributed, evaluate, inference, loop

    cache = open_cache(cache_path)
    if not checkpoint.has_model(run):
        loop.train(cache_path, config, run, resume=checkpoint.has_state(run), device=device, show=show)
    data = stream.split_fingerprint(cache, "val")
    if not (run / "evaluation-val.json").exists() or checkpoint.load_evaluation(run, "val")["data"] != data:
        model = inference.load(run, distributed.start(device).device)
        evaluate.save(evaluate.evaluate(model, cache), run, cache)
    miou = checkpoint.load_evaluation(run, "val")["miou"]
    return f"{run.name}: mIoU {miou:.2f}, {minutes(run):.1f} minutes of training"


def _collect(out: Path, config: Config, seeds: list[int], experiments: tuple[str, ...], cache) -> dict:
    table = {}
    for experiment in experiments:
        runs = [out / "runs" / f"{experiment}-seed{seed}" for seed in seeds]
        scores = [checkpoint.load_evaluation(run, "val") for run in runs]
        about = EXPERIMENTS[experiment]
        table[experiment] = {
            "title": about.title,
            "miou": [score["miou"] for score in scores],
            "mean": statistics.mean(score["miou"] for score in scores),
            "spread": statistics.stdev(score["miou"] for score in scores) if len(scores) > 1 else None,
            "accuracy": [score["accuracy"] for score in scores],
            "iou": [score["iou"] for score in scores],
            "minutes": [minutes(run) for run in runs],
            "paper": about.paper,
        }
    return {
        "experiments": table,
        "seeds": seeds,
        "dataset": cache.dataset,
        "protocol": scores[0]["protocol"],
        "preset": config.preset,
        "config": {k: v for k, v in asdict(config).items() if k not in ("experiment", "seed")},
    }


def markdown(results: dict) -> str:
    """Table 2 as Markdown: the paper's column, ours, and each step's gain over the one before."""
    n = len(results["seeds"])
    what = f"mean of {n} seeds ± standard deviation" if n > 1 else f"seed {results['seeds'][0]}"
    lines = [
        f"Ours: {results['dataset']}, preset `{results['preset']}`, {what}; mIoU in percent. {PAPER_NOTE}",
        "",
        "| experiment | | paper | step | ours | step | training, minutes |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    before = None
    for name, row in results["experiments"].items():
        spread = "" if row["spread"] is None else f" ± {row['spread']:.2f}"
        gains = [f"{row[k] - before[k]:+.1f}" if before else "" for k in ("paper", "mean")]
        lines.append(
            f"| {name} | {row['title']} | {row['paper']:.1f} | {gains[0]} | {row['mean']:.2f}{spread} | {gains[1]} |"
            f" {statistics.mean(row['minutes']):.1f} |"
        )
        before = row
    return "\n".join([*lines, "", f"Protocol: {results['protocol']}.", ""])


def picture(results: dict, path: Path) -> bool:
    """The table as a picture; False where matplotlib is missing."""
    try:
        from hicl.train.figures import pyplot

        plt = pyplot()
    except HiclError:
        return False
    rows = results["experiments"]
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(list(rows), [row["paper"] for row in rows.values()], "o--", color="0.5", label="paper, ScanNet")
    axes.errorbar(
        list(rows),
        [row["mean"] for row in rows.values()],
        [row["spread"] or 0 for row in rows.values()],
        fmt="o-",
        capsize=3,
        label=f"ours, {results['dataset']}",
    )
    for name, row in rows.items():
        axes.plot([name] * len(row["miou"]), row["miou"], ".", color="C0", alpha=0.4)
    axes.set(xlabel="experiment", ylabel="mIoU, %")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True
