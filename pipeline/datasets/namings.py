"""How the files of posed RGB-D folders are named, and which of them belong together.

    7-Scenes, 3RScan, tsdf-fusion    frame-000000.color.jpg   frame-000000.depth.png   frame-000000.pose.txt
    ScanNet's exporters              color/0.jpg              depth/0.png              pose/0.txt
    mmdetection3d                    00000.jpg                00000.png                00000.txt

Any name will do in place of the number, and endings in capitals; colour may be .jpg, .jpeg or .png, depth .png, .pgm,
.tiff, .exr or .npy.
Names that begin with a dot belong to the file system's keepers, and are nobody's frames.
"""

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from hicl.errors import HiclError

_LARGEST = 2**31 - 1  # frames are numbered in int32


@dataclass(frozen=True)
class FrameFiles:
    """The files of a frame. missing: those of them that aren't there."""

    color: Path
    depth: Path
    pose: Path
    missing: tuple[Path, ...] = ()


class _Naming(NamedTuple):
    """Folder and endings of each kind of file; the first ending is the one that is meant where a file is missing."""

    color: tuple[str, tuple[str, ...]]
    depth: tuple[str, tuple[str, ...]]
    pose: tuple[str, tuple[str, ...]]


DEPTHS = (".png", ".pgm", ".tiff", ".tif", ".exr", ".npy")
_NAMINGS = (
    _Naming(
        ("", (".color.jpg", ".color.jpeg", ".color.png")),
        ("", tuple(f".depth{ending}" for ending in DEPTHS)),
        ("", (".pose.txt",)),
    ),
    _Naming(("color", (".jpg", ".jpeg", ".png")), ("depth", DEPTHS), ("pose", (".txt",))),
    _Naming(("", (".jpg", ".jpeg")), ("", DEPTHS), ("", (".txt",))),
)


def entries(folder: Path) -> list[str]:
    """Names in a folder, sorted, without those that begin with a dot; none where it can't be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def list_frames(folder: Path) -> dict[str, FrameFiles]:
    """Frames of a folder by name, in no order; none where not one has more than its colour image."""
    for naming in _NAMINGS:
        frames = _frames(folder, naming)
        if any(len(files.missing) < 2 for files in frames.values()):
            return {name.removeprefix("frame-"): files for name, files in frames.items()}
    return {}


def why_none(folder: Path) -> str:
    """Why `list_frames` finds none in a folder."""
    for naming in _NAMINGS:
        for files in _frames(folder, naming).values():
            missing = " and no ".join(str(path.relative_to(folder)) for path in files.missing)
            return f"{files.color.relative_to(folder)}, but no {missing}"
    return "no colour images by a known naming"


def numbered(names: list[str]) -> dict[int, str]:
    """Names by number, ascending: their own numbers, or, where they aren't distinct whole numbers that an int32 holds
    (times, words), their places in order."""
    own = {int(name): name for name in names if re.fullmatch("[0-9]{1,10}", name)}
    if len(own) < len(names) or max(own, default=0) > _LARGEST:
        own = dict(enumerate(in_order(names)))
    return dict(sorted(own.items()))


def in_order(names: list[str]) -> list[str]:
    """Names ascending, by the numbers in them."""
    return sorted(names, key=_order)


def _order(name: str) -> tuple:
    """Numbers by value, words with numbers inside by these."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", name):
        return 0, Decimal(name), name
    return 1, [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)], name


def _frames(folder: Path, naming: _Naming) -> dict[str, FrameFiles]:
    color = by_name(folder / naming.color[0], naming.color[1])
    if not color:
        return {}
    others = [(by_name(folder / parent, endings), folder / parent, endings[0]) for parent, endings in naming[1:]]
    frames = {}
    for name, file in color.items():
        found = [files.get(name) for files, _, _ in others]
        if any(found) or re.search("[0-9]", name):  # and not thumbs.jpg
            meant = [parent / f"{name}{ending}" for _, parent, ending in others]
            missing = tuple(path for path, there in zip(meant, found, strict=True) if there is None)
            frames[name] = FrameFiles(file, found[0] or meant[0], found[1] or meant[1], missing)
    return frames


def by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Files by what stands before the ending; of two with one name, the one whose ending is listed first."""
    found: dict[str, Path] = {}
    names = [(name, name.lower()) for name in entries(folder)]
    for ending in endings:
        for name, lower in names:
            if lower.endswith(ending) and len(name) > len(ending) and name[: -len(ending)] not in found:
                found[name[: -len(ending)]] = folder / name
    return found


def image_files(folder: Path, option: str) -> list[Path]:
    """The images in a folder. Raises `HiclError` if there is none, with the option that named it."""
    files = sorted(by_name(folder, (".png",)).values())
    if not files:
        raise HiclError(f"{folder}: no images; {option} holds <scene>/<frame>.png")
    return files
