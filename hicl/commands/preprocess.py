"""From scans to a cache: `hicl miniature`, `hicl preprocess`, `hicl relabel`, `hicl report`."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hicl.commands.options import (
    Cache,
    Classes,
    Clip,
    Device,
    Ensemble,
    Gap,
    OptionalModel,
    Pool,
    Scheduler,
    Weights,
    Workers,
    chosen,
    cluster,
    everywhere,
    pooling,
    say,
    with_settings,
)
from hicl.errors import HiclError
from hicl.progress import counted

if TYPE_CHECKING:
    from hicl.pipeline.job import Summary


class Kind(StrEnum):
    room = "room"
    street = "street"


def miniature(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")],
    kind: Annotated[Kind, typer.Option(help="room, in ScanNet's layout; street, in nuScenes'.")] = Kind.room,
    scenes: Annotated[
        int | None,
        typer.Option(help="Number of scenes; the last quarter is the split val.  [default: 80 rooms, 40 streets]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    style: Annotated[
        float, typer.Option(help="How much pictures of rooms differ in exposure, tint, contrast and blur: up to 3.")
    ] = 0.0,
    shared: Annotated[float, typer.Option(help="Share of that which the pictures of one room have in common.")] = 0.0,
    workers: Workers = None,
) -> None:
    """Write procedural rooms in ScanNet's own layout, or streets in nuScenes': scans to try everything on."""
    from hicl.commands import following
    from hicl.pipeline.miniature.scan import write_dataset
    from hicl.pipeline.miniature.street.write import write_streets
    from hicl.pipeline.miniature.style import Style
    from hicl.processes import cores
    from hicl.progress import Progress

    scenes = (40 if kind == Kind.street else 80) if scenes is None else scenes
    write: Callable[..., None] = write_streets
    if kind == Kind.room:
        write = partial(write_dataset, style=Style(style, shared))
    elif style or shared:
        raise HiclError(f"--style {style:g} --shared {shared:g}: of rooms only, not of --kind street")
    with Progress("miniature", scenes, kind.value) as bar:
        write(out, scenes, seed, workers=workers or cores(), progress=lambda _: bar.update())
    say(f"{counted(scenes, kind.value)} in {out}")
    say(following.miniature(out, "nuscenes" if kind == Kind.street else "miniature"))


class Datasets(TyperGroup):
    """`hicl preprocess`: a command for each data set, made of its file when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        from hicl.pipeline.datasets import DATASETS

        return list(DATASETS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.list_commands(ctx)
        if cmd_name not in known:
            ctx.fail(f"No such data set {cmd_name!r}; there are {', '.join(known)}.")
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(cmd_name)(_preprocess(cmd_name))
        return typer.main.get_command(app)


def _preprocess(name: str) -> Callable:
    from hicl.pipeline import datasets

    dataset = datasets.load(name)

    @with_settings(dataset.Settings)
    def preprocess(
        root: Annotated[Path, typer.Option(help="Folder that holds the scans.")],
        out: Annotated[
            str, typer.Option("-o", "--out", help="The cache, made or brought up to date: a folder, or a URL.")
        ],
        given: dict,
        config: Annotated[
            Path | None,
            typer.Option(help="TOML file of settings, as `hicl config preprocess` prints; options here win."),
        ] = None,
        workers: Workers = None,
        scheduler: Scheduler = None,
        device: Device = "auto",
    ) -> None:
        from hicl.commands import following
        from hicl.pipeline.classes import ClassList, parse_classes
        from hicl.pipeline.config import build
        from hicl.pipeline.run import preprocess

        own = dataset.defaults(root) if hasattr(dataset, "defaults") else None
        settings = build(dataset.Settings, config, given, own)
        source = dataset.source(root.absolute(), settings)  # by this name other machines' workers look for it
        for note in source.notes:
            say(note)
        own_words = ClassList(source.classes, source.prompts or tuple((name,) for name in source.classes))
        classes = parse_classes(settings.classes) if settings.classes else own_words
        with cluster(scheduler, workers) as executor:
            summary = preprocess(source, everywhere(out), settings, classes, workers, device, say, executor)
        tell(summary, out)
        end(summary)
        say(following.preprocess(out, source.dataset, root, config, given))

    preprocess.__doc__ = (dataset.__doc__ or "").partition("\n")[0]
    return preprocess


def tell(summary: "Summary", out: str) -> None:
    """What a run did, and what a user should know of its scenes."""
    from hicl.pipeline import coverage

    passed_over = sum(len(frames) for frames in summary.skipped.values())
    say(
        f"{counted(len(summary.done), 'scene')} done, {len(summary.unchanged)} up to date, "
        f"{len(summary.failed)} failed, {counted(passed_over, 'frame')} skipped; cache: {out}"
    )
    for scene, frames in sorted(summary.skipped.items()):
        for reason in list(frames.values())[:3]:
            say(f"  skipped in {scene}: {reason}")
    for line in coverage.told(summary.seen, summary.faults):
        say(line)
    for scene, doubts in sorted(summary.doubts.items()):
        for doubt in doubts:
            say(f"  {scene}: {doubt}")


def end(summary: "Summary") -> None:
    """An error for each scene that failed, and then the exit code 1."""
    for error in summary.failed.values():
        say(f"hicl: error: {error}")
    if summary.failed:
        raise typer.Exit(1)


def masks(
    dataset: Annotated[str, typer.Argument(help="As of `hicl preprocess`: scannet, rgbd or miniature.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the scans.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Gets SCENE/FRAME.png for --masks-dir.")],
    workers: Workers = None,
) -> None:
    """Masks without a name in the images of scans, found by colours: for `hicl preprocess --masks-dir`."""
    from hicl.commands import following
    from hicl.pipeline import datasets
    from hicl.pipeline.config import build
    from hicl.pipeline.masks import mask_images
    from hicl.processes import cores

    kind, root = datasets.load(chosen("DATASET", dataset, *datasets.DATASETS)), root.absolute()
    own = kind.defaults(root) if hasattr(kind, "defaults") else None
    mask_images(kind.source(root, build(kind.Settings, None, {}, own)), out, workers or cores())
    say(following.masks(out, dataset, root))


def student(
    root: Annotated[Path, typer.Option(help="Folder that holds the scans of ScanNet, or of the miniature.")],
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="Gets labels/, cache/ and student.json.")],
    steps: Annotated[int, typer.Option(min=2, help="Of training, eight images each.")] = 1500,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """MaskCLIP+: train a 2D network on the scans' images by the cache's labels, and carry its own into a cache of the
    split val, for `hicl table1 --student`."""
    from hicl.cache.opening import open_cache
    from hicl.commands import following
    from hicl.pipeline import datasets
    from hicl.pipeline.classes import ClassList
    from hicl.pipeline.config import build
    from hicl.pipeline.run import preprocess
    from hicl.pipeline.student import Training, label_images

    name = open_cache(cache).dataset
    if name not in ("scannet", "miniature"):
        raise HiclError(f"{cache}: of {name}; the 2D network learns from the images of scannet and miniature")
    dataset = datasets.load(name)
    root, own = root.absolute(), dataset.defaults(root)
    source = dataset.source(root, build(dataset.Settings, None, {}, own))
    labels = label_images(source, cache, out, Training(steps, seed=seed), device)
    settings = build(dataset.Settings, None, {"teacher": "labels", "labels_dir": str(labels), "split": "val"}, own)
    classes = ClassList(source.classes, tuple((word,) for word in source.classes))
    summary = preprocess(dataset.source(root, settings), out / "cache", settings, classes, workers, device, say)
    end(summary)
    say(following.command("table1", "--cache", cache, "--student", out))


def relabel(
    cache: Cache,
    classes: Classes,
    vote: Annotated[str | None, typer.Option(help="image, scene or scores. [default: as it was]")] = None,
    templates: Annotated[
        str | None, typer.Option(help="all: each name in 85 sentences; none: as it is. [default: as it was]")
    ] = None,
    clip: Clip = None,
    weights: Weights = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
) -> None:
    """Other words for a cache, without its images; `hicl train` then learns them."""
    from hicl.commands import following
    from hicl.pipeline.classes import parse_classes
    from hicl.pipeline.relabel import relabel

    words = parse_classes(classes)
    with cluster(scheduler, workers) as executor:
        summary = relabel(everywhere(cache), words, vote, clip, weights, templates, workers, device, executor)
    typer.echo(f"{counted(len(summary.done), 'scene')} relabelled, {len(summary.unchanged)} up to date; cache: {cache}")
    end(summary)
    typer.echo(following.relabel(cache))


def check(
    cache: Annotated[str, typer.Argument(help="A cache of `hicl preprocess`: a folder, or a URL.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take damaged scenes away, to be made again.")] = False,
) -> None:
    """Verify every byte and value of a cache, and name the scenes to make again; exit code 1 if there are any."""
    from hicl.cache.check import check, remove_scenes
    from hicl.commands import following

    sound, damaged = check(cache, show=True)
    for reason in damaged.values():
        typer.echo(reason)
    say(f"{cache}: {counted(len(sound), 'scene')} sound, {len(damaged)} damaged")
    if damaged and remove:
        remove_scenes(cache, list(damaged))
        say("removed; next: the `hicl preprocess` that made them makes them again")
    elif damaged:
        then = following.command("check", cache, "--remove")
        say(f"{then}, then the `hicl preprocess` that made them makes them again")
    if damaged:
        raise typer.Exit(1)


def report_labels(
    cache: Annotated[str | None, typer.Option(help="A cache, of which all is told.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Set the caches that follow side by side.")] = False,
    caches: Annotated[list[str] | None, typer.Argument(help="Caches to compare.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Only scenes of this split. [default: all]")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file as well.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a picture of one room to this PNG.")] = None,
    scene: Annotated[str | None, typer.Option(help="The room of the picture. [default: the first]")] = None,
    root: Annotated[
        Path | None, typer.Option(help="The key frames' root, to draw over their images. [default: no images]")
    ] = None,
) -> None:
    """Accuracy and mIoU of the pseudo-labels, raw and voted, and what the sets could reach. With --compare, how far
    labels agree between views and within sets, which needs no ground truth: what to choose a read-out by."""
    from hicl.pipeline import comparison, report

    if compare != bool(caches) or (cache is None) != compare:
        raise HiclError("give --cache CACHE, or --compare CACHE CACHE …")
    if compare and (picture or scene or root):
        raise HiclError("--compare: makes no picture; leave --picture, --scene and --root out")
    if cache is not None:
        typer.echo(report.labels(cache, split, json_file, picture, scene, root))
    else:
        typer.echo(comparison.compare(list(caches or []), split, json_file))
    for path in filter(None, (json_file, picture)):
        typer.echo(f"written: {path}")


def report_objects(
    cache: Cache,
    root: Annotated[Path, typer.Option(help="The scans' root, a miniature's or ScanNet's: it knows the true objects.")],
    split: Annotated[str | None, typer.Option(help="Only scenes of this split. [default: all]")] = None,
    model: OptionalModel = None,
    labels: Annotated[
        str, typer.Option(help="Without a model: spread, refined or raw labels; truth: what is lost without any error.")
    ] = "spread",
    gap: Gap = None,
    pool: Pool = "sets",
    ensemble: Ensemble = "none",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file as well.")] = None,
    device: Device = "auto",
) -> None:
    """Average precision of the objects that `hicl export --objects` finds, as ScanNet's benchmark counts it."""
    from hicl.export import Labels
    from hicl.object_report import report

    trained = None
    if model is not None:
        from hicl.predict import load_model

        trained = load_model(model, device)
    typer.echo(report(cache, root, split, Labels(labels, trained, *pooling(pool, ensemble)), gap, json_file))


def report_rooms(
    cache: Cache, split: Annotated[str | None, typer.Option(help="Only scenes of this split. [default: all]")] = None
) -> None:
    """How much of the raw labels' error differs from scene to scene, and how much within one, for each true class."""
    from hicl.pipeline import variance

    typer.echo(variance.rooms(cache, split))
