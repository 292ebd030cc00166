"""The numbers in the rows of a text PLY."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hicl.errors import HiclError

_NOT_A_NUMBER = re.compile(rb"[+-]?(?:nan\([^\s)]*\)|1\.#\w+)", re.IGNORECASE)  # as C libraries of Windows write it


class Lines(NamedTuple):
    """starts: int64 [L + 1], the first number of each line that isn't blank, and their count. line: its number."""

    starts: np.ndarray
    line: np.ndarray


def read_numbers(text: bytes, path: Path) -> tuple[np.ndarray, Lines]:
    """(all numbers of a text, float64; the lines they stand in). Raises `HiclError` for a word that is no number."""
    if b"#" in text or b"(" in text:
        text = _NOT_A_NUMBER.sub(b"nan", text)
    letters = np.frombuffer(text, np.uint8)
    inside = letters > 32
    first = inside.copy()
    first[1:] &= ~inside[:-1]
    begins = np.flatnonzero(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            values = np.fromstring(text, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            values = np.empty(0)
    if len(values) != len(begins):
        words = text.split()
        wrong = next((word for word in words if not _is_number(word)), words[-1] if words else b"")
        raise HiclError(f"{path}: {wrong[:40].decode('utf-8', 'replace')!r} where a number should be; damaged")
    ends = np.append(np.flatnonzero(letters == 10), len(letters))
    upto = np.searchsorted(begins, ends)
    held = np.diff(upto, prepend=0) > 0
    starts = np.concatenate([[0], upto[held]]).astype(np.int64)
    return values, Lines(starts, np.flatnonzero(held))


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
