"""Names that become names of files: a scene's, a version's, an attempt's."""

from typing import Any

from hicl.cache.schema import MAX_ITEMS
from hicl.errors import HiclError

# Bytes. An attempt at a scene adds 13 to its name and a file not yet whole one; file systems take 255.
MOST_BYTES = 200


def is_plain(name: Any) -> bool:
    """Whether a name is one component of a path and no more, on any file system: not empty, over-long or hidden, and
    without separators or what can't be printed."""
    if not isinstance(name, str) or not name or name.startswith(".") or not name.isprintable():
        return False
    return not {"/", "\\"} & set(name) and len(name.encode("utf-8", "surrogatepass")) <= MOST_BYTES


def assert_plain(name: Any, where: object) -> None:
    """Raises `HiclError`, naming `where` it stands."""
    if not is_plain(name):
        shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:80]}…"
        raise HiclError(
            f"{where}: {shown} can't be a scene's name: 1 to {MOST_BYTES} printable characters without / and \\,"
            " the first no dot"
        )


def item_name(group: str, number: int) -> str:
    """Id of a group's n-th scene, from 0."""
    return f"{group}.{number:03d}"


def item_of(scene_id: str) -> tuple[str, int] | None:
    """(group, number) of a scene's id; None where no scene in a group has such."""
    group, _, digits = scene_id.rpartition(".")
    if not (len(digits) == len(str(MAX_ITEMS - 1)) and digits.isascii() and digits.isdecimal() and is_plain(group)):
        return None
    return group, int(digits)
