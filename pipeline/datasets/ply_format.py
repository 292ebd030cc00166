"""The PLY format: a header that declares elements and their properties, then row after row of them.

Rows are text, a row a line, or binary in either byte order. Nothing is allocated beyond a small multiple of the file's
size, whatever its header says. Source: Greg Turk, The PLY Polygon File Format, 1994.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.ply_text import Lines, read_numbers
from hicl.read import told_apart

_KINDS = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
    **{kind: kind for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")},  # not PLY's, but known to readers
}
_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 20
_END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)


class Property(NamedTuple):
    """kind: NumPy's name of the type, without byte order. length: that of a list's length, "" for a plain number."""

    name: str
    kind: str
    length: str = ""


@dataclass(frozen=True)
class Element:
    """A table of `rows` rows. Names of properties are in lower case."""

    name: str
    rows: int
    properties: tuple[Property, ...]

    @property
    def has_lists(self) -> bool:
        return any(p.length for p in self.properties)

    @property
    def smallest_row(self) -> int:
        """Bytes of a binary row whose lists are empty."""
        return sum(np.dtype(p.length or p.kind).itemsize for p in self.properties)


@dataclass(frozen=True)
class Header:
    """style: ascii, binary_little_endian or binary_big_endian. size: bytes of the header. lines: of it."""

    style: str
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int
    lines: int

    def element(self, name: str) -> Element | None:
        return next((element for element in self.elements if element.name == name), None)


def read_header(path: Path) -> Header:
    """Raises `HiclError` where it can't be read, isn't a PLY's, or a line of it isn't understood."""
    try:
        with open(path, "rb") as file:
            head = file.read(_LONGEST_HEADER)
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
    end = _END.search(head)
    if not re.match(rb"ply\s", head) or end is None:
        raise HiclError(f"{path}: no PLY header{told_apart(head)}")
    lines = head[: end.start()].decode("utf-8", "replace").splitlines()
    style, comments = "", []
    elements: list[tuple[str, int, list[Property]]] = []
    for line in lines[1:]:
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            style = words[1]
        elif words[:1] == ["comment"]:
            comments.append(line.strip()[8:])
        elif words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isascii() or not words[2].isdigit():
                raise HiclError(f"{path}: bad line in the PLY header: {line!r}")
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements:
            elements[-1][2].append(_property(words, line, path))
    if style not in _ORDERS:
        raise HiclError(f"{path}: PLY format {style!r}; known are {', '.join(_ORDERS)}")
    found = tuple(Element(name, rows, _distinct(properties, path)) for name, rows, properties in elements)
    return Header(style, found, tuple(comments), end.end(), len(lines) + 1)


def _property(words: list[str], line: str, path: Path) -> Property:
    is_list = words[1:2] == ["list"]
    if len(words) != (5 if is_list else 3):
        raise HiclError(f"{path}: bad line in the PLY header: {line!r}")
    kinds = words[2:4] if is_list else words[1:2]
    for kind in kinds:
        if kind not in _KINDS:
            known = "float" if re.match("float|half|real", kind) else "uint32" if kind.startswith("u") else "int32"
            raise HiclError(f"{path}: {line.strip()!r}: type {kind} isn't PLY's; write {known}")
    *length, kind = (_KINDS[kind] for kind in kinds)
    if length and length[0][0] == "f":
        raise HiclError(f"{path}: bad line in the PLY header: {line!r}; a list's length is an integer")
    return Property(words[-1], kind, *length)


def _distinct(properties: list[Property], path: Path) -> tuple[Property, ...]:
    """The properties, their names in lower case; as they are where two would then have one name."""
    lower = [p._replace(name=p.name.lower()) for p in properties]
    for named in (lower, properties):
        names = [p.name for p in named]
        if len(set(names)) == len(names):
            return tuple(named)
    twice = next(name for name in names if names.count(name) > 1)
    raise HiclError(f"{path}: two properties {twice!r} in the PLY header")


class Table:
    """The rows of one element.

    data: u1 [B], the whole file; for text the numbers of all lines as integers of 8 bytes, -2^62 for what isn't one.
    values: f8 [B / 8] the numbers themselves for text, else None.
    """

    def __init__(
        self, element: Element, data: np.ndarray, start: int, order: str, values: np.ndarray | None, path: Path
    ):
        self.element, self._data, self._start, self._order = element, data, start, order
        self._values, self._path = values, path
        self._located: dict[int, tuple[np.ndarray, int]] = {}
        self._fields = np.array(
            [(self._bytes(p.length), p.length.startswith("i"), self._bytes(p.kind)) for p in element.properties],
            np.int64,
        ).reshape(-1, 3)

    def _bytes(self, kind: str) -> int:
        return 0 if not kind else np.dtype(kind).itemsize if self._values is None else 8

    def locate(self, column: int) -> tuple[np.ndarray, int]:
        """(where a column of each row begins, int64 [rows]; where the last row ends, -1 where the data end before)."""
        from hicl.pipeline.kernels.lists import locate

        if column not in self._located:
            rows, big = self.element.rows, self._order == ">"
            self._located[column] = locate(self._data, self._start, rows, self._fields, column, big)
        return self._located[column]

    @cached_property
    def end(self) -> int:
        """Where the rows end. Raises `HiclError` where the file ends before."""
        if self.element.has_lists:
            end = self.locate(0)[1]
        else:
            end = self._start + self.element.rows * int(self._fields[:, 2].sum())
        if not 0 <= end <= len(self._data):
            raise HiclError(f"{self._path}: ends within its element {self.element.name!r}; truncated or damaged")
        return end

    def numbers(self) -> np.ndarray:
        """The plain numbers of the rows as a structured array [rows]; lists are passed over. Raises `HiclError`."""
        kinds = [(p.name, (self._order if self._values is None else "=") + p.kind) for p in self.element.properties]
        if self._values is None and not self.element.has_lists:
            return np.frombuffer(self._data, np.dtype(kinds), self.element.rows, self._start)
        plain = [column for column, p in enumerate(self.element.properties) if not p.length]
        found = np.empty(self.element.rows, [kinds[column] for column in plain])
        for column in plain:
            at = self.locate(column)[0]
            name, kind = kinds[column]
            if self._values is not None:
                found[name] = self._cast(self._values[at // 8], name, np.dtype(kind))
            else:
                size = np.dtype(kind).itemsize
                found[name] = self._data[at[:, None] + np.arange(size)].view(kind)[:, 0]
        return found

    def _cast(self, values: np.ndarray, name: str, kind: np.dtype) -> np.ndarray:
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            wrong = ~((values == np.rint(values)) & (values >= limits.min) & (values <= limits.max))
            if wrong.any():
                value = values[np.argmax(wrong)]
                raise HiclError(f"{self._path}: {value:g} for {name!r}, which its header declares as {kind.name}")
        with np.errstate(over="ignore"):  # becomes inf, as in a binary file
            return values.astype(kind)

    def triangles(self, column: int, n_vertices: int) -> np.ndarray:
        """A column of polygons as fans of triangles, int32 [T, 3]. Raises `HiclError` for one that isn't a polygon of
        these vertices."""
        from hicl.pipeline.kernels.lists import fans

        signed = self._values is not None or self.element.properties[column].kind.startswith("i")
        where = self.locate(column)[0]
        faces, length, index = fans(self._data, where, self._fields[column], signed, self._order == ">", n_vertices)
        if length < 3:
            raise HiclError(f"{self._path}: a face of {length} vertices; truncated or damaged")
        if index:
            raise HiclError(f"{self._path}: a face points to vertex {index} of {n_vertices}")
        return faces


def read_tables(path: Path, header: Header) -> dict[str, Table]:
    """The elements of a file by name. Raises `HiclError` if it is shorter or longer than its header says."""
    data = np.fromfile(path, np.uint8)
    order, text = _ORDERS[header.style], header.style == "ascii"
    row_bytes = {e.name: 2 * len(e.properties) if text else e.smallest_row for e in header.elements}
    fewest = header.size + sum(e.rows * row_bytes[e.name] for e in header.elements) - text  # text: a last line's end
    if (found := len(data)) < fewest:
        raise HiclError(f"{path}: its header promises {fewest} bytes or more but it has {found}; truncated or damaged")
    start, values = header.size, None
    lines: Lines | None = None
    if text:
        values, lines = read_numbers(data[header.size :].tobytes(), path)
        whole = np.where(values == np.rint(values), values, np.nan)
        with np.errstate(invalid="ignore"):
            data = np.where(np.abs(whole) < 2**62, whole, -(2.0**62)).astype("<i8").view(np.uint8)
        start = 0
    tables: dict[str, Table] = {}
    line = 0
    for element in header.elements:
        if not element.properties:
            continue
        table = Table(element, data, start, order, values, path)
        if lines is not None:
            _assert_lines(table, lines, line, header, path)
            line += element.rows
        start = table.end
        tables.setdefault(element.name, table)
    rest = lines.starts[line + 1 :] if lines is not None else data[start : start + 16].tobytes().strip()
    if len(rest):
        raise HiclError(f"{path}: goes on after the counts in its header; damaged")
    return tables


def _assert_lines(table: Table, lines: Lines, first: int, header: Header, path: Path) -> None:
    """A row of text is a line. Raises `HiclError` with the first that has more or fewer numbers, or is missing."""
    element = table.element
    there = len(lines.line) - first
    expected = 8 * lines.starts[first : first + element.rows + 1]
    found, end = table.locate(0)
    found = np.append(found, end)
    differ = np.flatnonzero(found[: len(expected)] != expected)
    if len(differ):
        row = max(int(differ[0]) - 1, 0)
        number = header.lines + 1 + int(lines.line[first + row])
        has = int(lines.starts[first + row + 1] - lines.starts[first + row])
        said = "another number" if element.has_lists else str(len(element.properties))
        raise HiclError(f"{path}: line {number} has {has} numbers; its header says {said} for a {element.name}")
    if there < element.rows:
        raise HiclError(f"{path}: {there} lines for {element.rows} of {element.name!r}; truncated or damaged")
