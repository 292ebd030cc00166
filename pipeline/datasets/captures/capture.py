"""What a capture yields, in whatever files it is: frames by name, each read when it is asked for."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera, Said
from hicl.read import read_bytes

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Shot:
    """A posed RGB-D frame of a capture.

    color, depth: its files. pose: reads it as it is written, float64 [4, 4]; raises `FrameError`. camera: reads the
    colour image's, for the size that it is written for; depth is the same view. None: the capture has one for all.
    raw_depth: reads depth that is no image file by itself, as `depths.read_raw`. files: others that it is read from.
    missing: those of all these that aren't there.
    """

    color: Path
    depth: Path
    pose: Callable[[], np.ndarray]
    camera: Callable[[], Camera] | None = None
    raw_depth: Callable[[], np.ndarray] | None = None
    files: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()

    def looked_for(self) -> "Shot":
        """The same, with what is missing."""
        named = (self.color, self.depth, *self.files)
        return replace(self, missing=tuple(path for path in named if not path.exists()))


@dataclass(frozen=True)
class Capture:
    """shots: by name, in no order. files: what all of them are read with. said: how its format means poses, axes and
    depth. cameras: (size of colour, of depth) to both cameras, where shots have none. surface: a .ply of it elsewhere
    than in its folder. notes: what a user should know of it."""

    shots: dict[str, Shot]
    files: tuple[Path, ...] = ()
    said: Said = Said()
    cameras: Callable[[Size, Size], tuple[Camera, Camera]] | None = None
    surface: Path | None = None
    notes: tuple[str, ...] = field(default=())


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `HiclError`."""
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise HiclError(f"{path}: missing") from None
    except (ValueError, RecursionError) as error:
        raise HiclError(f"{path}: not a readable JSON file ({error})") from None


def rows(path: Path, columns: int, words: int = 0) -> list[list[str]]:
    """The lines of a text file with so many columns, comments behind # left out. words: how many columns at the end
    aren't numbers. Raises `HiclError` for a line that is otherwise."""
    found = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise HiclError(f"{path}: can't be read ({getattr(error, 'strerror', None) or 'not a text'})") from None
    for number, line in enumerate(lines, 1):
        parts = line.partition("#")[0].split()
        if parts and (len(parts) < columns or not all(map(_is_number, parts[: columns - words]))):
            raise HiclError(f"{path}: line {number} is {line.strip()[:60]!r}, expected {columns} columns")
        if parts:
            found.append(parts)
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def nearest(times: np.ndarray, wanted: np.ndarray, most: float) -> np.ndarray:
    """Of each wanted time the place of the nearest in `times`, int64; -1 where it is farther off than `most`."""
    order = np.argsort(times, kind="stable")
    place = np.clip(np.searchsorted(times[order], wanted), 1, max(len(times) - 1, 1))
    left, right = (order[np.clip(place - back, 0, len(times) - 1)] for back in (1, 0))
    best = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    return np.where(np.abs(times[best] - wanted) <= most, best, -1)


def rotation(x: float, y: float, z: float, w: float, where: str) -> np.ndarray:
    """float64 [3, 3] of a quaternion of any length. Raises `FrameError` if it has none."""
    length = x * x + y * y + z * z + w * w
    if not 0 < length < np.inf:
        raise FrameError(f"{where}: the quaternion is {x:g} {y:g} {z:g} {w:g}")
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 / length * (w * cross + cross @ cross)


def motion(turn: np.ndarray, shift: Any) -> np.ndarray:
    """float64 [4, 4] of a rotation [3, 3] and a translation [3]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, shift
    return pose


def rescaled(camera: Camera, size: Size) -> Camera:
    """The same view in an image of another size; pixel centres at integers, so the corner is at -0.5."""
    y, x = size[0] / camera.height, size[1] / camera.width
    cx, cy = (camera.cx + 0.5) * x - 0.5, (camera.cy + 0.5) * y - 0.5
    return Camera(camera.fx * x, camera.fy * y, cx, cy, *size)


def is_scale(value: object) -> TypeGuard[float]:
    """Whether it can be the units of something a metre, or the other way round."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def bent(camera: Camera, coefficients: list[float]) -> float:
    """By how many pixels a lens with the radial coefficients k1, k2, … moves the corner of an image."""
    x, y = max(camera.cx, camera.width - camera.cx) / camera.fx, max(camera.cy, camera.height - camera.cy) / camera.fy
    far = min(float(np.hypot(x, y)), 1e3)  # beyond, no lens is meant
    share = sum(k * far ** (2 * power) for power, k in enumerate(coefficients, 1))
    return abs(share) * far * max(camera.fx, camera.fy)
