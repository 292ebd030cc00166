"""How the miniature's data sets are written: scene by scene, so that a killed run goes on where it stopped.

Each is marked by `miniature.json`: its settings, and "complete", which turns true when everything is there.
"""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from types import ModuleType

from hicl.errors import HiclError
from hicl.files import part_of, replacing
from hicl.processes import compiling, pool
from hicl.read import read_json

FORMAT = "hicl-miniature"
FIRST_TEACHER_SEED = 10_000_000  # scenes from this seed on are the teachers' own and never part of a data set


def checked(scenes: int, seed: int, val_scenes: int | None) -> int:
    """How many of the scenes are for validation, by default a quarter. Raises `HiclError` for what can't be written."""
    val_scenes = max(1, scenes // 4) if val_scenes is None else val_scenes
    if not 1 <= scenes <= 10_000:
        raise HiclError(f"a miniature has between 1 and 10000 scenes, not {scenes}")
    if not 0 <= val_scenes <= scenes:
        raise HiclError(f"{val_scenes} of {scenes} scenes can't be for validation; choose between 0 and {scenes}")
    if not 0 <= seed < FIRST_TEACHER_SEED:
        raise HiclError(
            f"seed {seed}: choose one from 0 to {FIRST_TEACHER_SEED - 1}; the scenes beyond are those that the "
            "miniature's teacher was trained on"
        )
    return val_scenes


def claim(out: Path, settings: dict, stamp: int) -> bool:
    """Mark `out` as the place of this set, and say whether it was complete already.

    Raises `HiclError` for a folder that holds something else.
    """
    marker = out / "miniature.json"
    try:
        found = read_json(marker)
    except FileNotFoundError:
        if out.exists() and (not out.is_dir() or any(p != part_of(marker) for p in out.iterdir())):
            raise HiclError(f"{out}: is not empty and holds no miniature; choose another --out") from None
        write_text(marker, json.dumps(settings | {"complete": False}, indent=1) + "\n", stamp)
        return False
    except HiclError as error:
        raise HiclError(f"{error}; delete {out} and make the miniature again") from None
    complete = found.pop("complete", None) if isinstance(found, dict) else None
    if complete is None or found != settings:
        differ = [k for k in settings if not isinstance(found, dict) or found.get(k) != settings[k]]
        raise HiclError(
            f"{out}: holds a miniature made with other settings ({', '.join(differ) or 'unknown ones'} differ); "
            "choose another --out, or delete it"
        )
    return complete is True


def complete(out: Path, settings: dict, stamp: int) -> None:
    """Say that everything is there."""
    write_text(out / "miniature.json", json.dumps(settings | {"complete": True}, indent=1) + "\n", stamp)


def write_each(
    write: Callable[[int], None],
    names: Sequence[str],
    here: Sequence[bool],
    kernels: ModuleType,
    workers: int,
    progress: Callable[[str], None] | None,
) -> None:
    """Have each scene written that isn't `here`: `write` gets its number.

    progress is called with every scene's name as it is finished, those that are here first. kernels: a module of those
    that writing compiles.
    """

    def done(name: str) -> None:
        if progress:
            progress(name)

    todo = []
    for index, name in enumerate(names):
        if here[index]:
            done(name)
        else:
            todo.append(index)

    def alone(indices: list[int]) -> None:
        for index in indices:
            write(index)
            done(names[index])

    with compiling(kernels):  # one scene alone first: it compiles the kernels
        alone(todo[:1])
    rest = todo[1:]
    if workers <= 1:
        alone(rest)
    elif rest:
        with pool(min(workers, len(rest))) as processes:
            tasks = {processes.submit(write, index): names[index] for index in rest}
            for task in as_completed(tasks):
                task.result()
                done(tasks[task])


def stamp(what: str) -> int:
    """A time in nanoseconds that depends on what is written only: caches recognise files by size and time."""
    return (1_600_000_000 + zlib.crc32(what.encode()) % 100_000_000) * 1_000_000_000


def write_bytes(path: Path, data: bytes, stamp: int) -> None:
    """Write a file whole, with that time."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        os.utime(temporary, ns=(stamp, stamp))


def write_text(path: Path, text: str, stamp: int) -> None:
    """The same of text."""
    write_bytes(path, text.encode(), stamp)
