"""Point clouds from and for other programs: PLY in, PLY with classes out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hicl.errors import HiclError


@dataclass(frozen=True)
class Cloud:
    """xyz [N, 3] float32, metres. rgb [N, 3] uint8. faces [T, 3] int32, None for a cloud without."""

    xyz: np.ndarray
    rgb: np.ndarray
    faces: np.ndarray | None = None


def read_cloud(path: Path, voxel_size: float, scale: float | None = None) -> Cloud:
    """A coloured mesh or cloud for a network that works in voxels of `voxel_size` metres.

    scale: metres a unit of the file; None: the file is in metres, which is checked.

    Raises:
        HiclError: no such file, not a PLY, damaged, empty, a coordinate that isn't finite, no colours, another unit.
    """
    from hicl.pipeline.datasets import ply

    vertex, faces = ply.read_ply(path)
    rgb = ply.rgb(vertex)
    if rgb is None:
        raise HiclError(f"{path}: no red, green and blue; the network reads colours, so give a coloured cloud")
    xyz = ply.xyz(vertex, path)
    if scale is None:
        _assert_metres(xyz, voxel_size, path)
    elif not 0 < scale < np.inf:
        raise HiclError(f"--scale {scale}: must be greater than 0; 0.001 for millimetres")
    else:
        xyz = xyz * np.float32(scale)
    return Cloud(xyz, rgb, faces)


def _assert_metres(xyz: np.ndarray, voxel_size: float, path: Path) -> None:
    """A scanned surface joins up in the network's voxels. In millimetres it falls apart into single points, and in
    kilometres it shrinks to a few voxels."""
    from hicl.train.kernels import voxelise

    extent = np.ptp(xyz.astype(np.float64), axis=0)
    size = " x ".join(f"{x:.4g}" for x in extent)
    way_out = "give the metres of a unit by --scale, 0.001 for millimetres, 1 if it is in metres all the same"
    if extent.max() < 8 * voxel_size:
        raise HiclError(f"{path}: only {size} in size, less than 8 voxels of {voxel_size} m: not metres? {way_out}")
    if extent.max() > voxel_size * (1 << 19) or _count(voxelise, xyz, 4 * voxel_size) > len(xyz) / 2:
        raise HiclError(
            f"{path}: {size} in size, and most points lie alone, {4 * voxel_size:g} or more from the next: not metres,"
            f" or too thin for voxels of {voxel_size} m? {way_out}"
        )


def _count(voxelise, xyz: np.ndarray, size: float) -> int:
    return len(voxelise(xyz, size)[0])


def write_ply(
    path: Path,
    cloud: Cloud,
    label: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    values: dict[str, np.ndarray] | None = None,
) -> None:
    """A binary PLY: x y z in metres, red green blue, `label`, further float32 `values` a point, and the faces.

    label: [N] uint8 or uint16; comments name its classes. MeshLab and CloudCompare read the properties.
    """
    from plyfile import PlyData, PlyElement

    values = values or {}
    kinds = [(axis, "<f4") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")]
    kinds += [("label", "<u2" if label.dtype == np.uint16 else "u1")] if label is not None else []
    vertex = np.empty(len(cloud.xyz), kinds + [(name, "<f4") for name in values])
    for column, axis in enumerate("xyz"):
        vertex[axis] = cloud.xyz[:, column]
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
    comments = [f"label {index} is {name}" for index, name in enumerate(names)]
    comments += ["label 255 is none"] if label is not None and label.dtype == np.uint8 else []
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    PlyData(elements, byte_order="<", comments=comments).write(str(temporary))
    temporary.replace(path)
