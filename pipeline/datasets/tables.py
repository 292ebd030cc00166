"""JSON tables of any size: a list of objects, of which a few fields of some rows are wanted.

nuScenes' tables have gigabytes, and a Python dictionary for each of their millions of rows has more. Here the bytes are
read piece by piece, a kernel finds where the wanted values stand, rows are chosen by comparing bytes, and only values
of chosen rows become Python's, by the json module. What the kernel can't vouch for, as names with escapes, the json
module reads instead; so the result is that module's for any table of this form.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.kernels import tables as kernels
from hicl.read import told_apart

_PIECE = 1 << 24  # bytes read at once, and the most that a row may have
_ROOM = 1 << 16  # rows found at once


class Texts:
    """Texts to look for in a table: `first[i]` is the place of the first that equals the i-th."""

    def __init__(self, texts: Sequence[str]):
        self._texts = texts
        together = "".join(texts)
        if together.isascii() and together.isalnum():  # as all of nuScenes' tokens
            written = [b'"%b"' % text.encode() for text in texts]
        else:
            written = [json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass") for text in texts]
        self._blob, self._bounds = _joined(written)
        self._slots = np.full(1 << (2 * len(texts) + 1).bit_length(), -1, np.int64)
        self.first = kernels.enter(self._blob, self._bounds, self._slots)
        self._by_text: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._texts)

    def places(self, data: np.ndarray, spans: np.ndarray, escaped: bool) -> np.ndarray:
        """int32 [R]: the place of what stands at each of spans int64 [R, 2], -1 for another. escaped: whether there may
        be backslashes, so that a letter is written in more than one way."""
        found = kernels.look_up(self._blob, self._bounds, self._slots, data, spans)
        if escaped:
            if self._by_text is None:
                self._by_text = {text: place for place, text in reversed(list(enumerate(self._texts)))}
            for row, (begin, end) in enumerate(spans.tolist()):
                value = data[begin:end].tobytes() if begin >= 0 else b""
                if b"\\" in value and value.startswith(b'"'):
                    found[row] = self._by_text.get(json.loads(value), -1)
        return found


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, as bytes: spans int64 [R, F, 2] is where in data the values of the fields stand. escaped:
    whether any of their strings holds a backslash."""

    path: Path
    data: np.ndarray
    fields: tuple[str, ...]
    spans: np.ndarray
    escaped: bool

    def among(self, field: str, texts: Texts, chosen: np.ndarray | None = None) -> np.ndarray:
        """int32 [R], or of the rows that are chosen: the place of a field's value among some texts, -1 where it is none
        of them."""
        spans = self._spans(field) if chosen is None else self._spans(field)[chosen]
        return texts.places(self.data, np.ascontiguousarray(spans), self.escaped)

    def true(self, field: str) -> np.ndarray:
        """bool [R]: where a field's value is true."""
        begin, end = self._spans(field).T
        return (end - begin == 4) & (self.data[begin] == ord("t"))

    def values(self, field: str, chosen: np.ndarray | None = None) -> list[Any]:
        """A field's values in all rows, or in those that are chosen (int [M] or bool [R]). Raises `HiclError` where a
        row has none."""
        spans = self._spans(field) if chosen is None else self._spans(field)[chosen]
        lacking = np.flatnonzero(spans[:, 0] < 0)
        if len(lacking):
            raise HiclError(f"{self.path}: a row without {field!r}; not nuScenes' table of this name")
        content = self.data.data
        text = b"[" + b",".join([content[begin:end] for begin, end in spans.tolist()]) + b"]"
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HiclError(f"{self.path}: not readable JSON at a row's {field!r} ({error}); get it again") from None

    def _spans(self, field: str) -> np.ndarray:
        return self.spans[:, self.fields.index(field)]


def rows(path: Path, fields: tuple[str, ...]) -> Iterator[Rows]:
    """The rows of a table, some at a time; each is good until the next is asked for.

    Raises `HiclError` if there is no such file, or it isn't a JSON list of objects, all of it.
    """
    keys, bounds = _joined([field.encode() for field in fields])
    data, held, state = np.empty(_PIECE, np.uint8), 0, kernels.OPEN
    spans = np.empty((_ROOM, len(fields), 2), np.int64)
    number = 0
    try:
        file = open(path, "rb", buffering=0)
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror}); --root holds all of nuScenes' tables") from None
    with file:
        while True:
            got = file.readinto(data[held:].data)
            held += got or 0
            if number == 0 and state == kernels.OPEN and (said := told_apart(data[: min(held, 512)].tobytes())):
                raise HiclError(f"{path}: not a table of JSON{said}")
            escaped = np.zeros(1, np.bool_)
            found, done, state, why = kernels.scan(data, held, state, keys, bounds, spans, escaped)
            if found:
                yield Rows(path, data[:held], fields, spans[:found], bool(escaped[0]))
                number += found
            if why == kernels.BROKEN and done == 0:
                row, done = _by_hand(path, data[:held], number, state)
                state, number = kernels.ROW, number + 1
                yield from _again(path, row, fields, keys, bounds)
            elif not got and found == 0 and done == 0 and (held or state != kernels.CLOSED):
                break
            elif held == len(data) and found == 0 and done == 0:
                raise HiclError(f"{path}: row {number + 1} has more than {_PIECE} bytes; not nuScenes' table")
            held -= done
            data[:held] = data[done : done + held].copy()
            if not got and held == 0:
                break
    if state != kernels.CLOSED:
        raise HiclError(f"{path}: ends within its list, after {number} rows; it was cut off, get it again")


def columns(path: Path, fields: tuple[str, ...]) -> dict[str, list[Any]]:
    """All values of some fields of a table, by field. Raises `HiclError` as of `rows` and `Rows.values`."""
    found: dict[str, list[Any]] = {field: [] for field in fields}
    for some in rows(path, fields):
        for field in fields:
            found[field] += some.values(field)
    return found


def _by_hand(path: Path, data: np.ndarray, number: int, state: int) -> tuple[dict, int]:
    """A row that the kernel couldn't read, by the json module, and its length in bytes. Raises `HiclError`."""
    place = f"{path}: row {number + 1}"
    if state not in (kernels.FIRST, kernels.NEXT):
        wanted = "a list of rows" if state == kernels.OPEN else "nothing" if state == kernels.CLOSED else "a comma"
        raise HiclError(f"{path}: expected {wanted} after {number} rows; not a table of nuScenes, or a damaged one")
    content = data.tobytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        text = content[: error.start].decode("utf-8")  # the row may end before, and the bytes at hand within a letter
    try:
        row, length = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise HiclError(f"{place} is not readable JSON ({error}); get it again") from None
    if not isinstance(row, dict):
        raise HiclError(f"{place} is no object; not a table of nuScenes")
    return row, len(text[:length].encode())


def _again(path: Path, row: dict, fields: tuple[str, ...], keys: np.ndarray, bounds: np.ndarray) -> Iterator[Rows]:
    """A row as the kernel reads it."""
    kept = json.dumps([{field: row[field] for field in fields if field in row}], ensure_ascii=False)
    data = np.frombuffer(kept.encode("utf-8", "surrogatepass"), np.uint8).copy()
    spans = np.empty((1, len(fields), 2), np.int64)
    escaped = np.zeros(1, np.bool_)
    kernels.scan(data, len(data), kernels.OPEN, keys, bounds, spans, escaped)
    yield Rows(path, data, fields, spans, bool(escaped[0]))


def _joined(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Texts one behind the other uint8, and where each begins and the last ends int64 [M + 1]."""
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=bounds[1:])
    return np.frombuffer(bytearray(b"".join(texts)), np.uint8), bounds
