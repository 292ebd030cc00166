"""The command line: one thin command a verb. Heavy imports stay inside the commands, so that --help is instant."""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from typer.core import TyperGroup

from hicl import __version__
from hicl.commands import doctor, figures, finetuning, preprocess, scan, scans, settings, training
from hicl.commands.options import say
from hicl.errors import HiclError


def _group(help: str, commands: Mapping[str, Callable] = {}, cls: type[TyperGroup] | None = None) -> typer.Typer:
    # As rich's markup, a "[default: …]" in a help text would vanish.
    group = typer.Typer(
        help=help,
        cls=cls,
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, command in commands.items():
        group.command(name)(command)
    return group


app = _group("Label-free 3D semantic segmentation: HICL (CVPR 2024), from raw scans to a trained network.")
for name, group in {
    "preprocess": _group("Raw scans to a cache of points, sets and labels.", cls=preprocess.Datasets),
    "report": _group(
        "How good what is in a cache is.",
        {"labels": preprocess.report_labels, "objects": preprocess.report_objects, "rooms": preprocess.report_rooms},
    ),
    "figure": _group(
        "Pictures for a paper, drawn without a display.",
        {"scene": figures.scene, "curves": figures.curves, "features": figures.features},
    ),
    "config": _group(
        "Every setting with its default, help and unit, as TOML for --config.",
        {"preprocess": settings.preprocess, "train": settings.train},
    ),
}.items():
    app.add_typer(group, name=name)
app.command()(scan.scan)
app.command()(doctor.doctor)
app.command()(preprocess.miniature)
app.command()(preprocess.masks)
app.command()(preprocess.student)
app.command()(preprocess.relabel)
app.command()(preprocess.check)
app.command(epilog=settings.LISTED)(training.train)
app.command()(training.evaluate)
app.command()(finetuning.finetune)
app.command()(finetuning.table_pretraining)
app.command()(training.table1)
app.command()(training.table2)
app.command()(scans.predict)
app.command()(scans.search)
app.command()(scans.export)
app.command()(scans.view)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hicl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error of the user's making is one line and exit code 1."""
    try:
        app()
    except HiclError as error:
        say(f"hicl: error: {error}")
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that can't be written to
        where = f"{error.filename}: " if error.filename else ""
        say(f"hicl: error: {where}{error.strerror or error}")
        sys.exit(1)
