"""What the cameras see: exact geometry and light first, then a cheap sensor's flaws."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels.raster import render
from hicl.pipeline.miniature.mesh import Field, albedo
from hicl.pipeline.miniature.rooms import Room
from hicl.pipeline.miniature.solids import Packed


@dataclass(frozen=True)
class Light:
    """A room's light: one lamp, an even share, a tint. position: float64 [3] metres; tint: float64 [3]."""

    position: np.ndarray
    even: float
    lamp: float
    tint: np.ndarray


@dataclass(frozen=True)
class View:
    """One exact view. color: float32 [H, W, 3]; depth: float64 [H, W] metres, inf where nothing is; solid: int32
    [H, W]; facing: float64 [H, W], cosine between the ray and the surface's normal; gloss: float64 [H, W]."""

    color: np.ndarray
    depth: np.ndarray
    solid: np.ndarray
    facing: np.ndarray
    gloss: np.ndarray


def draw_light(rng: np.random.Generator, room: Room) -> Light:
    """Light of one room: lamp somewhere under the ceiling, warm to cold."""
    w, d, h = room.extent
    position = np.array([rng.uniform(0.25, 0.75) * w, rng.uniform(0.25, 0.75) * d, h - 0.25])
    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.85, 1.1)
    even = rng.uniform(0.45, 0.65)
    return Light(position, even, 1.05 - even + rng.uniform(0, 0.15), tint)


def shade(
    points: np.ndarray,
    normals: np.ndarray,
    color: np.ndarray,
    solid: np.ndarray,
    solids: Packed,
    light: Light,
    field: Field,
    eye: np.ndarray | None = None,
) -> np.ndarray:
    """Lit colour float64 [N, 3] (not clipped) of surface points; `eye` float64 [3] adds highlights."""
    away = light.position - points
    distance = np.linalg.norm(away, axis=1)
    away /= distance[:, None]
    fall = np.maximum((normals * away).sum(1), 0.0) * np.minimum(1.0, 2.2 / (0.8 + 0.6 * distance))
    # Light from all sides: more from above, less in corners.
    even = light.even * (0.85 + 0.15 * normals[:, 2]) * (0.45 + 0.55 * field.openness(points, normals))
    glow = solids.glow[solid]
    lit = color * ((even + light.lamp * fall) * (1 - 0.5 * glow) + glow)[:, None] * light.tint
    if eye is not None:
        toward = eye - points
        toward /= np.linalg.norm(toward, axis=1)[:, None]
        half = toward + away
        half /= np.linalg.norm(half, axis=1)[:, None]
        lit += (solids.gloss[solid] * np.maximum((half * normals).sum(1), 0.0) ** 40 * 0.8)[:, None]
    return lit


def look(solids: Packed, field: Field, light: Light, camera: Camera, pose: np.ndarray) -> View:
    """The exact view of `camera` at `pose` (float64 [4, 4], camera to room)."""
    c = camera
    solid, depth = render(pose, c.fx, c.fy, c.cx, c.cy, c.height, c.width, *solids.shape)
    rows, cols = np.nonzero(solid >= 0)
    z = depth[rows, cols]
    ray = np.stack([(cols - c.cx) / c.fx, (rows - c.cy) / c.fy, np.ones(len(rows))], 1) @ pose[:3, :3].T
    points = ray * z[:, None] + pose[:3, 3]
    which = solid[rows, cols]
    base, normal = albedo(points, which, solids)
    color = np.zeros((c.height, c.width, 3), np.float32)
    color[rows, cols] = shade(points, normal, base, which, solids, light, field, pose[:3, 3])
    facing = np.zeros(solid.shape)
    facing[rows, cols] = np.abs((ray * normal).sum(1)) / np.linalg.norm(ray, axis=1)
    gloss = np.zeros(solid.shape)
    gloss[rows, cols] = solids.gloss[which]
    return View(color, depth, solid, facing, gloss)


def photograph(rng: np.random.Generator, color: np.ndarray) -> np.ndarray:
    """A consumer camera's picture uint8 [H, W, 3] of exact light float32 [H, W, 3]."""
    exposure = rng.uniform(0.8, 1.15)
    balance = 1 + rng.normal(0, 0.03, 3)
    picture = gaussian_filter(color, (*[rng.choice([0.4, 0.6, 1.0], p=[0.5, 0.35, 0.15])] * 2, 0)) * exposure * balance
    height, width = color.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    picture *= (1 - 0.12 * (x**2 + y**2))[..., None]
    # A soft shoulder instead of hard clipping, then noise that grows with the light.
    picture = np.where(picture > 0.8, 0.8 + 0.2 * np.tanh((picture - 0.8) / 0.2), picture)
    noise = rng.standard_normal(picture.shape, np.float32)
    picture += noise * (0.008 + 0.012 * np.sqrt(np.maximum(picture, 0)))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def jpeg(picture: np.ndarray, quality: int = 85) -> bytes:
    """JPEG bytes of uint8 [H, W, 3]."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()


def measure_depth(rng: np.random.Generator, view: View) -> np.ndarray:
    """A structured-light sensor's depth uint16 [h, w] in millimetres, 0 where it sees nothing.

    Noise grows with the square of the distance; holes at grazing angles, at depth edges, on dark and shiny surfaces
    and out of range (0.4 to 5 m), partly in patches.
    """
    z = np.where(np.isfinite(view.depth), view.depth, 0.0)
    shape = z.shape
    patches = gaussian_filter(rng.standard_normal(shape), 3.0)
    patches /= patches.std()
    noisy = z + rng.standard_normal(shape) * (0.0012 + 0.0015 * z**2) + patches * 0.0012 * z
    jump = maximum_filter(z, 3) - minimum_filter(z, 3) > 0.08 + 0.04 * z
    dark = view.color.mean(2) < 0.12
    lost = (z < 0.4) | (z > 5.0)
    lost |= jump & (rng.random(shape) < 0.6)
    lost |= view.facing < 0.12 + 0.08 * rng.random(shape)
    lost |= (dark | (view.gloss >= 0.3)) & (patches > 0.9)
    lost |= patches > 2.6
    return np.where(lost, 0, np.rint(noisy * 1000)).astype(np.uint16)
