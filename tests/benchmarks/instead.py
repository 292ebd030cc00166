"""What people use instead of a stage, for `bench_stages.py` to compare with."""

import io
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def segment_in_c(folder: Path, mesh: Path, found: Path, programs: list[Path]) -> dict[str, tuple[Callable, float]]:
    """ScanNet's Segmentator, compiled anew in two ways, which write `found`; and programs of it that are there."""
    peers: dict[str, tuple[Callable, float]] = {}
    for name, flags in (("C, -O3", ["-O3"]), ("C, -O0", ["-O0"])):
        program = folder / name.replace(", ", "")
        subprocess.run(["cc", *flags, Path(__file__).with_name("segmentator.c"), "-o", program, "-lm"], check=True)
        peers[name] = (lambda program=program: subprocess.run([program, mesh, found], check=True), 1)
    for program in programs:
        command = [program.absolute(), mesh]
        peers[program.name] = (lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL), 1)
    return peers


def score_densely(grid: np.ndarray, pixel: np.ndarray, size: tuple[int, int], text: np.ndarray) -> np.ndarray:
    """Features in full resolution, sampled, scored: OpenScene's way. Torch, one image."""
    import torch

    features = torch.from_numpy(grid).permute(2, 0, 1)[None]
    full = torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)[0]
    row, column = torch.from_numpy(pixel.astype(np.int64)).T
    return (full[:, row, column].T @ torch.from_numpy(text).T).numpy()


def scipy_normals(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index, distance, normal) of 16 neighbours by SciPy's k-d tree and NumPy's eigh."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(xyz).query(xyz, k=16)
    near = xyz[index].astype(np.float64)
    near -= near.mean(axis=1, keepdims=True)
    return index, distance, np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]


def open3d_normals(xyz: np.ndarray) -> Callable | None:
    """Open3D's normals, where it can be had."""
    try:
        import open3d
    except Exception:  # not installed, or without a library of the system's that it needs
        return None

    def estimate():
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(16))

    return estimate


def voxels_by_unique(xyz: np.ndarray, values: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """(coords, means of the values) of voxels by np.unique and np.bincount."""
    cells = ((xyz.astype(np.float64) - xyz.min(axis=0)) / size).astype(np.int64)
    coords, voxel = np.unique(cells, axis=0, return_inverse=True)
    sums = np.stack([np.bincount(voxel, column) for column in values.T.astype(np.float64)], axis=1)
    return coords, sums / np.bincount(voxel)[:, None]


def vote_in_table(labels: np.ndarray, group: np.ndarray, shape: tuple[int, int], add_at: bool) -> np.ndarray:
    """The most frequent label of each one's group, by a table [groups, classes], filled by np.add.at or np.bincount."""
    if add_at:
        counts = np.zeros(shape, np.int64)
        np.add.at(counts, (group, labels), 1)
    else:
        counts = np.bincount(group * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)
    return counts.argmax(axis=1)[group]


def read_official(path: Path, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A recording as ScanNet's own Python reader takes it (SensReader/python/SensorData.py): every frame is read and
    unpacked byte by byte; then every `step`-th is decoded."""
    frames = []
    with open(path, "rb") as file:

        def take(layout):
            return struct.unpack(layout, file.read(struct.calcsize(layout)))

        take("<I")
        b"".join(take("c" * take("<Q")[0]))
        for _ in range(4):
            take("16f")
        take("<2i")
        _, _, width, height = take("<4I")
        take("f")
        (count,) = take("<Q")
        for _ in range(count):
            take("16f")
            take("<2Q")
            color_bytes, depth_bytes = take("<2Q")
            frames.append((b"".join(take("c" * color_bytes)), b"".join(take("c" * depth_bytes))))
    decoded = []
    for color, depth in frames[::step]:
        image = np.asarray(Image.open(io.BytesIO(color)))
        decoded.append((image, np.frombuffer(zlib.decompress(depth), np.uint16).reshape(height, width)))
    return decoded
