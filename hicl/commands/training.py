"""The trainer's commands: `hicl train`, `evaluate`, `table2`. Nothing heavy is imported until they run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hicl.commands.options import Cache, Device, Ensemble, Model, Pool, chosen, pooling
from hicl.errors import HiclError
from hicl.train.config import OBJECTIVES

Preset = Annotated[
    str | None,
    typer.Option(
        help="miniature; street, its like for streets; scannet or nuscenes, the paper's. [default: miniature; for a"
        " cache of nuScenes nuscenes, and street for one of the miniature's streets]"
    ),
]
File = Annotated[Path | None, typer.Option("--config", help="TOML file with any of the settings.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs; the phases keep their proportions.")]
Batch = Annotated[int | None, typer.Option(help="Scenes a step, over all processes.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting: key=value, e.g. heads.tokens=512.")
]


def _overrides(settings: list[str] | None, **options: Any) -> dict[str, Any]:
    import tomllib

    values = {key.replace("__", "."): value for key, value in options.items() if value is not None}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals:
            raise HiclError(f"--set {setting}: must be key=value")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()  # a word without quotes
    return values


def _suited(preset: str | None, cache: str) -> str:
    """The preset that was asked for, or else the one that suits a cache."""
    from hicl.cache.opening import open_cache
    from hicl.pipeline.teacher.choice import same_teacher

    if preset is not None:
        return preset
    opened = open_cache(cache)
    if opened.dataset != "nuscenes":
        return "miniature"
    try:
        return "street" if same_teacher(opened.teacher, cache).clip.startswith("hicl-") else "nuscenes"
    except HiclError:  # a teacher from files, or none
        return "nuscenes"


def train(
    cache: Cache,
    exp: Annotated[str | None, typer.Option(help="I, II, III, IV or V of Table 2, or VI, ours.")] = None,
    objective: Annotated[
        str | None, typer.Option(help=f"{', '.join(OBJECTIVES)}. [default: hicl, the experiments of Table 2]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The run's folder. [default: work/<exp or objective>-seed<seed>]")
    ] = None,
    preset: Preset = None,
    config: File = None,
    epochs: Epochs = None,
    batch: Batch = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Train a network from a cache, by an experiment of Table 2 or another objective.

    Many GPUs by `torchrun --nproc-per-node N -m hicl train …`.
    """
    from hicl.train import config as configs

    if resume and out is None:
        raise HiclError("--resume needs the run's folder: --out")
    if exp is None and objective in (None, "hicl") and not resume and config is None:
        raise HiclError("which experiment? give --exp I, II, III, IV, V or VI, or another --objective")
    if exp is not None and objective not in (None, "hicl"):
        raise HiclError(f"--exp {exp}: the experiments are those of --objective hicl; leave one of the two out")
    if out is not None and resume and config is None and (out / "config.toml").exists():
        config = out / "config.toml"
    options = _overrides(
        settings,
        experiment=exp and exp.upper(),
        objective=objective,
        seed=seed,
        preset=preset,
        schedule__epochs=epochs,
        schedule__batch=batch,
    )
    if config is not None:
        options.pop("preset", None)
    settled = configs.load(_suited(preset, cache), config, options)
    out = out or Path("work") / f"{settled.name}-seed{settled.seed}"

    from hicl.commands import following
    from hicl.train import distributed, loop

    try:
        loop.train(cache, settled, out, resume, device)
        leads = distributed.start(device).leads
    finally:
        distributed.stop()
    if leads:
        typer.echo(f"{out / 'model.safetensors'}: {settled.name}, seed {settled.seed}")
        typer.echo(following.train(cache, out))


def evaluate(
    model: Model,
    cache: Cache,
    split: Annotated[str, typer.Option(help="Only scenes of this split.")] = "val",
    pool: Pool = "none",
    ensemble: Ensemble = "none",
    submission: Annotated[
        Path | None, typer.Option(help="Write nuScenes-lidarseg's files of all its key frames to this folder too.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Per-class IoU, mIoU and accuracy on all labelled vertices of a split; writes them beside the model."""
    import contextlib

    from hicl.cache.opening import open_cache
    from hicl.commands import following
    from hicl.train import answers, distributed, evaluate, figures, inference

    ways = pooling(pool, ensemble)
    opened = open_cache(cache)
    trained = inference.load(model, distributed.start(device).device)
    run = model if model.is_dir() else model.parent
    with contextlib.ExitStack() as stack:
        use = None
        if submission is not None:
            from hicl.submission import writing

            use = stack.enter_context(writing(submission, opened, split))
        scores = evaluate.evaluate(trained, opened, split, True, *ways, use=use)
    if submission is not None:
        typer.echo(f"written: {submission}: nuScenes-lidarseg's submission of split {split}")
        if not scores.confusion.any():
            typer.echo(f"no scene of split {split!r} has true labels, so there is no mIoU")
            return
    typer.echo(evaluate.report(scores))
    typer.echo(f"written: {evaluate.save(scores, run, opened)}")
    try:
        typer.echo(f"written: {figures.confusion(scores, run / f'confusion-{answers.name_of(split, *ways)}.png')}")
    except HiclError as missing:
        typer.echo(f"no picture: {missing}")
    typer.echo(following.evaluate(cache, run))


def table2(
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="Gets runs/, table2.json, table2.md and table2.png.")] = Path(
        "results"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each experiment, with seeds 0, 1, …")] = 1,
    preset: Preset = None,
    config: File = None,
    epochs: Epochs = None,
    batch: Batch = None,
    exp: Annotated[list[str] | None, typer.Option(help="Only this experiment; repeat for more. [default: all]")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Train and evaluate the experiments of Table 2, and ours; finished runs are kept, stopped ones continued."""
    from hicl.commands import following
    from hicl.train import ablation
    from hicl.train import config as configs

    options = _overrides(settings, schedule__epochs=epochs, schedule__batch=batch)
    settled = configs.load(_suited(preset, cache), config, options)
    wanted = [chosen("--exp", name.upper(), *configs.EXPERIMENTS) for name in exp or configs.EXPERIMENTS]
    experiments = tuple(name for name in configs.EXPERIMENTS if name in wanted)
    results = ablation.table2(cache, settled, out, list(range(seeds)), experiments, jobs, device, typer.echo)
    typer.echo(ablation.markdown(results))
    typer.echo(f"written: {out / 'table2.json'}")
    typer.echo(following.evaluate(cache, out / "runs" / f"{experiments[-1]}-seed0"))


def table1(
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="Gets runs/, table1.json and table1.md.")] = Path("results"),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, …")] = 1,
    preset: Preset = None,
    config: File = None,
    epochs: Epochs = None,
    batch: Batch = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Only this row; repeat for more. [default: all that can be]")
    ] = None,
    student: Annotated[
        Path | None, typer.Option(help="What `hicl student` wrote, for MaskCLIP+. [default: none, without that row]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Train and score the methods of Table 1 side by side, HICL's and the others'; finished runs are kept, those of
    `hicl table2` too, stopped ones continued."""
    from hicl.commands import following
    from hicl.train import config as configs
    from hicl.train import table1
    from hicl.train.rivals import ROWS

    options = _overrides(settings, schedule__epochs=epochs, schedule__batch=batch)
    settled = configs.load(_suited(preset, cache), config, options)
    rows = tuple(chosen("--row", name, *ROWS) for name in row) if row else None
    results = table1.table1(cache, settled, out, list(range(seeds)), rows, jobs, device, typer.echo, student)
    typer.echo(table1.markdown(results))
    typer.echo(f"written: {out / 'table1.json'}")
    typer.echo(following.command("report", "labels", "--cache", cache, "--split", "val"))
