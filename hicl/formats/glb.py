"""GLB, binary glTF: Blender, Windows' and macOS' own viewers, web pages.

A node a class, of its name and in its colour, so that a class is switched on and off by itself; triangles where the
surface has faces, else points. Source: Khronos, glTF 2.0 specification, and its extension KHR_materials_unlit.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hicl.clouds import corners
from hicl.files import replacing
from hicl.formats.labelled import Labelled
from hicl.pipeline.picture import class_colors

_POINTS, _TRIANGLES, _FLOAT, _UINT32 = 0, 4, 5126, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
# glTF has y up: a quarter turn about x brings our z there. Rows of a quaternion x, y, z, w.
_Z_UP = [-(0.5**0.5), 0.0, 0.0, 0.5**0.5]


def write(path: Path, labelled: Labelled) -> None:
    """Metres, counted from the cloud's origin, which the root node brings back. Where the corners of a triangle have
    several classes, it has the one that two of them share, else the first's."""
    cloud, parts = labelled.cloud, _Parts()
    kind = np.where(labelled.named, labelled.label, len(labelled.classes)).astype(np.int64)
    names, colors = (*labelled.classes, "none"), class_colors(labelled.classes)
    colors = np.concatenate([colors[: len(labelled.classes)], class_colors(())[:1]])
    of_face = None if cloud.faces is None else _class_of_faces(kind[cloud.faces])
    for number in np.unique(kind if of_face is None else of_face).tolist():
        if cloud.faces is None or of_face is None:
            parts.add(names[number], colors[number], cloud.xyz[kind == number], None)
        else:
            used, index = np.unique(cloud.faces[of_face == number], return_inverse=True)
            parts.add(names[number], colors[number], cloud.xyz[used], index)
    with replacing(path) as temporary:
        temporary.write_bytes(parts.file(cloud.origin))


def _class_of_faces(of_corners: np.ndarray) -> np.ndarray:
    """int [T, 3] -> int [T]."""
    first, second, third = of_corners.T
    return np.where(second == third, second, first)


class _Parts:
    """Collects what the file holds."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._lists: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("nodes", "meshes", "materials", "accessors", "bufferViews")
        }

    def add(self, name: str, color: np.ndarray, xyz: np.ndarray, index: np.ndarray | None) -> None:
        """A node of points [N, 3], or of triangles by the numbers of their corners [3 T]."""
        low, high = corners(xyz)
        bounds = {"type": "VEC3", "min": low.tolist(), "max": high.tolist()}
        position = self._array(xyz.astype("<f4"), _FLOAT, _ARRAY_BUFFER, bounds)
        part: dict[str, Any] = {"attributes": {"POSITION": position}, "mode": _POINTS}
        if index is not None:
            corner = self._array(index.ravel().astype("<u4"), _UINT32, _ELEMENT_ARRAY_BUFFER, {"type": "SCALAR"})
            part |= {"indices": corner, "mode": _TRIANGLES}
        share = color / 255.0
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1, sRGB
        look = {"baseColorFactor": [*linear.tolist(), 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
        material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": look, "doubleSided": True}
        if index is None:  # points have no side to be lit from
            material["extensions"] = {"KHR_materials_unlit": {}}
        part["material"] = self._append("materials", material)
        mesh = self._append("meshes", {"name": name, "primitives": [part]})
        self._append("nodes", {"name": name, "mesh": mesh})

    def _array(self, values: np.ndarray, component: int, target: int, about: dict[str, Any]) -> int:
        start, data = len(self._bytes), values.tobytes()
        self._bytes += data
        view = self._append(
            "bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data), "target": target}
        )
        return self._append(
            "accessors", {"bufferView": view, "componentType": component, "count": len(values), **about}
        )

    def _append(self, kind: str, item: dict[str, Any]) -> int:
        self._lists[kind].append(item)
        return len(self._lists[kind]) - 1

    def file(self, origin: np.ndarray) -> bytes:
        east, north, up = origin.tolist()
        children = list(range(len(self._lists["nodes"])))
        root = {"name": "scene", "rotation": _Z_UP, "translation": [east, up, -north], "children": children}
        scene = self._append("nodes", root)
        unlit = any("extensions" in material for material in self._lists["materials"])
        content: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "hicl"},
            "scene": 0,
            "scenes": [{"nodes": [scene]}],
            **self._lists,
            "buffers": [{"byteLength": len(self._bytes)}],
        }
        if unlit:
            content["extensionsUsed"] = ["KHR_materials_unlit"]
        text = json.dumps(content, separators=(",", ":")).encode()
        chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", bytes(self._bytes))]
        body = b"".join(len(data).to_bytes(4, "little") + kind + data for kind, data in chunks)
        return b"glTF" + (2).to_bytes(4, "little") + (12 + len(body)).to_bytes(4, "little") + body
