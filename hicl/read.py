"""Small files that others made, text and JSON, as what they hold or as one line that says what is wrong."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hicl.errors import HiclError

MOST_BYTES = 1 << 28  # of a file that is read in one piece; ScanNet's largest segs.json has 4 MB


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A regular file's content. Raises `HiclError` also where it has more than `most` bytes; else as `opened`."""
    with opened(path) as (file, size):
        if size > most:
            raise HiclError(f"{path}: {size} bytes, expected at most {most}; not what it is taken for")
        content = file.read(most + 1)  # it may grow, or be of the kernel's making and without a size
        if len(content) > most:
            raise HiclError(f"{path}: more than {most} bytes; not what it is taken for")
        return content


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[tuple[BinaryIO, int]]:
    """(a regular file, its bytes). Raises `FileNotFoundError` if there is none, and `HiclError` if it can't be read, or
    is a pipe or a device, which might never end."""
    try:
        # A pipe is opened only to be refused, and without waiting for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError:  # a NUL in the name
        raise HiclError(f"{str(path)!r}: no such file") from None
    try:
        with open(descriptor, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise HiclError(f"{path}: not a regular file")
            yield file, about.st_size
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None


def parse_json(content: bytes | str, where: str | Path) -> Any:
    """What a JSON text in UTF-8 holds. Raises `HiclError` naming `where`."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        found = json.loads(text)
        if "\\u" in text:  # half a character, as "\ud800" is, could never be written again
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except RecursionError:
        raise HiclError(f"{where}: not readable JSON (nested too deeply)") from None
    except ValueError as error:
        raise HiclError(f"{where}: not readable JSON ({error})") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `FileNotFoundError` or `HiclError`."""
    return parse_json(read_bytes(path), path)


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
