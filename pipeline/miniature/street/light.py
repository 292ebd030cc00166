"""Daylight and dusk, and what a camera sees by them."""

from dataclasses import dataclass

import numpy as np

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels.raster import render
from hicl.pipeline.miniature.mesh import albedo
from hicl.pipeline.miniature.solids import Packed
from hicl.pipeline.miniature.walk import look_at

_MAP = Camera(1500.0, 1500.0, 255.5, 255.5, 512, 512)  # of the shadows: 120 m wide, seen from 350 m away
_AWAY = 350.0


@dataclass(frozen=True)
class Light:
    """toward: float64 [3], unit length, towards the sun (at dusk straight up). sun, even, horizon, zenith: float64 [3]
    colours. haze: a metre. lamps: float64 [L, 3], lit street lamps. clouds: seed of the sky."""

    toward: np.ndarray
    sun: np.ndarray
    even: np.ndarray
    horizon: np.ndarray
    zenith: np.ndarray
    haze: float
    lamps: np.ndarray
    clouds: int


@dataclass(frozen=True)
class Shade:
    """What the light's source sees: pose float64 [4, 4] and depth float64 [512, 512]."""

    pose: np.ndarray
    depth: np.ndarray


def draw_light(rng: np.random.Generator, dusk: bool, lamps: np.ndarray) -> Light:
    """The light of one scene; overcast now and then."""
    if dusk:
        blue = np.array([0.46, 0.5, 0.64]) * rng.uniform(0.75, 1.2)
        glow = np.array([0.75, 0.48, 0.36]) * rng.uniform(0.5, 1.0)
        return Light(
            np.array([0.02, 0.01, 1.0]), blue * 0.25, blue, glow, blue * 0.6, 0.004, lamps, int(rng.integers(1 << 20))
        )
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(22, 65))
    toward = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    clear = rng.choice([1.0, 0.55, 0.12], p=[0.5, 0.25, 0.25])
    warm = np.array([1.0, 0.94, 0.84]) * (1.15 * clear)
    even = np.array([0.5, 0.53, 0.58]) * (1.7 - 0.6 * clear)
    zenith = np.array([0.32, 0.5, 0.85]) * clear + np.array([0.72, 0.74, 0.78]) * (1 - clear)
    horizon = np.array([0.78, 0.85, 0.93]) * clear + np.array([0.8, 0.81, 0.83]) * (1 - clear)
    return Light(toward, warm, even, horizon, zenith, rng.uniform(0.001, 0.004), lamps[:0], int(rng.integers(1 << 20)))


def shade_map(solids: Packed, light: Light, middle: np.ndarray) -> Shade:
    """Depths as seen from the light, round `middle` float64 [3]."""
    pose = look_at(middle + light.toward / np.linalg.norm(light.toward) * _AWAY, middle.copy())
    c = _MAP
    _, depth = render(pose, c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
    return Shade(pose, depth)


def _lit(shade: Shade, points: np.ndarray) -> np.ndarray:
    """Share 0..1 float64 [N] of the light that gets to points float64 [N, 3]: the mean of four looks."""
    x, y, z = ((points - shade.pose[:3, 3]) @ shade.pose[:3, :3]).T
    column, row = _MAP.fx * x / z + _MAP.cx, _MAP.fy * y / z + _MAP.cy
    out = np.zeros(len(points))
    for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
        i = np.clip(np.rint(row + dy).astype(int), 0, _MAP.height - 1)
        j = np.clip(np.rint(column + dx).astype(int), 0, _MAP.width - 1)
        out += z < shade.depth[i, j] + 0.15
    beyond = (row < 1) | (row > _MAP.height - 2) | (column < 1) | (column > _MAP.width - 2)
    return np.where(beyond, 1.0, out / 4)


def sky(light: Light, ray: np.ndarray) -> np.ndarray:
    """Colours float64 [N, 3] of the sky along unit rays float64 [N, 3]."""
    up = np.clip(ray[:, 2], 0, 1)
    share = (1 - np.exp(-5 * up))[:, None]
    color = light.horizon * (1 - share) + light.zenith * share
    x, y = ray[:, 0] / (up + 0.12), ray[:, 1] / (up + 0.12)
    rng = np.random.default_rng(light.clouds)
    cloud = np.zeros(len(ray))
    for scale in (0.7, 1.9, 4.3):
        a, b, c = rng.uniform(0, 6, 3)
        cloud += np.sin(scale * (x * np.cos(a) + y * np.sin(a)) + b) * np.sin(scale * 0.8 * y + c) / scale
    return color * (1 + 0.12 * np.clip(cloud, -1, 1))[:, None]


def view(solids: Packed, light: Light, shade: Shade, camera: Camera, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact light float32 [H, W, 3] and solid int32 [H, W] (-1: sky) of `camera` at `pose`, camera to street."""
    c = camera
    solid, depth = render(pose, c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
    row, column = np.mgrid[: c.height, : c.width]
    ray = np.stack([(column - c.cx) / c.fx, (row - c.cy) / c.fy, np.ones(row.shape)], -1).reshape(-1, 3)
    ray = ray @ pose[:3, :3].T
    long = np.linalg.norm(ray, axis=1)
    out = np.empty((len(ray), 3))
    seen, open_sky = (np.nonzero(met)[0] for met in (solid.ravel() >= 0, solid.ravel() < 0))
    out[open_sky] = sky(light, ray[open_sky] / long[open_sky, None])
    z, which = depth.ravel()[seen], solid.ravel()[seen]
    point = ray[seen] * z[:, None] + pose[:3, 3]
    base, normal = albedo(point, which, solids)
    toward = light.toward / np.linalg.norm(light.toward)
    open_ = _lit(shade, point + 0.25 * normal)  # away from itself, for the map's cells are large
    direct = np.maximum(normal @ toward, 0.0) * open_
    even = 0.72 + 0.28 * normal[:, 2] - 0.25 * (1 - open_)
    lit = light.even * even[:, None] + light.sun * direct[:, None]
    for lamp in light.lamps:
        away = lamp - point
        far = np.linalg.norm(away, axis=1)
        fall = np.maximum((normal * away).sum(1), 0) / far * 18 / (12 + far**2)
        lit += np.array([1.0, 0.82, 0.55]) * fall[:, None] * (far < 25)[:, None]
    glow = solids.glow[which][:, None]
    color = base * (lit * (1 - 0.5 * glow) + glow)
    half = toward - ray[seen] / long[seen, None]
    half /= np.maximum(np.linalg.norm(half, axis=1), 1e-9)[:, None]
    spark = solids.gloss[which] * open_ * np.maximum((half * normal).sum(1), 0) ** 30
    color += light.sun * spark[:, None]
    # Gloss also mirrors the sky, most at a slant.
    slant = np.abs((ray[seen] * normal).sum(1)) / long[seen]
    mirror = solids.gloss[which] * (0.15 + 0.6 * (1 - slant) ** 3)
    color = (
        color * (1 - mirror)[:, None] + light.horizon * (mirror * (0.4 + 0.6 * np.maximum(normal[:, 2], 0)))[:, None]
    )
    thin = np.exp(-light.haze * z * long[seen])[:, None]
    out[seen] = color * thin + light.horizon * (1 - thin)
    return out.reshape(c.height, c.width, 3).astype(np.float32), solid
