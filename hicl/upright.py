"""Which way is up: networks learn from scans whose z axis is, and know chairs and floors in no other position.

Gravity is found as Gupta, Arbeláez and Malik do it (Perceptual Organization and Recognition of Indoor Scenes from RGB-D
Images, CVPR 2013, section 3): most of what people build lies flat or stands upright, so up is the direction that the
normals of surfaces run along or across. A floor need not be seen for that.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hicl.clouds import extent_of
from hicl.errors import HiclError

UPRIGHT = 0.8  # of the mean of unit vectors: cameras that are held alike, and along an axis


def axis(name: str) -> np.ndarray:
    """float64 [3] of x, y, z, -x, -y or -z. Raises `HiclError` for another name."""
    if name.lstrip("+-") not in ("x", "y", "z") or len(name) > 2:
        raise HiclError(f"--up {name}: unknown; known are x, y, z, -x, -y, -z")
    return np.eye(3)["xyz".index(name[-1])] * (-1 if name[0] == "-" else 1)


def upright(xyz: np.ndarray, up: str) -> np.ndarray:
    """Points [N, 3] turned by the shortest way so that z is up; half a turn is one about x. Raises `HiclError`."""
    upward = axis(up)
    if upward[2] > 0:
        return xyz
    along, sign = int(np.abs(upward).argmax()), upward.sum()
    turned = xyz.copy()
    if along < 2:
        turned[:, 2], turned[:, along] = sign * xyz[:, along], -sign * xyz[:, 2]
    elif sign < 0:
        turned[:, 1:] = -xyz[:, 1:]
    return turned


TILTED = 3.0  # degrees: 2 cost a network nothing, 5 a quarter of its mIoU (tests/benchmarks/bench_level.py)


def held(poses: np.ndarray) -> str | None:
    """The axis other than z that cameras hold up, as of `axis`; None where that is z, or none.

    poses: float64 [F, 4, 4], camera to world, y down. Cameras are mostly held upright.
    """
    up = -poses[:, :3, 1].mean(axis=0)
    along = int(np.abs(up).argmax())
    if (along < 2 or up[2] < 0) and abs(up[along]) > UPRIGHT:
        return _name(up)
    return None


def nearest_axis(up: np.ndarray) -> tuple[str, float]:
    """The axis that is nearest to a direction [3], by its name, and how far that is off, degrees."""
    name = _name(up)
    return name, degrees(up, axis(name))


def _name(up: np.ndarray) -> str:
    along = int(np.abs(up).argmax())
    return "-" * bool(up[along] < 0) + "xyz"[along]


def degrees(one: np.ndarray, other: np.ndarray) -> float:
    """The angle between two vectors [3]."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def levelling(up: np.ndarray) -> np.ndarray:
    """The rotation by the shortest way that brings a unit vector [3] to z, float64 [3, 3]; half a turn is one about x.

    Rodrigues' formula, with the sine and the cosine of the angle taken from the vector.
    """
    x, y, z = up.tolist()
    if z < -1 + 1e-12:
        return np.diag([1.0, -1, -1])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def told_of(turn: np.ndarray) -> str:
    """What a user is told of a scan that was levelled by a rotation [3, 3]; empty where that is none."""
    tilt = degrees(turn[2], np.array([0.0, 0, 1]))
    return f"levelled: turned by {tilt:.1f} degrees, so that z is up" if tilt else ""


_CELL, _MOST = 0.1, 20_000  # metres, and points: the normals of so few take a tenth of a second
_ALIGNED = 0.94  # cosine of 20 degrees: scans are held by hand
_ANGLES, _ROUNDS = (45.0, 15.0), 5  # degrees within which a normal counts as along or across, and how often each
_BUILT = 0.55, 0.04  # of the normals, across or along, and along: of directions at random it is 0.29 and 0.03
_UPSIDE_DOWN, _ONE_SIDED = 0.3, 0.2  # of what lies flat, in the lower half; how much more than half is in either


@dataclass(frozen=True)
class Surfaces:
    """Which way the surfaces of a scan face. place: float32 [M, 3], metres, a point a cell. normal: float64 [M, 3] of
    unit length, to either side."""

    place: np.ndarray
    normal: np.ndarray

    @classmethod
    def of(cls, xyz: np.ndarray) -> "Surfaces":
        """Of points float32 [N, 3]."""
        from hicl.pipeline.normals import neighbors, pca_normals
        from hicl.train.kernels import MOST_VOXELS, voxelise

        cell = max(_CELL, 2 * float(extent_of(xyz).max()) / MOST_VOXELS)
        place = np.ascontiguousarray(xyz[voxelise(xyz, cell)[1]])
        place = place[:: -(-len(place) // _MOST)]
        return cls(place, pca_normals(place, neighbors(place)[0]).astype(np.float64))

    def along(self, hint: np.ndarray) -> np.ndarray | None:
        """Up, a unit vector [3], where it is within 45 degrees of `hint` [3]; None where the surfaces don't tell."""
        up = hint / np.linalg.norm(hint)
        for angle in _ANGLES:
            for _ in range(_ROUNDS):
                flat, standing = self._flat(up, angle), self._standing(up, angle)
                # The least of what is left of standing normals along up, and of flat ones across it.
                spread = standing.T @ standing - flat.T @ flat
                found = np.linalg.eigh(spread)[1][:, 0]
                up = found if found @ up > 0 else -found
        lying, upright = (len(part) / len(self.normal) for part in (self._flat(up, angle), self._standing(up, angle)))
        built, least = _BUILT
        return up if lying + upright > built and lying > least and up @ hint > 0 else None

    def _flat(self, up: np.ndarray, angle: float) -> np.ndarray:
        return self.normal[np.abs(self.normal @ up) > np.cos(np.radians(angle))]

    def _standing(self, up: np.ndarray, angle: float) -> np.ndarray:
        return self.normal[np.abs(self.normal @ up) < np.sin(np.radians(angle))]

    @cached_property
    def up(self) -> np.ndarray | None:
        """Up, a unit vector [3], if nothing is known; None where the surfaces don't tell.

        It is the direction near z, unless the scan is least extended along that near x or y, as rooms are in their
        height, and much of its surface faces that way, as floors, ceilings and the tops of things do, or what does is
        in one half, as where no ceiling was scanned. Of what lies flat most is in the lower half, with seats and
        tables; z itself has to be clearly upside down.
        """
        found = [self.along(hint) for hint in np.eye(3)]
        known = [up for up in found if up is not None]
        if not known:
            return None
        low, high = np.percentile(self.place @ np.transpose(known), [2, 98], axis=0)
        facing = [float((np.abs(self.normal @ up) > _ALIGNED).mean()) for up in known]
        below = [self._below(up) for up in known]
        least, usual = int((high - low).argmin()), len(known) - 1
        if found[2] is not None and facing[least] < max(facing) / 2:
            one_sided = [abs(share - 0.5) for share in below]
            least = least if one_sided[least] > one_sided[usual] + _ONE_SIDED else usual
        up = known[least]
        near_z = found[2] is not None and bool(np.abs(up @ found[2]) > _ALIGNED)
        return -up if below[least] < (_UPSIDE_DOWN if near_z else 0.5) else up

    def _below(self, up: np.ndarray) -> float:
        """Of what lies flat, the share that is in the lower half."""
        height = self.place @ up
        flat = height[np.abs(self.normal @ up) > _ALIGNED]
        return float((flat < np.percentile(height, [2, 98]).mean()).mean())
