"""`hicl config`: every setting as TOML, to be edited and given back by --config; and the list in `train --help`."""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer

from hicl.config import Setting, flat, settings_of, to_toml
from hicl.errors import HiclError
from hicl.train.config import PRESETS, Config, load

_PAGE = """# Settings

Made from the declarations in `pipeline/config.py`, `pipeline/datasets/` and `train/config.py` by `make docs`. The
command line spells `max_gap` of `preprocess` as `--max-gap`, and `heads.tokens` of `train` as `--set heads.tokens=512`;
a TOML file for `--config` has both as they stand here, and `hicl config` prints one. Where the presets of `train`
differ, the miniature's default comes first: it is what `hicl train` takes without `--preset`, unless the cache is of
streets.
"""


def preprocess(
    dataset: Annotated[str, typer.Argument(help="A data set of `hicl preprocess`.")] = "scannet",
) -> None:
    """The settings of `hicl preprocess DATASET`."""
    from hicl.pipeline import datasets

    if dataset not in datasets.DATASETS:
        raise HiclError(f"{dataset}: no data set; there are {', '.join(datasets.DATASETS)}")
    typer.echo(to_toml(datasets.load(dataset).Settings(), comments=True), nl=False)


def train(
    preset: Annotated[str, typer.Option(help="miniature or street; scannet or nuscenes: the paper's.")] = "miniature",
) -> None:
    """The settings of `hicl train`, with the values of a preset."""
    typer.echo(to_toml(load(preset), comments=True), nl=False)


def _trained_with() -> Iterable[Setting]:
    """The settings of `hicl train` with the miniature's default, and other presets' where they are others."""
    presets = {name: flat(config) for name, config in PRESETS.items()}
    for setting in settings_of(Config):
        by_value: dict[str, list[str]] = {}
        for name, values in presets.items():
            by_value.setdefault(replace(setting, default=values[setting.key]).shown(), []).append(name)
        own = next(value for value, names in by_value.items() if "miniature" in names)
        others = [f"{', '.join(names)}: {value}" for value, names in by_value.items() if value != own]
        told = own if setting.key == "preset" else "; ".join([own, *others])
        yield replace(setting, about=replace(setting.about, shown=told))


def _sections() -> Iterable[tuple[str, list[Setting]]]:
    for name, members in itertools.groupby(_trained_with(), lambda setting: setting.key.rpartition(".")[0]):
        yield name, list(members)


def _foot() -> str:
    """The settings of `train` that have no option, for the foot of its help; a \\b keeps a paragraph's lines."""
    paragraphs = ["Settings, for --set and --config (`hicl config train` prints them as TOML):"]
    for section, members in _sections():
        if section:
            lines = [f"  {setting.key}  {setting.describe()}" for setting in members]
            paragraphs.append("\n".join(["\b", f"{section}:", *lines]))
    return "\n\n".join(paragraphs)


LISTED = _foot()


def page() -> str:
    """docs/settings.md."""
    from hicl.pipeline import datasets
    from hicl.pipeline.config import PreprocessConfig

    shared = list(settings_of(PreprocessConfig))
    tables = [("`hicl preprocess`, any data set", shared)]
    for name in datasets.DATASETS:
        own = [setting for setting in settings_of(datasets.load(name).Settings) if setting not in shared]
        tables.append((f"`hicl preprocess {name}`", own))
    tables += [(f"`hicl train`: {section or 'the run'}", members) for section, members in _sections()]
    return "\n".join([_PAGE, *(f"## {title}\n\n{_table(members)}" for title, members in tables)])


def _table(settings: Iterable[Setting]) -> str:
    lines = ["| setting | default | |", "|---|---|---|"]
    for setting in settings:
        lines.append(f"| `{setting.key}` | {setting.shown()} | {setting.what()} |")
    return "\n".join(lines) + "\n"
