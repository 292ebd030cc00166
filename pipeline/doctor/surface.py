"""Does the surface lie where the frames measured it?"""

from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from hicl.pipeline.datasets.scene import Points
from hicl.pipeline.doctor import poses
from hicl.pipeline.doctor.sample import Geometry, Sample
from hicl.pipeline.doctor.verdict import Verdict, percent

NAME = "surface"
_CELL = 0.1  # metres; a measurement is on the surface within one to two of them
_MOST_CELLS = 500_000  # to each side: the keys of strays farther off wouldn't fit 64 bits
_KEPT = 40_000  # cells: of 400 square metres; of more a part will do, as those next to them count
_DRAWN = 150_000  # places of the surface that are looked at
_FITS, _GAIN, _LEAST = 0.6, 0.25, 0.3  # shares that match; half of a room turned round lies on its own walls
_FARTHEST = 6.0  # metres; what is farther is measured too badly
_UNITS = ("centimetres", 0.01), ("millimetres", 0.001), ("inches", 0.0254), ("feet", 0.3048)


class Match(NamedTuple):
    """on: the share of measurements that lie on the surface; met: the share of the surface's cells that measurements
    lie in. Of a surface that is larger than what these frames see, or smaller, only one is near 1."""

    on: float
    met: float

    @property
    def share(self) -> float:
        return max(self.on, self.met)


class Surface:
    """A surface as the cells of a grid that it passes through, and those next to them."""

    def __init__(self, xyz: np.ndarray):
        cells = np.floor(xyz / _CELL).astype(np.int64)
        cells = cells[(np.abs(cells - np.median(cells, axis=0)) < _MOST_CELLS).all(axis=1)]
        self.low, self.size = cells.min(axis=0) - 2, np.ptp(cells, axis=0) + 5
        own = _distinct(self._key(cells))
        self._own = own[:: -(-len(own) // _KEPT)]
        around = np.array(list(product((-1, 0, 1), repeat=3)))
        self._near = _distinct((self._own[:, None] + self._key(around + self.low)).ravel())

    def _key(self, cells: np.ndarray) -> np.ndarray:
        at = cells - self.low
        return (at[:, 0] * self.size[1] + at[:, 1]) * self.size[2] + at[:, 2]

    def match(self, measured: np.ndarray) -> Match:
        """Of measurements float64 [M, 3], metres in the surface's frame."""
        cells = np.floor(measured / _CELL).astype(np.int64)
        inside = ((cells > self.low) & (cells < self.low + self.size - 1)).all(axis=1)
        keys = self._key(cells[inside])
        at = np.minimum(np.searchsorted(self._near, keys), len(self._near) - 1)
        on = np.count_nonzero(self._near[at] == keys) / max(len(measured), 1)
        return Match(on, float(np.isin(self._own, keys).mean()))


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Ascending. Of regular keys, NumPy's own `unique` takes a hundred times as long: its hashes meet."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=keys[0] - 1) > 0]


def places(points: Points) -> np.ndarray:
    """Places on the surface, float64 [M, 3]: its vertices, and of large faces what lies between them."""
    xyz = points.xyz.astype(np.float64)
    drawn = [xyz[:: max(1, len(xyz) // _DRAWN)]]
    if points.faces is not None and len(points.faces):
        corner = xyz[points.faces]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 2
        large = area > _CELL**2 / 2
        if large.any():
            random = np.random.default_rng(0)
            share = area[large] / area[large].sum()
            number = int(min(_DRAWN, 4 * area[large].sum() / _CELL**2))
            a, b, c = corner[large][random.choice(len(share), number, p=share)].transpose(1, 0, 2)
            s, t = np.sqrt(random.random((number, 1))), random.random((number, 1))
            drawn.append((1 - s) * a + s * (1 - t) * b + s * t * c)
    return np.concatenate(drawn)


def measured(geometry: Geometry, step: int | None = None) -> np.ndarray:
    """Some of the places that the frames measured, float64 [M, 3] in the poses' frame: of every so many pixels."""
    found, step = [], step or geometry.step
    for depth, keep, pose, pinhole in zip(*vars(geometry).values(), strict=True):
        fx, fy, cx, cy = pinhole
        half = step // 2
        row, column = np.nonzero(keep[half::step, half::step])
        row, column = row * step + half, column * step + half
        z = depth[row, column].astype(np.float64)
        place = np.stack([(column - cx) / fx * z, (row - cy) / fy * z, z], axis=1)[z < _FARTHEST]
        found.append(place @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate(found)


def verdict(sample: Sample, points: Points, known: bool) -> Verdict:
    """known: whether poses and depth are what they are taken for."""
    if not known:
        return Verdict(NAME, "open", "can't be told before poses and depth fit")
    xyz, seen = places(points), measured(sample.geometry)
    own = Surface(xyz)
    match = own.match(seen)
    told = f"{percent(match.on)} of what frames measure lies on it"
    if match.share > _FITS:
        return Verdict(NAME, "well", told, match.on)
    readings = dict(_readings(sample, own, xyz, seen))
    best = max(readings, key=lambda name: readings[name])
    if readings[best] > max(_FITS, match.share + _GAIN):
        return Verdict(NAME, "fault", f"{told}, and otherwise {percent(readings[best])}", match.on, best, readings)
    if match.share > _LEAST:
        return Verdict(NAME, "well", told, match.on)
    way_out = "no other reading fits: is it in another frame than the poses, or not in metres? Or few frames see it"
    return Verdict(NAME, "fault", told, match.on, way_out, readings)


def _readings(sample: Sample, own: Surface, xyz: np.ndarray, seen: np.ndarray) -> Iterator[tuple[str, float]]:
    """(what to do, how much matches then), for each other way that a surface, or poses, are written."""
    for name, turn in _turns():
        told = f"it fits when its (x, y, z) are taken as {name}: write it in the frame of the poses"
        yield told, own.match(seen @ turn).share
    origin = sample.scene.origin
    for unit, metres in _UNITS:
        told = f"it fits when it is in {unit}: write it in metres"
        yield told, Surface((xyz + origin) * metres - origin).match(seen).share
    if not sample.as_it_is.enough:  # frames can't tell of each other
        for told, geometry in poses.readings(sample):
            yield f"poses: {told}", own.match(measured(geometry) - origin).share


def _turns() -> Iterator[tuple[str, np.ndarray]]:
    """The 23 turns that lead axes to axes, but not each to itself: (name, float64 [3, 3])."""
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.zeros((3, 3))
        turn[range(3), order] = signs
        if np.linalg.det(turn) > 0 and not (turn == np.eye(3)).all():
            axes = ("-" * (sign < 0) + "xyz"[axis] for axis, sign in zip(order, signs, strict=True))
            yield f"({', '.join(axes)})", turn
