"""`hicl figure`: pictures for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from hicl.commands.options import Cache, Device, Model, OptionalModel, PictureOut, Pool, Scene, pooling


def scene(
    cache: Cache,
    out: PictureOut,
    scene: Scene = None,
    model: OptionalModel = None,
    pool: Pool = "sets",
    device: Device = "auto",
) -> None:
    """A scene side by side: colours, raw and refined labels, prediction, truth, with a legend. Needs no display."""
    from hicl.figure import scene_figure

    typer.echo(scene_figure(cache, scene, model, out, device, pooling(pool)[0]))


def curves(
    model: Annotated[list[Path], typer.Option(help="A run's folder, or all runs of a Table 2; repeat for more.")],
    out: PictureOut = Path("results/figure6.png"),
) -> None:
    """mIoU over the epochs of some runs (the paper's figure 6)."""
    from hicl.train import figures

    typer.echo(f"written: {figures.miou_over_epochs(model, out)}")


def features(
    model: Model,
    cache: Cache,
    scene: Annotated[list[str] | None, typer.Option(help="Two scenes. [default: the first two of val]")] = None,
    out: PictureOut = Path("results/figure7.png"),
    device: Device = "auto",
) -> None:
    """t-SNE of the features of two scenes and of their union (the paper's figure 7)."""
    from hicl.cache.opening import open_cache
    from hicl.train import distributed, figures, inference

    opened = open_cache(cache)
    trained = inference.load(model, distributed.start(device).device)
    scenes = scene or opened.scene_ids("val")[:2]
    typer.echo(f"written: {figures.feature_map(trained, opened, scenes, out)}")
