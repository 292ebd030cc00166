"""Table 1: the methods side by side, on one cache, with one network and as many steps, and the paper's column."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hicl import metrics
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.errors import HiclError
from hicl.files import locked
from hicl.read import read_json
from hicl.train import run_folder, runs, stream
from hicl.train.config import Config
from hicl.train.log import minutes
from hicl.train.objectives import kind
from hicl.train.rivals import ALONE, LABELS, ROWS, STUDENT, answer, seen_points
from hicl.train.runs import of_seeds, over_seeds, papers, settings_of, with_spread

if TYPE_CHECKING:  # which brings spconv along
    from hicl.train.inference import Model

PARTS = "seen", "all"  # of the points: those that an image shows, and all
_SCORES = "table1-scores.json"
_SCENES_TO_WEIGH = 64  # whose bytes are counted


def table1(
    cache_path: str | Path,
    config: Config,
    out: Path,
    seeds: list[int],
    rows: tuple[str, ...] | None = None,
    jobs: int = 1,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    student: Path | None = None,
) -> dict:
    """Train and score every method with every seed; finished runs are kept, stopped ones continued.

    Args:
        cache_path: a cache with the splits "train" and "val" and true labels for "val".
        config: shared by all runs but for objective, experiment and seed.
        out: gets `runs/<name>-seed<n>/`, which `hicl table2` shares, `table1.json` and `table1.md`; they grow with each
            run that ends.
        rows: of `ROWS`; None: all that the cache is enough for. jobs: runs at the same time.
        say: told of every run that is done.
        student: what `hicl student` wrote, which MaskCLIP+ is scored by.

    Returns:
        What `table1.json` holds: {"rows": {"maskclip": {"seen": {"miou": [one a seed, percent], …}, "all": …, …}}, …}.

    Raises:
        HiclError: as `train` and `evaluate`; the cache isn't enough for one of `rows`; a finished run in `out` had
            other settings; another process writes there.
    """
    out, cache = Path(out), open_cache(cache_path)
    _assert_scored(cache)
    absent = _absent(cache, config, student)
    for row in rows or ():
        if row in absent:
            raise HiclError(f"--row {row}: {absent[row]}")
    rows = tuple(row for row in ROWS if row in (rows or ROWS) and row not in absent)
    names = [name for name in dict.fromkeys(ROWS[row].run for row in rows) if name not in ALONE]
    tasks = runs.tasks_of(cache_path, config, names, seeds, out, device, jobs)
    with locked(out):
        if any(ROWS[row].run == LABELS for row in rows) and not _is_scored(out / LABELS, cache, LABELS):
            _save(out / LABELS, _score(cache, LABELS))
        if any(ROWS[row].run == STUDENT for row in rows):
            _save(out / STUDENT, _score_student(student, cache))
        results = _collect(out, cache, config, seeds, rows, absent)
        for _, line in runs.each_done("table 1", tasks, _one, jobs, runs.n_steps(cache, config)):
            say(line)
            results = _collect(out, cache, config, seeds, rows, absent)
            _write(out, results)
        _write(out, results)
    return results


def _write(out: Path, results: dict) -> None:
    run_folder.replace_text(out / "table1.json", json.dumps(results, indent=1) + "\n")
    run_folder.replace_text(out / "table1.md", markdown(results))


def _absent(cache: CacheReader, config: Config, student: Path | None) -> dict[str, str]:
    """The rows that can't be made, and why."""
    scene, why = cache.scene(cache.scene_ids("train")[0]), {}
    for name, row in ROWS.items():
        if row.indoors and papers(cache.dataset) == "nuScenes":
            why[name] = "what it needs is made of frames of rooms alone"
        elif row.run == STUDENT and student is None:
            why[name] = "needs what `hicl student` wrote: --student DIR"
        elif row.run not in ALONE:
            wanted = settings_of(config, row.run, 0)
            try:
                kind(wanted).needs(wanted).assert_met(scene)
            except HiclError as error:
                why[name] = str(error)
    return why


def _assert_scored(cache: CacheReader) -> None:
    cache.scene_ids("val")
    if cache.truth_classes and tuple(cache.truth_classes) != tuple(cache.classes):
        raise HiclError(f"{cache.path}: its true labels are of other classes, so there is nothing to score against")


def _one(task: runs.Task) -> str:
    from hicl.train import distributed, inference

    runs.train(task)
    cache, name = open_cache(task.cache), task.config.name
    if not _is_scored(task.run, cache, name):
        model = inference.load(task.run, distributed.start(task.device).device)
        scores, read = _score(cache, name, model), _bytes_a_scene(task)
        for found in scores["rows"].values():
            found["bytes"] = read
        parameters = sum(p.numel() for p in model.net.parameters())
        _save(task.run, scores | {"minutes": minutes(task.run), "parameters": parameters})
    own = next(row for row in ROWS.values() if row.run == name)
    found = _load(task.run)["rows"][own.answer]
    return f"{task.run.name}: mIoU {found['all']['miou']:.2f}, {minutes(task.run):.1f} minutes of training"


def _bytes_a_scene(task: runs.Task) -> float:
    """What an epoch of a run reads of the cache, a scene."""
    cache, config = open_cache(task.cache), task.config
    source = stream.make_source(cache, kind(config).needs(config), config.heads, config.seed, config.reading)
    numbers = range(min(len(source.scenes), _SCENES_TO_WEIGH))
    for number in numbers:
        stream.make_batch(cache, source, 0, [number])
    return cache.bytes_read / len(numbers)


def _score(cache: CacheReader, name: str, model: "Model | None" = None) -> dict:
    """How each row that a run answers scores in percent, of seen points alone and of all, by the name of its answer;
    and, as "bytes", what an answer reads of the cache, a scene."""
    answers = dict.fromkeys(row.answer for row in ROWS.values() if row.run == name)
    n, n_scenes = len(cache.classes), 0
    counted = {(how, part): np.zeros((n, n + 1), np.int64) for how in answers for part in PARTS}
    read = dict.fromkeys(answers, 0)
    for scene_id in cache.scene_ids("val"):
        scene = cache.scene(scene_id)
        if not scene.has("points/label"):
            continue
        truth, seen = scene.read("points/label"), seen_points(scene)
        own = scene.read("points/sweep") == 0 if scene.has("points/sweep") else np.ones(len(truth), bool)
        for how in answers:
            before = cache.bytes_read
            label = answer(how, scene, cache.text, model)
            read[how] += cache.bytes_read - before
            for part, points in zip(PARTS, (own & seen, own), strict=True):
                counted[how, part] += metrics.confusion(truth[points], label[points], n)
        n_scenes += 1
    if not any(matrix.any() for matrix in counted.values()):
        raise HiclError(f"{cache.path}: no scene of split 'val' has true labels, so there is no mIoU")
    lidarseg = cache.dataset == "nuscenes"
    return {
        "data": cache.split_fingerprint("val"),
        "rows": {
            how: {part: metrics.scores(counted[how, part], lidarseg) for part in PARTS}
            | {"bytes": read[how] / n_scenes}
            for how in answers
        },
    }


def _save(folder: Path, scores: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.replace_text(folder / _SCORES, json.dumps(scores, indent=1) + "\n")


def _load(folder: Path) -> dict:
    found = read_json(folder / _SCORES)
    if not isinstance(found, dict) or not {"data", "rows"} <= set(found) or not isinstance(found["rows"], dict):
        raise HiclError(f"{folder / _SCORES}: not what `hicl table1` writes; delete it and run it again")
    return found


def _is_scored(folder: Path, cache: CacheReader, name: str) -> bool:
    """Whether a run is finished and all its rows are scored, on this very data; the 2D network's has its own."""
    try:
        found = _load(folder)
    except FileNotFoundError:
        return False
    if name == STUDENT:
        return True
    answers = {row.answer for row in ROWS.values() if row.run == name}
    same = found["data"] == cache.split_fingerprint("val") and answers <= set(found["rows"])
    return same and (name == LABELS or run_folder.has_model(folder))


def _score_student(folder: Path | None, cache: CacheReader) -> dict:
    """Of MaskCLIP+, by the labels that `hicl student` carried into a cache of its own."""
    assert folder is not None
    path, labelled = folder / "student.json", open_cache(folder / "cache")
    about = read_json(path)
    if not isinstance(about, dict) or not all(isinstance(about.get(k), int | float) for k in ("minutes", "parameters")):
        raise HiclError(f"{path}: not what `hicl student` writes; run it again")
    if (labelled.classes, labelled.scene_ids("val")) != (cache.classes, cache.scene_ids("val")):
        raise HiclError(f"{folder}: of other scenes or classes than {cache.path}; run `hicl student` on that one")
    return _score(labelled, STUDENT) | about


def _collect(
    out: Path,
    cache: CacheReader,
    config: Config,
    seeds: list[int],
    names: tuple[str, ...],
    absent: dict[str, str],
) -> dict:
    table, missing = {}, []
    for name in names:
        row = ROWS[name]
        folders = [out / row.run] if row.run in ALONE else [out / "runs" / f"{row.run}-seed{seed}" for seed in seeds]
        ended = [folder for folder in folders if _is_scored(folder, cache, row.run)]
        missing += [f"{name} of {folder.name}" for folder in folders if folder not in ended]
        found = [_load(folder) for folder in ended]
        table[name] = {
            "title": row.title,
            "paper": row.paper_nuscenes if papers(cache.dataset) == "nuScenes" else row.paper,
            "cited": row.cited,
            "differs": row.differs,
            "saw": row.saw,
            "minutes": [scores["minutes"] for scores in found if "minutes" in scores],
            "parameters": found[0].get("parameters", 0) if found else 0,
            "bytes": found[0]["rows"][row.answer]["bytes"] if found else None,
        }
        for part in PARTS:
            miou = [scores["rows"][row.answer][part]["miou"] for scores in found]
            table[name][part] = {"miou": miou} | over_seeds(miou)
    return {
        "rows": table,
        "absent": {ROWS[name].title: why for name, why in absent.items()},
        "seeds": seeds,
        "dataset": cache.dataset,
        "preset": config.preset,
        "steps": runs.n_steps(cache, config),
        "network": f"{config.model.network}, voxels of {config.stream.voxel_size} m",
    } | ({"missing": missing} if missing else {})


def markdown(results: dict) -> str:
    """Table 1 as Markdown: the paper's column beside ours, and below it what each row is."""
    what, data = of_seeds(results["seeds"]), papers(results["dataset"])
    lines = [
        f"Ours: {results['dataset']}, preset `{results['preset']}`, {what}; mIoU in percent, of the points that an"
        f" image shows and of all. One cache, one network ({results['network']}), {results['steps']} steps where there"
        f" is training. Paper: {data} val. Read: of the cache, packed, a scene and epoch; parameters: at inference.",
        "",
        "| method | paper | seen | all | training, minutes | parameters, M | read, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    if "missing" in results:
        lines.insert(0, f"Not all runs have ended; missing: {', '.join(results['missing'])}.\n")
    notes = []
    for row in results["rows"].values():
        paper = "" if row["paper"] is None else f"{row['paper']:.1f}"
        said = [
            f"the paper's figure: {row['cited']}" * bool(row["cited"]),
            f"otherwise than published: {row['differs']}" * bool(row["differs"]),
            f"its teacher has seen {row['saw']}" * bool(row["saw"]),
        ]
        if any(said):
            notes.append(f"- {row['title']}: {'; '.join(filter(None, said))}.")
        if row["all"]["mean"] is None:
            lines.append(f"| {row['title']} | {paper} | missing | | | | |")
            continue
        time = f"{np.mean(row['minutes']):.1f}" if row["minutes"] else ""
        size = f"{row['parameters'] / 1e6:.2f}" if row["parameters"] else ""
        cells = [with_spread(row["seen"]), with_spread(row["all"]), time, size, f"{row['bytes'] / 1e6:.2f}"]
        lines.append(f"| {row['title']} | {paper} | {' | '.join(cells)} |")
    notes += _ensemble(results["rows"])
    notes += [f"- {title} has no row: {why}." for title, why in results["absent"].items()]
    return "\n".join([*lines, "", *notes, ""])


def _ensemble(rows: dict[str, dict]) -> list[str]:
    """Whether OpenScene's ensemble is better than both of its parts, as it should be: a note, where there are all."""
    names = "openscene-both", "openscene-fused", "openscene"
    if not all(name in rows and rows[name]["seen"]["mean"] is not None for name in names):
        return []
    both, *parts = (rows[name]["seen"]["mean"] for name in names)
    said = f"{both:.2f} against {parts[0]:.2f} of images and {parts[1]:.2f} of the network, of seen points"
    if both > max(parts):
        return [f"- OpenScene's ensemble is better than both of its parts: {said}."]
    return [
        f"- OpenScene's ensemble is not better than both of its parts: {said}. A point takes the part with the larger"
        " cosine, and the cosines of the two are of different size."
    ]
