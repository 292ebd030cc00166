"""What a key frame's files hold: sweeps of the LiDAR as `.pcd.bin`, and lidarseg's labels."""

from pathlib import Path

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.pipeline.datasets.nuscenes_classes import UNKNOWN
from hicl.pipeline.datasets.nuscenes_tables import Place, Shot
from hicl.pipeline.datasets.scene import Sweep
from hicl.read import read_bytes, told_apart

_ROW = 20  # bytes: x, y, z, intensity and ring as float32
_FARTHEST = 8192.0  # metres; up to here float32 holds multiples of 1/1024
EGO_BOX = 1.0  # metres: what is nearer to the sensor, both in x and in y, is the car itself, or no return


def matrix(place: Place, where: str) -> np.ndarray:
    """float64 [4, 4]: from the frame of what is at a place to the frame that the place is told in.

    Raises `HiclError` where the rotation is no unit quaternion, to three digits, or anything isn't finite.
    """
    w, x, y, z = quaternion = np.array(place.rotation, np.float64)
    length = np.linalg.norm(quaternion)
    if not (abs(length - 1) < 1e-3 and np.isfinite(place.translation).all()):
        raise HiclError(f"{where}: its pose is not a rigid motion (quaternion of length {length:.4g})")
    w, x, y, z = quaternion / length
    found = np.eye(4)
    found[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    found[:3, 3] = place.translation
    return found


def to_frame_of(key: Shot, other: Shot) -> np.ndarray:
    """float64 [4, 4]: from another shot's sensor, by way of the world, to the ego frame at the time of `key`."""
    to_world = matrix(other.ego, other.file) @ matrix(other.mount.place, other.file)
    return np.linalg.inv(matrix(key.ego, key.file)) @ to_world


def read_sweep(path: Path) -> np.ndarray:
    """float32 [N, 5] of a `.pcd.bin`: x, y, z in the sensor's frame, intensity 0 to 255, ring. Raises `HiclError`."""
    content = _content(path)
    if len(content) % _ROW or not content:
        said = told_apart(content[:512]) or (" (a .pcd with a header)" if content[:20].find(b"PCD") >= 0 else "")
        raise HiclError(f"{path}: {len(content)} bytes, expected {_ROW} for each point{said}")
    return np.frombuffer(content, "<f4").reshape(-1, 5)


def taking_part(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool [N], whose place is finite and not absurdly far; of those, what is neither the car itself nor no return).

    rows: as of `read_sweep`.
    """
    near = (np.abs(rows[:, :3]) < _FARTHEST / 2).all(axis=1)  # and finite
    return near, near & (np.abs(rows[:, :2]) >= EGO_BOX).any(axis=1)


def read_labels(path: Path, n_points: int, to_class: np.ndarray) -> np.ndarray:
    """uint8 [N] places in `CLASSES`, 255 = none. to_class: as of `nuscenes_classes.to_classes`. Raises `HiclError`."""
    content = _content(path)
    if len(content) != n_points:
        raise HiclError(f"{path}: {len(content)} labels for a sweep of {n_points} points; get both again")
    written = np.frombuffer(content, np.uint8)
    label = to_class[written]
    if (label == UNKNOWN).any():
        raise HiclError(f"{path}: unknown label {written[label == UNKNOWN][0]}; category.json has no such index")
    return label


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise HiclError(f"{path}: missing") from None


def key_frame_points(
    root: Path, key: Shot, earlier: tuple[Shot, ...], label: np.ndarray | None, with_ages: bool
) -> Sweep:
    """The points of a key frame and of the sweeps before it, as if all of them had been measured at its time.

    A sweep before it is brought there by the car's own motion, sensor → ego → world → ego of the key frame, without the
    points that are the car or no return; what moves by itself leaves a trail. label: of the key frame's own points.
    with_ages: say which sweep each point is of, even if there is none before.
    Source of the box: nuscenes-devkit, utils/data_classes.py (`remove_close`, applied in the sensor's frame).
    """
    parts = [(0, key, read_sweep(root / key.file))]
    parts += [(age, shot, read_sweep(root / shot.file)) for age, shot in enumerate(earlier, 1)]
    xyz, intensity, ages, valid = [], [], [], []
    for age, shot, rows in parts:
        near, usable = taking_part(rows)
        if age:
            rows, near, usable = rows[usable], near[usable], usable[usable]
        turn = to_frame_of(key, shot)
        placed = np.where(near[:, None], rows[:, :3], 0).astype(np.float64) @ turn[:3, :3].T + turn[:3, 3]
        placed[~near] = 0
        xyz.append((np.rint(placed * 1024) / 1024).astype(np.float32))
        intensity.append(np.clip(np.rint(np.nan_to_num(rows[:, 3])), 0, 255).astype(np.uint8))
        ages.append(np.full(len(rows), age, np.uint8))
        valid.append(usable)
    if label is not None:
        label = np.concatenate([label, np.full(sum(map(len, xyz[1:])), NO_LABEL, np.uint8)])
    sensor = matrix(key.mount.place, key.file)[:3, 3]
    if not any(part.any() for part in valid):
        raise HiclError(f"{root / key.file}: no point that is finite and not of the car itself")
    said = np.concatenate(ages) if with_ages else None
    return Sweep(np.concatenate(xyz), np.concatenate(intensity), np.concatenate(valid), said, label, sensor)
