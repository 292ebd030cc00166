"""Make the API's pages, one a module, and docs/settings.md: python docs/build.py FOLDER"""

import dataclasses
import html
import importlib
import inspect
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

MODULES = (
    "hicl.predict",
    "hicl.clouds",
    "hicl.objects",
    "hicl.average_precision",
    "hicl.formats",
    "hicl.formats.labelled",
    "hicl.config",
    "hicl.errors",
    "hicl.cache.opening",
    "hicl.cache.reader",
    "hicl.cache.schema",
    "hicl.pipeline.run",
    "hicl.pipeline.config",
    "hicl.pipeline.classes",
    "hicl.pipeline.datasets.scene",
    "hicl.pipeline.datasets.scannet",
    "hicl.pipeline.datasets.rgbd",
    "hicl.pipeline.teacher.choice",
    "hicl.pipeline.teacher.clip",
    "hicl.train.config",
    "hicl.train.loop",
    "hicl.train.inference",
    "hicl.train.evaluate",
    "hicl.train.objectives",
)
"""What one who calls hicl from Python needs."""


def tell_settings(module: ModuleType) -> None:
    """Put what each setting of a module's settings dataclasses is below their docstrings, where pdoc finds it."""
    from hicl.config import settings_of

    for kind in vars(module).values():
        own = dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
        if own and any(field.metadata for field in dataclasses.fields(kind)):
            lines = (f"- `{setting.key}`: {html.escape(setting.describe())}" for setting in settings_of(kind))
            kind.__doc__ = "\n".join([inspect.cleandoc(kind.__doc__), "", *lines])


def main(out: Path) -> None:
    import pdoc

    from hicl.commands.settings import page

    warnings.simplefilter("error")
    (Path(__file__).parent / "settings.md").write_text(page(), encoding="utf-8")
    for name in MODULES:
        tell_settings(importlib.import_module(name))
    pdoc.render.configure(docformat="google", show_source=False, footer_text=f"hicl {version('hicl')}")
    pdoc.pdoc(*MODULES, output_directory=out)
    print(f"docs/settings.md and {out}/index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
