"""PLY files, read with plyfile, and checked first: a header that lies about its counts is an error, not a crash."""

import warnings
from pathlib import Path

import numpy as np

from hicl.errors import HiclError

_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_FRACTIONS = ("float", "float32", "double", "float64")


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(vertex, faces): the vertices as a structured array, and int32 [T, 3], or None for a file without faces.

    Polygons are cut into fans of triangles. Raises `HiclError` if the file is missing, isn't a PLY, is shorter or
    longer than its header says, has no vertex, or a face has fewer than three or points past the last one.
    """
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    style, elements, header = _header(path)
    fewest, all_triangles = _sizes(style, elements, header)
    found = path.stat().st_size
    if found < fewest:
        raise HiclError(f"{path}: its header promises {fewest} bytes or more but it has {found}; truncated or damaged")
    # Known lengths make faces a plain array: milliseconds instead of seconds.
    index = _index_list(elements)
    known = {"face": {index: 3}} if index and found == all_triangles else {}
    try:
        # A text file is opened as text: plyfile would wrap a binary one and close it behind itself.
        with (
            open(path, encoding="ascii") if style == "ascii" else open(path, "rb") as file,
            warnings.catch_warnings(action="ignore", category=UserWarning),  # NumPy's, of an empty list
        ):
            data = PlyData.read(file, known_list_len=known)
            left_over = file.read(16)
    except (PlyHeaderParseError, PlyElementParseError, ValueError, KeyError, OverflowError) as error:
        raise HiclError(f"{path}: not what its header promises ({error}); truncated or damaged") from None
    if left_over.strip():
        raise HiclError(f"{path}: goes on after the counts in its header; damaged")
    if "vertex" not in data:
        raise HiclError(f"{path}: no element 'vertex'")
    vertex = data["vertex"].data
    if len(vertex) == 0 or not {"x", "y", "z"} <= set(vertex.dtype.names or ()):
        raise HiclError(f"{path}: no vertices with x, y and z")
    if vertex.dtype.hasobject:
        raise HiclError(f"{path}: a vertex holds a list; only plain numbers are known there")
    faces = None
    if index and len(data["face"].data):
        faces = _triangles(data["face"].data[index], path)
        if faces.min() < 0 or faces.max() >= len(vertex):
            wrong = faces[(faces < 0) | (faces >= len(vertex))][0]
            raise HiclError(f"{path}: a face points to vertex {wrong} of {len(vertex)}")
    return vertex, faces


def _index_list(elements: list) -> str | None:
    """Name of the faces' list of vertices, whatever stands before it."""
    lines = [line.split() for name, _, lines in elements if name == "face" for line in lines]
    lists = [words[-1] for words in lines if words[1] == "list" and words[3] not in _FRACTIONS]
    return next((name for name in ("vertex_indices", "vertex_index") if name in lists), lists[0] if lists else None)


def vertex_count(path: Path) -> int:
    """Number of vertices by the header alone. Raises `HiclError`."""
    return next((count for name, count, _ in _header(path)[1] if name == "vertex"), 0)


def has_colors(path: Path) -> bool:
    """Whether the header promises colours for the vertices. Raises `HiclError`."""
    names = {line.split()[-1] for name, _, lines in _header(path)[1] if name == "vertex" for line in lines}
    return {"red", "green", "blue"} <= names


def has_property(path: Path, name: str) -> bool:
    """Whether the header promises a property of the vertices by this name. Raises `HiclError`."""
    return name in _vertex_properties(path)


def has_doubles(path: Path) -> bool:
    """Whether the vertices' coordinates are doubles. Raises `HiclError`."""
    return any(_vertex_properties(path).get(axis) in ("double", "float64") for axis in ("x", "X"))


def _vertex_properties(path: Path) -> dict[str, str]:
    """Type by name."""
    lines = [line.split() for name, _, lines in _header(path)[1] if name == "vertex" for line in lines]
    return {words[-1]: words[1] for words in lines}


def labels(path: Path, n_points: int) -> np.ndarray:
    """The vertices' property `label`, int64 [N]. Raises `HiclError` if there is none, or not one for each point."""
    vertex, _ = read_ply(path)
    if "label" not in (vertex.dtype.names or ()):
        raise HiclError(f"{path}: no vertex property 'label'")
    if len(vertex) != n_points:
        raise HiclError(f"{path}: {len(vertex)} labels for a mesh of {n_points} vertices")
    found = np.asarray(vertex["label"])
    whole = np.nan_to_num(found, nan=-1).astype(np.int64)
    if (whole != found).any():
        raise HiclError(f"{path}: label {found[whole != found][0]} is not a whole number")
    return whole


def xyz(vertex: np.ndarray, path: Path, dtype: type = np.float32) -> np.ndarray:
    """[N, 3] of `dtype`. Raises `HiclError` if a coordinate is not finite."""
    with np.errstate(over="ignore"):  # a double too large for float32 is said below
        points = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(dtype)
    if not np.isfinite(points).all():
        raise HiclError(f"{path}: vertex {int(np.argmin(np.isfinite(points).all(axis=1)))} is not finite")
    return points


def rgb(vertex: np.ndarray, path: Path) -> np.ndarray | None:
    """uint8 [N, 3], or None if the file has no colours.

    Colours may be bytes, 16-bit numbers, or fractions of 1 or of 255. Raises `HiclError` for any others.
    """
    if not {"red", "green", "blue"} <= set(vertex.dtype.names):
        return None
    color = np.stack([vertex[name] for name in ("red", "green", "blue")], axis=1)
    low, high = color.min(), color.max()
    if color.dtype.kind == "f" and 0 <= low and high <= 1:
        color = np.round(255 * color)
    elif color.dtype == np.uint16 and high > 255:
        color = color >> 8
    elif not (0 <= low and high <= 255):  # NaN too
        raise HiclError(f"{path}: colours from {low} to {high}; write them as 0 to 255, or as fractions of 1")
    return color.astype(np.uint8)


def _header(path: Path) -> tuple[str, list[tuple[str, int, list[str]]], int]:
    """(format, [(element, count, property lines)], bytes of the header)."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
    end = head.find(b"end_header")
    newline = head.find(b"\n", end)
    if not head.startswith(b"ply") or end < 0 or newline < 0:
        raise HiclError(f"{path}: no PLY header")
    style, elements = "", []
    for line in head[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            style = words[1]
        elif words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isdigit():
                raise HiclError(f"{path}: bad line in the PLY header: {line!r}")
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements:
            if len(words) != (5 if words[1:2] == ["list"] else 3):
                raise HiclError(f"{path}: bad line in the PLY header: {line!r}")
            elements[-1][2].append(line)
    return style, elements, newline + 1


def _sizes(style: str, elements: list, header: int) -> tuple[int, int]:
    """(fewest bytes the file can have, bytes it has if every list is a triangle)."""
    if style == "ascii":  # a digit and a separator each
        return header + sum(2 * count * max(len(properties), 1) for _, count, properties in elements) - 1, -1
    fewest = triangles = header
    for _, count, properties in elements:
        for line in properties:
            kind, *rest = line.split()[1:]
            if kind == "list":
                fewest += count * _BYTES.get(rest[0], 1)
                triangles += count * (_BYTES.get(rest[0], 1) + 3 * _BYTES.get(rest[1], 1))
            else:
                fewest += count * _BYTES.get(kind, 1)
                triangles += count * _BYTES.get(kind, 1)
    return fewest, triangles


def _triangles(lists: np.ndarray, path: Path) -> np.ndarray:
    if lists.ndim == 2:
        return np.ascontiguousarray(lists, np.int32)
    fewest = min(len(face) for face in lists)
    if fewest < 3:
        raise HiclError(f"{path}: a face of {fewest} vertices; truncated or damaged")
    fans = [(face[0], face[i], face[i + 1]) for face in lists for i in range(1, len(face) - 1)]
    return np.array(fans, np.int64).reshape(-1, 3).astype(np.int32)
