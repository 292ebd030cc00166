"""`hicl scan`: from a capture's folder to labelled files, in one command."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hicl.commands.options import Device, Workers, say, with_settings
from hicl.commands.preprocess import end, tell
from hicl.errors import HiclError
from hicl.pipeline.datasets.captures.settings import TRAINING, Settings

if TYPE_CHECKING:
    from hicl.pipeline.datasets.scene import Source

# A phone records thirty frames a second, and what one of them shows the next shows too.
MOST_FRAMES = 300


@with_settings(Settings)
def scan(
    folder: Annotated[Path, typer.Argument(help="A capture: posed RGB-D frames; or a folder of captures.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results and the cache they come from.")],
    given: dict,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, as `hicl config preprocess rgbd` prints; options win.")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Label a scan of your own: a cloud with classes, its objects, a page to look around in, a picture, a summary."""
    from hicl.commands import following
    from hicl.pipeline.classes import ClassList, parse_classes
    from hicl.pipeline.config import build
    from hicl.pipeline.datasets import captures, rgbd
    from hicl.pipeline.run import preprocess
    from hicl.scan import CACHE, write_results

    if captures.find(out):
        raise HiclError(f"-o {out}: is a capture, whose surface a .ply there would be taken for; choose another folder")
    settings = build(Settings, config, given)
    source = rgbd.source(folder.absolute(), settings)
    for note in source.notes:
        say(note)
    if settings.frame_step is None and (step := _step(source)) > 1:
        say(f"one frame in {step} is taken, so that a scene has {MOST_FRAMES} at most; --frame-step 1 takes all")
        settings = replace(settings, frame_step=step)
        source = rgbd.source(folder.absolute(), settings)
    classes = parse_classes(settings.classes) if settings.classes else ClassList.of(source.classes)
    summary = preprocess(source, out.absolute() / CACHE, settings, classes, workers, device, say)
    tell(summary, str(out / CACHE))
    write_results(out, [*summary.done, *summary.unchanged], typer.echo)
    end(summary)
    say(following.command("train", "--cache", out / CACHE, "--exp", "V", *TRAINING, "--out", out / "V"))


def _step(source: "Source") -> int:
    """Every how many frames make `MOST_FRAMES` of the longest scene; what can't be read counts for none."""
    most = 0
    for scene, _ in source.scenes:
        with contextlib.suppress(HiclError):
            most = max(most, len(scene.frame_ids))
    return -(-most // MOST_FRAMES)
