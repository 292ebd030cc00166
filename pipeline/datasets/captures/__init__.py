"""Captures: posed RGB-D frames as phones, robots and reconstruction programs write them.

Each is one file, in the order in which a folder is held against them; listing it here is all it takes. Such a file has

    a docstring  with the format's conventions, and where they are described
    NAME         what people call it
    WANTS        what a folder has to hold to be one: of each tuple one pattern, as of `Path.glob`
    read         (folder) to a `capture.Capture`, without opening a frame
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line names the settings beside, and needs no more
    from hicl.pipeline.datasets.captures.capture import Capture

CAPTURES = ("nerfstudio", "polycam", "record3d", "arkit", "tum", "replica", "redwood", "colmap", "scannetpp", "rtabmap")


def find(folder: Path) -> str | None:
    """Which capture a folder is, "plain" for frames each with files of its own; None if it is no capture."""
    plain = _load("plain")
    if plain.is_whole(folder):
        return "plain"
    found = next((name for name in CAPTURES if not _lacking(folder, _load(name))), None)
    return found or ("plain" if plain.is_one(folder) else None)


def read(folder: Path) -> "Capture":
    """The capture in a folder. Raises `HiclError` if it is none, or what all its frames need can't be read."""
    return _load(find(folder) or "plain").read(folder)


def name_of(folder: Path) -> str:
    """What people call the capture in a folder."""
    return _load(find(folder) or "plain").NAME


def likeness(folder: Path) -> str:
    """Which capture a folder that is none is most like, and what it lacks; empty where it hasn't half of any."""
    lacking = {name: _lacking(folder, _load(name)) for name in CAPTURES}
    share = {name: 1 - len(lacking[name]) / len(_load(name).WANTS) for name in CAPTURES}
    nearest = max(CAPTURES, key=lambda name: (share[name], _named(folder, _load(name))))
    if share[nearest] < 0.5:
        return ""
    return f"most like {_load(nearest).NAME}, but no {' and no '.join(' or '.join(each) for each in lacking[nearest])}"


def why_none(folder: Path) -> str:
    """Why a folder is no capture."""
    return likeness(folder) or _load("plain").why_none(folder)


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _lacking(folder: Path, module: ModuleType) -> list[tuple[str, ...]]:
    """Those of a capture's wants of which a folder has nothing."""
    return [patterns for patterns in module.WANTS if not any(_has(folder, pattern) for pattern in patterns)]


def _named(folder: Path, module: ModuleType) -> int:
    """How many of its wants a folder has by a name of their own, which says more than a folder called images."""
    return sum(any("*" not in pattern and _has(folder, pattern) for pattern in patterns) for patterns in module.WANTS)


def _has(folder: Path, pattern: str) -> bool:
    if "*" not in pattern:
        return (folder / pattern).exists()
    return any(not path.name.startswith(".") for path in folder.glob(pattern))
