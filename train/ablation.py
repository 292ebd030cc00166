"""Table 2: the experiments, each with every seed, and the paper's column beside ours."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hicl import metrics
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.errors import HiclError
from hicl.files import locked
from hicl.train import run_folder, runs
from hicl.train.answers import Ensemble, Pool, name_of
from hicl.train.config import EXPERIMENTS, Config
from hicl.train.log import minutes
from hicl.train.runs import of_seeds, over_seeds, papers, with_spread

_POINTS_OF_A_CURVE = 5
# How the last experiments are read as well: pooled in sets, and with the images of the scored scenes.
FURTHER: dict[str, tuple[Pool, Ensemble]] = {"pooled": ("sets", "none"), "ensemble": ("sets", "product")}
READ_FURTHER = ("V", "VI")
_TITLES = {
    "pooled": "pooled in the scan's sets",
    "ensemble": "pooled, with the labels of the scored scans' images, which the rows above don't have",
}
PAPER_NOTES = {
    "ScanNet": "Paper: ScanNet val, CLIP ViT-B/16, Table 2 of HICL (CVPR 2024).",
    "nuScenes": "Paper: nuScenes val, CLIP ViT-B/16, Table 1 of HICL (CVPR 2024), which has no ablation there.",
}


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
        out: gets `runs/<experiment>-seed<n>/`, `table2.json`, `table2.md` and, with matplotlib, `table2.png`; they grow
            with each run that ends.
        jobs: runs at the same time, each in a process of its own.
        say: told of every run that is done.

    Returns:
        What `table2.json` holds: {"experiments": {"I": {"miou": [one per seed, percent], …}, …}, …}. While runs are
        missing, "missing" names them. "labels_alone": see there.

    Raises:
        HiclError: as `train` and `evaluate`; a finished run in `out` had other settings; another process writes there.
    """
    out = Path(out)
    if not config.schedule.evaluate_every:  # so that Fig. 6 can be drawn of a finished table
        every = max(1, config.schedule.epochs // _POINTS_OF_A_CURVE)
        config = replace(config, schedule=replace(config.schedule, evaluate_every=every))
    cache = open_cache(cache_path)
    cache.scene_ids("val")
    tasks = runs.tasks_of(cache_path, config, experiments, seeds, out, device, jobs)
    data = cache.split_fingerprint("val")
    done = {task.run for task in tasks if _evaluated(task.run, data, task.config.experiment)}
    alone = labels_alone(cache)
    with locked(out):
        for run, line in runs.each_done("table 2", tasks, _one, jobs, runs.n_steps(cache, config)):
            say(line)
            done.add(run)
            results = _collect(out, config, seeds, experiments, cache, done) | {"labels_alone": alone}
            run_folder.replace_text(out / "table2.json", json.dumps(results, indent=1) + "\n")
            run_folder.replace_text(out / "table2.md", markdown(results))
            picture(results, out / "table2.png")
    return results


def labels_alone(cache: CacheReader, split: str = "val") -> dict | None:
    """Scores, in percent, of a split's spread labels: what its images and sets say without any network.

    Returns accuracy, miou and iou (one a class); None where there are no spread labels or no truth in these classes.
    A network must do better to be worth its training, though it sees the scored rooms' surfaces only, no image.
    """
    n_classes = len(cache.classes)
    matrix = np.zeros((n_classes, n_classes + 1), np.int64)
    if cache.truth_classes and tuple(cache.truth_classes) != tuple(cache.classes):
        return None
    for name in cache.scene_ids(split):
        scene = cache.scene(name)
        if not scene.has("points/label"):
            continue
        if not scene.has("points/spread"):
            return None
        matrix += metrics.confusion(scene.read("points/label"), scene.read("points/spread"), n_classes)
    return metrics.scores(matrix) if matrix.any() else None


def _one(task: runs.Task) -> str:
    from hicl.train import distributed, evaluate, inference

    runs.train(task)
    cache, run, experiment = open_cache(task.cache), task.run, task.config.experiment
    if not _evaluated(run, cache.split_fingerprint("val"), experiment):
        model = inference.load(run, distributed.start(task.device).device)
        for ways in _readings(experiment).values():
            evaluate.save(evaluate.evaluate(model, cache, "val", False, *ways), run, cache)
    return (
        f"{run.name}: mIoU {run_folder.load_evaluation(run, 'val')['miou']:.2f}, {minutes(run):.1f} minutes of training"
    )


def _readings(experiment: str) -> dict[str, tuple[Pool, Ensemble]]:
    """How an experiment's network is read: "own" by the paper's protocol."""
    own: dict[str, tuple[Pool, Ensemble]] = {"own": ("none", "none")}
    return own | FURTHER if experiment in READ_FURTHER else own


def _scores(run: Path, ways: tuple[Pool, Ensemble]) -> dict:
    return run_folder.load_evaluation(run, name_of("val", *ways))


def _evaluated(run: Path, data: str, experiment: str) -> bool:
    """Whether a run is finished, and scored on this very data."""
    try:
        return run_folder.has_model(run) and all(
            _scores(run, ways)["data"] == data for ways in _readings(experiment).values()
        )
    except FileNotFoundError:
        return False


def _collect(
    out: Path, config: Config, seeds: list[int], experiments: tuple[str, ...], cache: CacheReader, done: set[Path]
) -> dict:
    table, missing, protocols = {}, [], []
    for experiment in experiments:
        every = [out / "runs" / f"{experiment}-seed{seed}" for seed in seeds]
        missing += [run.name for run in every if run not in done]
        ended = [run for run in every if run in done]
        readings = {name: [_scores(run, ways) for run in ended] for name, ways in _readings(experiment).items()}
        scores = readings.pop("own")
        protocols += [score["protocol"] for score in scores]
        about = EXPERIMENTS[experiment]
        table[experiment] = {
            "title": about.title,
            **_mean(scores),
            "accuracy": [score["accuracy"] for score in scores],
            "iou": [score["iou"] for score in scores],
            "minutes": [minutes(run) for run in ended],
            "paper": about.paper_nuscenes if papers(cache.dataset) == "nuScenes" else about.paper,
        } | {name: _mean(found) for name, found in readings.items()}
    return {
        "experiments": table,
        "seeds": seeds,
        "dataset": cache.dataset,
        "protocol": protocols[-1],
        "preset": config.preset,
        "config": {k: v for k, v in asdict(config).items() if k not in ("experiment", "seed")},
    } | ({"missing": missing} if missing else {})


def _mean(scores: list[dict]) -> dict:
    found = [score["miou"] for score in scores]
    return {"miou": found} | over_seeds(found)


def markdown(results: dict) -> str:
    """Table 2 as Markdown: the paper's column, ours, and each step's gain over the one before."""
    what = of_seeds(results["seeds"])
    lines = [
        f"Ours: {results['dataset']}, preset `{results['preset']}`, {what}; mIoU in percent."
        f" {PAPER_NOTES[papers(results['dataset'])]}",
        "",
        "| experiment | | paper | step | ours | step | training, minutes |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    if "missing" in results:
        lines.insert(0, f"Not all runs have ended; missing: {', '.join(results['missing'])}.\n")
    before = None
    for name, row in results["experiments"].items():
        paper = "" if row["paper"] is None else f"{row['paper']:.1f}"
        if row["mean"] is None:
            lines.append(f"| {name} | {row['title']} | {paper} | | missing | | |")
            before = None
            continue
        gains = [_gain(row, before, key) for key in ("paper", "mean")]
        lines.append(
            f"| {name} | {row['title']} | {paper} | {gains[0]} | {with_spread(row)} | {gains[1]} |"
            f" {statistics.mean(row['minutes']):.1f} |"
        )
        lines += [
            f"| | {_TITLES[way]} | | | {with_spread(row[way])} | {row[way]['mean'] - row['mean']:+.1f} | |"
            for way in FURTHER
            if way in row
        ]
        before = row
    lines += ["", f"Protocol: {results['protocol']}."]
    if alone := results.get("labels_alone"):
        lines.insert(len(lines) - 2, f"| | labels alone, no network | | | {alone['miou']:.2f} | | |")
        lines.append(
            "Labels alone: every vertex has the voted label of its set. They come from images of the scored rooms, of "
            "which the networks see the surface only."
        )
    return "\n".join([*lines, ""])


def _gain(row: dict, before: dict | None, key: str) -> str:
    return "" if before is None or row[key] is None or before[key] is None else f"{row[key] - before[key]:+.1f}"


def picture(results: dict, path: Path) -> bool:
    """The table as a picture; False where matplotlib is missing."""
    try:
        from hicl.train.figures import pyplot, save

        plt = pyplot()
    except HiclError:
        return False
    rows = {name: row for name, row in results["experiments"].items() if row["mean"] is not None}
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    paper = {name: row["paper"] for name, row in rows.items() if row["paper"] is not None}
    axes.plot(list(paper), list(paper.values()), "o--", color="0.5", label=f"paper, {papers(results['dataset'])}")
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
    if "missing" in results:
        axes.set_title(f"{len(results['missing'])} runs are missing")
    axes.legend()
    save(plt, figure, path)
    return True
