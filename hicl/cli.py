"""The command line: one thin command a verb. Heavy imports stay inside the commands, so that --help is instant."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hicl import scene_cli, train_cli, view
from hicl.errors import HiclError
from hicl.options import Cache, Scheduler, cluster, everywhere

# As rich's markup, a "[default: …]" in a help text would vanish.
_PLAIN = {"no_args_is_help": True, "rich_markup_mode": None}

app = typer.Typer(
    help="Label-free 3D semantic segmentation: HICL (CVPR 2024), from raw scans to a trained network.",
    add_completion=False,
    pretty_exceptions_enable=False,
    **_PLAIN,
)
preprocess_app = typer.Typer(help="Raw scans to a cache of points, sets and labels.", **_PLAIN)
report_app = typer.Typer(help="How good what is in a cache is.", **_PLAIN)
app.add_typer(preprocess_app, name="preprocess")
figure_app = typer.Typer(help="Pictures for a paper, drawn without a display.", **_PLAIN)
app.add_typer(report_app, name="report")
app.add_typer(figure_app, name="figure")
figure_app.command("scene")(scene_cli.figure_scene)
for command in (
    *(train_cli.train, train_cli.evaluate, train_cli.table2, train_cli.curves, train_cli.features),
    *(scene_cli.predict, scene_cli.relabel, scene_cli.search, view.view),
):
    app.command()(command)

Root = Annotated[Path, typer.Option(help="Folder that holds the scans.")]
Out = Annotated[
    str, typer.Option(help="The cache, made or brought up to date: a folder, or a URL like s3://bucket/cache.")
]
Config = Annotated[Path | None, typer.Option(help="TOML file with any of the settings below; options given here win.")]
Split = Annotated[str | None, typer.Option(help="Only this split: train, val, test, or one with a list in ROOT.")]
FrameStep = Annotated[int | None, typer.Option(help="Every n-th frame. [default: 20 of a .sens, else 1]")]
Sets = Annotated[str | None, typer.Option(help="shipped, mesh, knn, or best = the first that a scene has.")]
Vote = Annotated[str | None, typer.Option(help="Vote within each image (the paper), or pooled over the scene.")]
Classes = Annotated[Path | None, typer.Option(help="A class a line, synonyms behind commas. [default: ScanNet's 20]")]
Clip = Annotated[str | None, typer.Option(help="open_clip model. [default: ViT-B-16-quickgelu; a miniature's own]")]
Weights = Annotated[str | None, typer.Option(help="open_clip tag, or a file. [default: openai; a miniature's own]")]
Dense = Annotated[str | None, typer.Option(help="Dense read-out: maskclip, kk or qq. [default: maskclip]")]
ShortSide = Annotated[int | None, typer.Option(help="Image size for the teacher, pixels. [default: the model's]")]
TeacherKind = Annotated[str | None, typer.Option("--teacher", help="clip, or labels = label images of a 2D segmenter.")]
LabelsDir = Annotated[Path | None, typer.Option(help="<scene>/<frame>.png of class indices, 255 = none.")]
MaxGap = Annotated[float | None, typer.Option(help="Metres between a point and the measured depth. [default: 0.05]")]
KThreshold = Annotated[float | None, typer.Option(help="Felzenszwalb's k: larger, larger sets. [default: 0.01]")]
MinSize = Annotated[int | None, typer.Option(help="Points in the smallest set. [default: 20]")]
Workers = Annotated[int | None, typer.Option(help="Scenes at a time; the bytes don't depend on it. [default: cores]")]
Device = Annotated[str, typer.Option(help="Where the networks run: auto, cpu or cuda.")]


def _say(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
def miniature(
    out: Annotated[Path, typer.Option(help="Folder to write to, in ScanNet's layout.")],
    scenes: Annotated[int, typer.Option(help="Number of rooms; the last quarter is the validation split.")] = 80,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    workers: Workers = None,
) -> None:
    """Write procedural furnished rooms in ScanNet's own layout: scans to try everything on."""
    from hicl import following
    from hicl.pipeline.miniature.scan import write_dataset
    from hicl.processes import cores
    from hicl.progress import Progress

    with Progress("miniature", scenes, "room") as bar:
        write_dataset(out, scenes, seed, workers=_checked(workers) or cores(), progress=lambda _: bar.update())
    _say(f"{scenes} rooms in {out}")
    _say(following.miniature(out))


@preprocess_app.command()
def scannet(
    root: Root,
    out: Out,
    split: Split = None,
    config: Config = None,
    frame_step: FrameStep = None,
    sets: Sets = None,
    k_threshold: KThreshold = None,
    min_size: MinSize = None,
    vote: Vote = None,
    classes: Classes = None,
    clip: Clip = None,
    weights: Weights = None,
    dense: Dense = None,
    short_side: ShortSide = None,
    teacher: TeacherKind = None,
    labels_dir: LabelsDir = None,
    max_gap: MaxGap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
) -> None:
    """ScanNet v2: .sens recordings or scannet_frames_25k, meshes, official splits."""
    from hicl.pipeline.config import build
    from hicl.pipeline.datasets import scannet as dataset
    from hicl.pipeline.run import Source

    given = dict(locals())
    settings = build(config, _settings(given, _own_teacher(given)))
    root = root.absolute()  # by this name other machines' workers look for it
    scenes, missing = dataset.find_scenes(root, split, settings.frame_step)
    if missing:
        _say(f"{missing} scans of split {split} are not below {root}; going on with the {len(scenes)} that are")
    name = "miniature" if dataset.miniature_settings(root) else "scannet"
    _preprocess(Source(name, root, scenes, dataset.CLASSES), out, settings, workers, scheduler, device)


@preprocess_app.command("miniature")
def preprocess_miniature(
    root: Root,
    out: Out,
    split: Split = None,
    config: Config = None,
    sets: Sets = None,
    k_threshold: KThreshold = None,
    min_size: MinSize = None,
    vote: Vote = None,
    classes: Classes = None,
    clip: Clip = None,
    weights: Weights = None,
    dense: Dense = None,
    short_side: ShortSide = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Rooms of `hicl miniature`, through the ScanNet reader, with the miniature's own teacher."""
    given = dict(locals())
    from hicl.pipeline.datasets.scannet import miniature_settings

    if miniature_settings(root) is None:
        raise HiclError(f"{root}: no miniature; `hicl miniature --out {root}` writes one")
    scannet(**given)


@preprocess_app.command()
def rgbd(
    root: Root,
    out: Out,
    config: Config = None,
    frame_step: FrameStep = None,
    depth_scale: Annotated[float | None, typer.Option(help="Depth units a metre. [default: 1000]")] = None,
    split: Annotated[str, typer.Option(help="Where the scenes go; `hicl train` learns from train.")] = "train",
    sets: Sets = None,
    k_threshold: KThreshold = None,
    min_size: MinSize = None,
    vote: Vote = None,
    classes: Classes = None,
    clip: Clip = None,
    weights: Weights = None,
    dense: Dense = None,
    short_side: ShortSide = None,
    teacher: TeacherKind = None,
    labels_dir: LabelsDir = None,
    max_gap: MaxGap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
) -> None:
    """Your own scan: posed colour and depth images, with a .ply or without. One scene, or a folder of scenes."""
    from hicl.pipeline.config import build
    from hicl.pipeline.datasets import rgbd as dataset
    from hicl.pipeline.run import Source

    settings = build(config, _settings(dict(locals())))
    root = root.absolute()  # by this name other machines' workers look for it
    scenes = dataset.find_scenes(root, settings.frame_step or 1, settings.depth_scale)
    _preprocess(
        Source("rgbd", root, [(scene, split) for scene in scenes], ()), out, settings, workers, scheduler, device
    )


@report_app.command()
def labels(
    cache: Cache,
    split: Annotated[str | None, typer.Option(help="Only scenes of this split. [default: all]")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file as well.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a picture of one room to this PNG.")] = None,
    scene: Annotated[str | None, typer.Option(help="The room of the picture. [default: the first]")] = None,
) -> None:
    """Accuracy and mIoU of the pseudo-labels, raw and voted, and what the sets could reach."""
    from hicl.pipeline import report

    typer.echo(report.labels(cache, split, json_file, picture, scene))


@app.command()
def export(
    cache: Cache,
    out: Annotated[Path, typer.Option(help="The PLY file to write.")],
    scene: Annotated[str | None, typer.Option(help="Which scene. [default: the first]")] = None,
    run: Annotated[Path | None, typer.Option(help="Label with this trained run, not with the pseudo-labels.")] = None,
    device: Device = "auto",
) -> None:
    """Write a scene as a PLY with a class and its colour for each point."""
    from hicl.export import export

    typer.echo(export(cache, scene, out, run, device))


def _checked(workers: int | None) -> int | None:
    if workers is not None and workers < 1:
        raise HiclError(f"--workers {workers}: at least 1")
    return workers


def _settings(given: dict, defaults: dict | None = None) -> dict:
    """The options of a command that are settings of `PreprocessConfig`; paths as text, for the cache's attributes."""
    from hicl.pipeline.config import PreprocessConfig

    names = PreprocessConfig.__dataclass_fields__
    chosen = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if key in names}
    return {key: value if value is not None else (defaults or {}).get(key) for key, value in chosen.items()}


def _own_teacher(given: dict) -> dict:
    """A miniature's teacher, where its root is read and no other teacher is asked for."""
    from hicl.config import read_toml
    from hicl.pipeline.datasets.scannet import miniature_settings
    from hicl.pipeline.teacher import MINIATURE

    in_file = read_toml(given["config"]) if given["config"] else {}
    if {"clip", "weights"} & {*in_file, *(key for key, value in given.items() if value is not None)}:
        return {}
    if miniature_settings(given["root"]) is None:
        return {}
    return {"clip": MINIATURE, "weights": MINIATURE}


def _preprocess(source, out: str, config, workers: int | None, scheduler: str | None, device: str) -> None:
    from hicl import following
    from hicl.pipeline.datasets.scannet import CLASSES
    from hicl.pipeline.prompts import ClassList, read_classes
    from hicl.pipeline.run import preprocess

    class_list = read_classes(Path(config.classes)) if config.classes else ClassList.of(source.truth_classes or CLASSES)
    with cluster(scheduler, _checked(workers)) as executor:
        summary = preprocess(source, everywhere(out), config, class_list, workers, device, _say, executor)
    passed_over = sum(len(frames) for frames in summary.skipped.values())
    _say(
        f"{len(summary.done)} scenes done, {len(summary.unchanged)} up to date, {len(summary.failed)} failed, "
        f"{passed_over} frames skipped; cache: {out}"
    )
    for scene, frames in sorted(summary.skipped.items()):
        for reason in list(frames.values())[:3]:
            _say(f"  skipped in {scene}: {reason}")
    for error in summary.failed.values():
        _say(f"hicl: error: {error}")
    if summary.failed:
        raise typer.Exit(1)
    _say(following.preprocess(out, source.dataset, source.root))


def main() -> None:
    """Entry point: an error of the user's making is one line and exit code 1."""
    try:
        app()
    except HiclError as error:
        _say(f"hicl: error: {error}")
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that can't be written to
        where = f"{error.filename}: " if error.filename else ""
        _say(f"hicl: error: {where}{error.strerror or error}")
        sys.exit(1)
