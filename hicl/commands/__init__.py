"""The command line: one thin command a verb. Heavy imports stay inside the commands, so that --help is instant."""

import sys
from typing import Annotated

import typer

from hicl import __version__
from hicl.commands import figures, preprocess, scans, settings, training
from hicl.commands.options import say
from hicl.errors import HiclError

# As rich's markup, a "[default: …]" in a help text would vanish.
_PLAIN = {"no_args_is_help": True, "rich_markup_mode": None}

app = typer.Typer(
    help="Label-free 3D semantic segmentation: HICL (CVPR 2024), from raw scans to a trained network.",
    add_completion=False,
    pretty_exceptions_enable=False,
    **_PLAIN,
)
app.add_typer(
    typer.Typer(cls=preprocess.Datasets, help="Raw scans to a cache of points, sets and labels.", **_PLAIN),
    name="preprocess",
)
report_app = typer.Typer(help="How good what is in a cache is.", **_PLAIN)
report_app.command("labels")(preprocess.report_labels)
app.add_typer(report_app, name="report")
figure_app = typer.Typer(help="Pictures for a paper, drawn without a display.", **_PLAIN)
for command in (figures.scene, figures.curves, figures.features):
    figure_app.command()(command)
app.add_typer(figure_app, name="figure")
config_app = typer.Typer(help="Every setting with its default, help and unit, as TOML for --config.", **_PLAIN)
for name, command in {"preprocess": settings.preprocess, "train": settings.train}.items():
    config_app.command(name)(command)
app.add_typer(config_app, name="config")
for command in (
    *(preprocess.miniature, preprocess.relabel, training.evaluate, training.table2),
    *(scans.predict, scans.search, scans.export, scans.view),
):
    app.command()(command)
app.command(epilog=settings.LISTED)(training.train)


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
        say(f"hicl: error: {error.filename or ''}: {error.strerror or error}")
        sys.exit(1)
