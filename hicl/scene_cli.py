"""What to do with a model or a cache: predict, relabel, search, draw. Thin; nothing heavy is imported at start."""

from pathlib import Path
from typing import Annotated

import typer

from hicl.errors import HiclError
from hicl.options import Cache, Scheduler, cluster, everywhere

Scan = Annotated[Path, typer.Argument(help="A coloured mesh or cloud, .ply, in metres, z up.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="The .ply to write.")]
ModelPath = Annotated[Path, typer.Option("--model", help="A run's folder, or its model.safetensors.")]
Prompts = Annotated[str, typer.Option(help="Names behind commas, or a file with a class a line.")]
Other = Annotated[
    str | None, typer.Option("--prompts", help="Other classes, or a file of them. [default: the model's]")
]
Scale = Annotated[float | None, typer.Option(help="Metres a unit of the scan: 0.001 for millimetres. [default: 1]")]
Clip = Annotated[str | None, typer.Option(help="The teacher's open_clip config, where it came from a file.")]
Weights = Annotated[str | None, typer.Option(help="The teacher's weights, where they came from a file.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def predict(
    scan: Scan,
    model: ModelPath,
    out: Out,
    prompts: Other = None,
    scale: Scale = None,
    clip: Clip = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """A class for every point of a scan, in the model's words or yours: PLY, scores as .npz, legend as .png."""
    from hicl.pipeline.prompts import parse_prompts
    from hicl.predict import load_model, predict_file

    classes = parse_prompts(prompts) if prompts is not None else None
    typer.echo(predict_file(scan, load_model(model, device), out, classes, scale, clip, weights))


def search(
    words: Annotated[list[str], typer.Argument(help='[SCAN] "somewhere to sit": a scan with --model, and the text.')],
    out: Out,
    cache: Annotated[str | None, typer.Option(help="Search a scene of this cache, by its images.")] = None,
    scene: Annotated[str | None, typer.Option(help="Which scene of the cache. [default: the first]")] = None,
    model: Annotated[Path | None, typer.Option(help="Search the scan with this model, without images.")] = None,
    scale: Scale = None,
    clip: Clip = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """Colour every point by its similarity to a free text: of a cached scene, or of any scan by a trained model."""
    if (cache is None) == (model is None) or len(words) != (1 if cache else 2):
        raise HiclError('search needs either --cache C "text" or --model M SCAN.ply "text"')
    if scene is not None and model or scale is not None and cache:
        raise HiclError("--scene goes with --cache, --scale with --model")
    from hicl.predict import load_model, search_cache, search_file

    if cache:
        typer.echo(search_cache(cache, scene, words[0], out, clip, weights))
    else:
        typer.echo(search_file(Path(words[0]), load_model(model, device), words[1], out, scale, clip, weights))


def relabel(
    cache: Cache,
    prompts: Prompts,
    vote: Annotated[str | None, typer.Option(help="image or scene. [default: as it was]")] = None,
    clip: Clip = None,
    weights: Weights = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes at a time. [default: cores]")] = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
) -> None:
    """Other words for a cache, without its images; `hicl train` then learns them."""
    from hicl import following
    from hicl.pipeline.prompts import parse_prompts
    from hicl.pipeline.relabel import relabel

    with cluster(scheduler, workers) as executor:
        summary = relabel(
            everywhere(cache), parse_prompts(prompts, 255), vote, clip, weights, workers, device, executor
        )
    typer.echo(f"{len(summary.done)} scenes relabelled, {len(summary.unchanged)} up to date; cache: {cache}")
    for error in summary.failed.values():
        typer.echo(f"hicl: error: {error}", err=True)
    if summary.failed:
        raise typer.Exit(1)
    typer.echo(following.relabel(cache))


def figure_scene(
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .png to write.")],
    scene: Annotated[str | None, typer.Option(help="Which scene. [default: the first]")] = None,
    model: Annotated[Path | None, typer.Option(help="Show this model's prediction as well.")] = None,
    device: Device = "auto",
) -> None:
    """A scene side by side: colours, raw and refined labels, prediction, truth, with a legend. Needs no display."""
    from hicl.figure import scene_figure

    typer.echo(scene_figure(cache, scene, model, out, device))
