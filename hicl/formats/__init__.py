"""Labelled surfaces as files that other programs open, by the ending of their name."""

from collections.abc import Callable
from pathlib import Path

from hicl.errors import HiclError
from hicl.formats import glb, las, npz, ply
from hicl.formats.labelled import Labelled

WRITERS: dict[str, Callable[[Path, Labelled], None]] = {
    ".ply": ply.write,
    ".glb": glb.write,
    ".las": las.write,
    ".laz": las.write,
    ".npz": npz.write,
}


def assert_known(out: Path) -> None:
    """Raise `HiclError` unless a file of this name can be written: its ending, and the packages that it needs."""
    if out.suffix.lower() not in WRITERS:
        raise HiclError(f"-o {out}: give it a name that ends in {', '.join(WRITERS)}")
    if WRITERS[out.suffix.lower()] is las.write:
        las.laspy()


def write(out: Path, labelled: Labelled) -> None:
    """Write a file whole or not at all. Raises `HiclError` as `assert_known`, and where the format can't hold it."""
    assert_known(out)
    WRITERS[out.suffix.lower()](out, labelled)
