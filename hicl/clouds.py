"""Point clouds from and for other programs: PLY in, PLY with classes out."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.files import replacing

_NAMED = re.compile(rb"^comment label (\d+) is (.+?)\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Cloud:
    """xyz [N, 3] float32, metres from `origin`. rgb [N, 3] uint8. faces [T, 3] int32, None for a cloud without.

    origin: [3] float64. Surveyors' coordinates run to millions of metres, where float32 has steps of half a metre.
    left_out: points of the file that had no finite place.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    faces: np.ndarray | None = None
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    left_out: int = 0


def read_cloud(path: Path, voxel_size: float, scale: float | None = None) -> Cloud:
    """A coloured mesh or cloud for a network that works in voxels of `voxel_size` metres.

    scale: metres a unit of the file; None: the file is in metres, which is checked.

    Raises:
        HiclError: no such file, not a PLY, damaged, empty, coordinates that are too coarse, no colours, a stray point,
            another unit.
    """
    from hicl.pipeline.datasets import ply

    surface = ply.read_surface(path)
    vertex = surface.vertex
    rgb = ply.rgb(vertex, path)
    if rgb is None:
        raise HiclError(f"{path}: the network reads colours, and this is {ply.why_no_colors(path)}")
    if scale is not None and not 0 < scale < np.inf:
        raise HiclError(f"--scale {scale}: must be greater than 0; 0.001 for millimetres")
    points = ply.xyz(vertex, path, np.float64)
    if scale is not None:
        points *= scale
    _assert_extent(points, voxel_size, path)
    low, high = corners(points)
    far = max(-low.min(), high.max())
    single = all(vertex[axis].dtype.str[1:] == "f4" for axis in "xyz")  # in either byte order
    if single and np.spacing(np.float32(far / (scale or 1))) * (scale or 1) > voxel_size / 4:
        raise HiclError(
            f"{path}: coordinates up to {far:.4g} m as 32-bit floats, too coarse for voxels of {voxel_size} m;"
            " subtract an offset, or write them as doubles"
        )
    xyz, origin = near_zero(points)
    if scale is None:
        _assert_metres(xyz, voxel_size, path)
    return Cloud(xyz, rgb, surface.faces, origin, surface.left_out)


def near_zero(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N, 3] as float32 from an origin, float64 [3]: 0 unless they lie so far off that digits would be lost."""
    low, high = corners(points)
    if not max(-low.min(), high.max()) > _FAR:
        return points.astype(np.float32), np.zeros(3)
    origin = np.floor(low)
    return (points - origin).astype(np.float32), origin


def corners(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest coordinates [3] of points [N, 3]."""
    # Axis by axis: NumPy takes ten times as long for rows of three.
    low, high = zip(*((column.min(), column.max()) for column in points.T), strict=True)
    return np.array(low), np.array(high)


def extent_of(points: np.ndarray) -> np.ndarray:
    """The size [3] of the box around points [N, 3]."""
    low, high = corners(points)
    return high - low


# Beyond so many metres float32 steps by more than a millimetre.
_FAR = 8192.0
_UNIT = "give the metres of a unit by --scale, 0.001 for millimetres"


def _assert_extent(points: np.ndarray, voxel_size: float, path: Path) -> None:
    from hicl.train.kernels import MOST_VOXELS

    extent, most = extent_of(points), voxel_size * (MOST_VOXELS - 1)
    if extent.max() < most:
        return
    low, high = np.percentile(points, [1, 99], axis=0)
    far = np.maximum(low - points, points - high).max(axis=1)
    strays = np.flatnonzero(far > most / 2)
    if len(strays) and (high - low).max() < most / 2:
        first = int(strays[np.argmax(far[strays])])
        others = f" (and {len(strays) - 1:,} others)" if len(strays) > 1 else ""
        where = ", ".join(f"{x:.6g}" for x in points[first])
        raise HiclError(
            f"{path}: point {first}{others}, at ({where}), lies {far[first]:.4g} m from nearly all others; cut strays"
        )
    raise HiclError(f"{path}: {_size(extent)} m, more than {MOST_VOXELS - 1:,} voxels of {voxel_size} m: {_UNIT}")


def _assert_metres(xyz: np.ndarray, voxel_size: float, path: Path) -> None:
    """A scanned surface joins up in the network's voxels. In millimetres it falls apart into single points, and in
    kilometres it shrinks to a few voxels."""
    from hicl.train.kernels import voxelise

    extent = extent_of(xyz)
    way_out = f"{_UNIT}, 1 if it is in metres all the same"
    if extent.max() < 8 * voxel_size:
        raise HiclError(f"{path}: only {_size(extent)}, less than 8 voxels of {voxel_size} m: not metres? {way_out}")
    if len(voxelise(xyz, 4 * voxel_size)[0]) > len(xyz) / 2:
        raise HiclError(
            f"{path}: {_size(extent)}, and most points lie alone, {4 * voxel_size:g} or more from the next:"
            f" not metres, or too thin for voxels of {voxel_size} m? {way_out}"
        )


def _size(extent: np.ndarray) -> str:
    return " x ".join(f"{x:.4g}" for x in extent)


def assert_ply(out: Path) -> None:
    """Raise `HiclError` if a name to write a PLY to isn't one's: other programs go by it."""
    if out.suffix.lower() != ".ply":
        raise HiclError(f"-o {out}: give it a name that ends in .ply")


def label_names(path: Path) -> dict[int, str]:
    """The classes that `write_ply` names in a PLY's comments; none in anyone else's."""
    with open(path, "rb") as file:
        header = file.read(1 << 16).split(b"end_header")[0]
    return {int(number): name.decode("utf-8", "replace") for number, name in _NAMED.findall(header)}


def write_ply(
    path: Path,
    cloud: Cloud,
    label: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    values: dict[str, np.ndarray] | None = None,
) -> None:
    """A binary PLY: x y z in metres, red green blue, `label`, further `values` a point, and the faces.

    x y z are doubles where the cloud lies far from 0.

    label: [N] uint8 or uint16; comments name its classes. values: [N] each, whole numbers as int32, others as float32.
    MeshLab and CloudCompare read the properties.
    """
    from plyfile import PlyData, PlyElement

    values = values or {}
    double = cloud.origin.any()
    kinds = [(axis, "<f8" if double else "<f4") for axis in "xyz"] + [
        (color, "u1") for color in ("red", "green", "blue")
    ]
    kinds += [("label", "<u2" if label.dtype == np.uint16 else "u1")] if label is not None else []
    kinds += [(name, "<i4" if value.dtype.kind in "iu" else "<f4") for name, value in values.items()]
    vertex = np.empty(len(cloud.xyz), kinds)
    for column, axis in enumerate("xyz"):
        vertex[axis] = cloud.xyz[:, column] + cloud.origin[column] if double else cloud.xyz[:, column]
    for column, color in enumerate(("red", "green", "blue")):
        vertex[color] = cloud.rgb[:, column]
    if label is not None:
        vertex["label"] = label
    for name, value in values.items():
        vertex[name] = value
    elements = [PlyElement.describe(vertex, "vertex")]
    if cloud.faces is not None:
        face = np.empty(len(cloud.faces), [("vertex_indices", "<i4", (3,))])
        face["vertex_indices"] = cloud.faces
        elements.append(PlyElement.describe(face, "face"))
    comments = [f"label {index} is {_ascii(name)}" for index, name in enumerate(names)]
    comments += ["label 255 is none"] if label is not None and label.dtype == np.uint8 else []
    data = PlyData(elements, byte_order="<", comments=comments)
    with replacing(path) as temporary:
        data.write(str(temporary))


def _ascii(name: str) -> str:
    """A PLY's header is ASCII, a line a comment."""
    return " ".join(name.split()).encode("ascii", "backslashreplace").decode()
