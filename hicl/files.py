"""Files that are there whole or not at all, and files that are something else than their name says."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to; what is there at the end of the block takes its place in one step.

    After an error nothing is left of it, and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def told_apart(head: bytes) -> str:
    """What a file is instead of what it should be, by its first bytes: " (…)" to go into an error; "" if unknown.

    Failed downloads leave an empty file or a page that says why; git without LFS leaves a pointer.
    """
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return " (an empty file; get it again)"
    if not head.strip(b"\0"):
        return " (nothing but zeros; get it again)"
    if start.startswith(b"version https://git-lfs"):
        return " (a Git LFS pointer; `git lfs pull` brings the file itself)"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return " (a web page, such as a failed download leaves; get it again)"
    return ""
