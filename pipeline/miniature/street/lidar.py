"""What the LiDAR measures: a turn takes 50 ms, while the ego car and everybody else drives on."""

from dataclasses import dataclass, replace

import numpy as np

from hicl.pipeline.kernels.lidar import scan
from hicl.pipeline.miniature.mesh import albedo
from hicl.pipeline.miniature.solids import Packed, block, pack
from hicl.pipeline.miniature.street.categories import EGO, NOISE
from hicl.pipeline.miniature.street.layout import Street
from hicl.pipeline.miniature.street.rig import ELEVATION, PERIOD, SEAM, Drive, Rig, inverse
from hicl.pipeline.miniature.textures import plain

_SLACK = np.radians(2.5)  # what the car nods and leans, and turns in 25 ms
_FAR = 105.0


@dataclass(frozen=True)
class Sweep:
    """points: float32 [N, 5], x, y, z in the LiDAR's frame at the sweep's time, intensity 0..255, ring; column by
    column, as the sensor fires. label: uint8 [N], lidarseg's categories."""

    points: np.ndarray
    label: np.ndarray


def moved(street: Street, t: float) -> Packed:
    """The street's solids at t seconds."""
    return replace(street.solids, centre=street.solids.centre + street.velocity * t)


def sweep(rng: np.random.Generator, street: Street, drive: Drive, rig: Rig, t: float, columns: int) -> Sweep:
    """The turn that ends at t seconds.

    Each column is fired from where the car is then; its points are then brought to the car's place at t, as nuScenes
    does. What moves of its own keeps the trace of that.
    """
    solids = moved(street, t)
    time = (np.arange(columns) + 0.5) / columns * PERIOD - PERIOD
    poses = np.stack([drive.pose(t + dt) @ rig.lidar for dt in time])
    # The LiDAR's y is ahead: a yaw of a in the ego frame is an azimuth of a + 90 degrees in its own.
    azimuth = SEAM + np.pi / 2 - (np.arange(columns) + 0.5) / columns * 2 * np.pi
    origin, turn = np.ascontiguousarray(poses[:, :3, 3]), np.ascontiguousarray(poses[:, :3, :3])
    index, distance = scan(origin, turn, time, azimuth, ELEVATION, *solids.shape, street.velocity, _SLACK)
    flat = np.cos(ELEVATION)
    ray = np.empty((columns, len(ELEVATION), 3))
    ray[..., 0] = np.cos(azimuth)[:, None] * flat
    ray[..., 1] = np.sin(azimuth)[:, None] * flat
    ray[..., 2] = np.sin(ELEVATION)
    own, ego = _own_car(rig, azimuth, columns)
    at_car = own < distance
    index[at_car], distance = -1, np.minimum(distance, own)
    beam = np.einsum("cab,crb->cra", turn, ray)
    point = origin[:, None] + beam * np.where(np.isfinite(distance), distance, 0.0)[..., None]

    which = index.ravel()
    met = np.nonzero(which >= 0)[0]
    hit = which[met]
    drift = street.velocity[hit] * np.repeat(time, len(ELEVATION))[met, None]
    color, normal = albedo(point.reshape(-1, 3)[met] - drift, hit, solids)
    facing = np.abs((normal * beam.reshape(-1, 3)[met]).sum(1))
    far = distance.ravel()[met]
    bright = 0.08 + 0.8 * color.mean(1)
    retro = solids.retro[hit] * facing
    echo = (bright * np.sqrt(facing) + 4 * retro) * rng.uniform(0.6, 1.4, len(hit)) * (55.0 / np.maximum(far, 5)) ** 2
    # Mirrors and windows throw the beam elsewhere.
    lost = (echo < 0.08) | (far > _FAR) | (rng.random(len(hit)) < 0.04 + 0.7 * solids.gloss[hit] * (1 - facing))
    intensity = np.zeros(which.shape)
    intensity[met] = 45 * bright * (0.3 + 0.7 * facing) * rng.uniform(0.8, 1.2, len(hit)) + 190 * retro
    label = np.full(which.shape, NOISE, np.uint8)
    label[met] = solids.label[hit]
    label[met[lost]] = NOISE
    label[at_car.ravel()] = EGO
    intensity[at_car.ravel()] = rng.uniform(1, 12, int(at_car.sum()))
    measured = distance.ravel() + rng.normal(0, 0.015, which.shape)
    measured[met] += np.abs(rng.normal(0, 1, len(hit))) * solids.rough[hit]
    gone = label == NOISE
    intensity[gone] = 0

    measured = np.where(gone, 0.0, measured)
    world = np.repeat(origin, len(ELEVATION), 0) + beam.reshape(-1, 3) * measured[:, None]
    back = inverse(drive.pose(t) @ rig.lidar)
    xyz = world @ back[:3, :3].T + back[:3, 3]
    xyz[gone] = 0.0  # a beam that doesn't come back is written as the sensor's own place
    ring = np.tile(np.arange(len(ELEVATION)), columns)
    points = np.column_stack([xyz, np.clip(np.rint(intensity), 0, 255), ring]).astype(np.float32)
    return Sweep(points, label)


def ego_car() -> Packed:
    """Of the car itself, what its own LiDAR sees."""
    m = plain((0.85, 0.85, 0.85))
    return pack([
        block((0.02, 1.8), (-0.5, 0.5), (1.2, 1.51), EGO, m, 0.1),
        block((1.5, 3.1), (-0.5, 0.5), (0.5, 1.0), EGO, m, 0.1),
        block((-0.3, 0.2), (-0.5, 0.5), (0.5, 1.2), EGO, m, 0.1),
    ])  # fmt: skip


def _own_car(rig: Rig, azimuth: np.ndarray, columns: int) -> tuple[np.ndarray, Packed]:
    """Distances float64 [C, R] to the car itself: it moves with its sensor."""
    car = ego_car()
    still = np.zeros((len(car.kind), 3))
    origin = np.repeat(rig.lidar[None, :3, 3], columns, 0)
    turn = np.repeat(rig.lidar[None, :3, :3], columns, 0)
    _, distance = scan(origin, turn, np.zeros(columns), azimuth, ELEVATION, *car.shape, still, _SLACK)
    return distance, car
