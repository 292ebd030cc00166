"""`hicl config`: every setting as TOML, to be edited and given back by --config; and the list in `train --help`."""

import itertools
from typing import Annotated

import typer

from hicl.config import settings_of, to_markdown, to_toml
from hicl.train.config import Config, load

Markdown = Annotated[bool, typer.Option("--markdown", help="A table instead, as in docs/settings.md.")]
DataSet = Annotated[str, typer.Argument(help="A data set of `hicl preprocess`.")]


def preprocess(dataset: DataSet = "scannet", markdown: Markdown = False) -> None:
    """The settings of `hicl preprocess DATASET`."""
    from hicl.errors import HiclError
    from hicl.pipeline import datasets

    if dataset not in datasets.DATASETS:
        raise HiclError(f"{dataset}: no data set; there are {', '.join(datasets.DATASETS)}")
    typer.echo(_page(datasets.load(dataset).Settings(), markdown), nl=False)


def train(
    preset: Annotated[str, typer.Option(help="miniature, or scannet: the paper's.")] = "miniature",
    markdown: Markdown = False,
) -> None:
    """The settings of `hicl train`, with the values of a preset."""
    typer.echo(_page(load(preset), markdown), nl=False)


def _page(config: object, markdown: bool) -> str:
    return to_markdown(type(config)) if markdown else to_toml(config, comments=True)


def _listed() -> str:
    """The settings by section, for the foot of a help page; a \\b keeps a paragraph's lines as they are."""
    sections = itertools.groupby(settings_of(Config), lambda setting: setting.key.rpartition(".")[0])
    paragraphs = ["Settings, for --set and --config (`hicl config train` prints them as TOML):"]
    for section, members in sections:
        if section:
            lines = [f"  {setting.key}  {setting.describe()}" for setting in members]
            paragraphs.append("\n".join(["\b", f"{section}:", *lines]))
    return "\n\n".join(paragraphs)


LISTED = _listed()
