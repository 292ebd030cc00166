"""Scans in PLY files, as the programs that people scan with write them: vertices, triangles, colours."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.ply_format import Element, read_header, read_tables

# Of the names that programs give to colours, the first that a file has. MeshLab once wrote diffuse_red.
_COLORS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_TEXTURE = {"s", "t", "u", "v", "texture_u", "texture_v", "texcoord"}


class Surface(NamedTuple):
    """vertex: structured array [N] with x, y and z, all finite. faces: int32 [T, 3], or None for a cloud.

    kept: bool [V] of the file's vertices; those that aren't finite are left out, with the faces that touch them.
    """

    vertex: np.ndarray
    faces: np.ndarray | None
    kept: np.ndarray

    @property
    def left_out(self) -> int:
        return int((~self.kept).sum())


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(vertex, faces): the vertices as a structured array, names in lower case, and int32 [T, 3], or None for a file
    without faces.

    Polygons are cut into fans of triangles. Elements and lists that have no meaning here are passed over. Raises
    `HiclError` if the file is missing, isn't a PLY, is shorter or longer than its header says, has no vertex, or a face
    has fewer than three or points past the last one.
    """
    header = read_header(path)
    tables = read_tables(path, header)
    vertices, polygons = header.element("vertex"), header.element("face")
    if vertices is None:
        raise HiclError(f"{path}: no element 'vertex'")
    if vertices.rows == 0 or not {"x", "y", "z"} <= set(_plain(vertices)):
        raise HiclError(f"{path}: no vertices with x, y and z")
    vertex, faces = tables["vertex"].numbers(), None
    column = _polygons(polygons)
    if polygons is not None and column is not None and polygons.rows:
        faces = tables["face"].triangles(column, vertices.rows)
    return vertex, faces


def read_surface(path: Path) -> Surface:
    """The same without vertices that have no finite place, as an organised cloud has them where nothing was measured.

    Raises `HiclError` as `read_ply` does, and if nothing is left.
    """
    vertex, faces = read_ply(path)
    finite = np.isfinite(vertex["x"]) & np.isfinite(vertex["y"]) & np.isfinite(vertex["z"])
    if finite.all():
        return Surface(vertex, faces, finite)
    if not finite.any():
        raise HiclError(f"{path}: none of its {len(vertex)} vertices is finite")
    if faces is not None:
        number = np.cumsum(finite, dtype=np.int32) - np.int32(1)
        faces = number[faces[finite[faces].all(axis=1)]]
    return Surface(vertex[finite], faces if faces is not None and len(faces) else None, finite)


def _plain(element: Element) -> list[str]:
    return [p.name for p in element.properties if not p.length]


def _polygons(face: Element | None) -> int | None:
    """Which property of the faces is their list of vertices, whatever stands before it."""
    properties = face.properties if face else ()
    lists = {p.name: column for column, p in enumerate(properties) if p.length and p.kind[0] != "f"}
    named = (lists[name] for name in ("vertex_indices", "vertex_index") if name in lists)
    return next(named, next(iter(lists.values()), None))


def vertex_count(path: Path) -> int:
    """Number of vertices by the header alone. Raises `HiclError`."""
    vertex = read_header(path).element("vertex")
    return vertex.rows if vertex else 0


def has_colors(path: Path) -> bool:
    """Whether the header promises colours for the vertices. Raises `HiclError`."""
    vertex = read_header(path).element("vertex")
    return vertex is not None and _color_names(_plain(vertex)) is not None


def _color_names(names: Iterable[str]) -> tuple[str, str, str] | None:
    return next((known for known in _COLORS if set(known) <= set(names)), None)


def why_no_colors(path: Path) -> str:
    """What a file without colours has in their place, and the way out. Raises `HiclError`."""
    header = read_header(path)
    names = {element.name: {p.name for p in element.properties} for element in header.elements}
    vertex, face = names.get("vertex", set()), names.get("face", set())
    if "f_dc_0" in vertex:
        return (
            "a Gaussian splat, with harmonics (f_dc_0 …) of blobs in place of coloured points of a surface; "
            "give the mesh or the cloud that it was made from, or export one from it"
        )
    if (vertex | face) & _TEXTURE or any(comment.startswith("TextureFile") for comment in header.comments):
        return (
            "no red, green and blue, its colours are in a texture; carry them over to the vertices (MeshLab: Transfer "
            "Color: Texture to Vertex)"
        )
    return "no red, green and blue; give a coloured mesh or cloud"


def has_property(path: Path, name: str) -> bool:
    """Whether the header promises a property of the vertices by this name. Raises `HiclError`."""
    vertex = read_header(path).element("vertex")
    return vertex is not None and name in _plain(vertex)


def has_doubles(path: Path) -> bool:
    """Whether the vertices' coordinates are doubles. Raises `HiclError`."""
    vertex = read_header(path).element("vertex")
    return vertex is not None and any(p.name == "x" and p.kind == "f8" for p in vertex.properties)


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
    points: np.ndarray = np.empty((len(vertex), 3), dtype)
    with np.errstate(over="ignore"):  # a double too large for float32 is said below
        for column, axis in enumerate("xyz"):
            points[:, column] = vertex[axis]
    if not np.isfinite(points).all():
        raise HiclError(f"{path}: vertex {int(np.argmin(np.isfinite(points).all(axis=1)))} is not finite")
    return points


def rgb(vertex: np.ndarray, path: Path) -> np.ndarray | None:
    """uint8 [N, 3], or None if the file has no colours.

    Colours may be bytes, 16-bit numbers, or fractions of 1 or of 255. Fractions may pass their ends a little, as what
    was interpolated or lit does: they are clipped. Raises `HiclError` for any others.
    """
    names = _color_names(vertex.dtype.names or ())
    if names is None:
        return None
    color = np.stack([vertex[name] for name in names], axis=1)
    low, high = color.min(), color.max()
    if color.dtype.kind == "f" and np.isfinite([low, high]).all():
        unit = 1 if _are_fractions(color, high) else 255
        if -unit / 2 <= low and high <= _BRIGHTEST * unit and (color > unit).mean() <= _BEYOND:
            return np.rint(np.clip(color, 0, unit) * (255 // unit)).astype(np.uint8)
    elif color.dtype == np.uint16 and high > 255:
        return (color >> 8).astype(np.uint8)
    elif 0 <= low and high <= 255:
        return color.astype(np.uint8)
    raise HiclError(f"{path}: colours from {low} to {high}; write them as 0 to 255, or as fractions of 1")


_BEYOND = 0.01  # of the colours may be brighter than white
_BRIGHTEST = 4  # times white


def _are_fractions(color: np.ndarray, high: float) -> bool:
    """Whether 1 is white, not 255: next to none are brighter, or none so much that they could be counts up to 255 of
    anything but the dark; and they aren't whole numbers."""
    if high <= 1:
        return True
    few = (color[color > 0] > 1).mean() <= _BEYOND
    return bool(few or high <= _BRIGHTEST) and not np.array_equal(color, np.rint(color))
