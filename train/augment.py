"""Augmentation of a point cloud: what CLIP2Scene does (`utils/transforms.py`: rotation and flips), and three options.

Every function takes its own random generator and is called in a fixed order, so that a scene's augmentation depends
on (seed, epoch, scene) and on nothing else.
"""

import numpy as np

from hicl.train.config import StreamConfig
from hicl.train.reading import point_features

# Spacing of the elastic field's control points, metres: OpenScene's coarser of two (`dataset/feature_loader.py`).
ELASTIC_SPACING = 0.8


def augment(
    xyz: np.ndarray, values: np.ndarray, config: StreamConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One random variant of a scene.

    Args:
        xyz: [N, 3] float32, metres, z up.
        values: [N, 3] uint8 of colour, or [N] of intensity.

    Returns:
        xyz [N, 3] float32, and features [N, 3 or 1] float32 in -1..1.
    """
    xyz = np.asarray(xyz, np.float32)
    # Drawn whether used or not: switching one option off leaves the others' random numbers as they were.
    angle, flips, factor = rng.uniform(0, 2 * np.pi), rng.random(2) < 0.5, rng.uniform(-1, 1)
    field_rng, colour_rng = rng.spawn(2)
    if config.elastic > 0:
        xyz = elastic(xyz, config.elastic, field_rng)
    if config.rotate:
        cos, sin = np.cos(angle), np.sin(angle)
        xyz = xyz @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    if config.flip:
        xyz = xyz * np.array([*np.where(flips, -1, 1), 1], np.float32)
    if config.scale > 0:
        xyz = xyz * np.float32(1 + config.scale * factor)
    features = point_features(values)
    if config.jitter > 0:
        features = jitter(features, config.jitter, colour_rng)
    return xyz, features


def elastic(xyz: np.ndarray, magnitude: float, rng: np.random.Generator) -> np.ndarray:
    """Displace points by a smooth random field of at most `magnitude` metres in each coordinate."""
    low = xyz.min(axis=0)
    cells = np.ceil((xyz.max(axis=0) - low) / ELASTIC_SPACING).astype(int) + 2
    field = rng.uniform(-magnitude, magnitude, (*cells, 3)).astype(np.float32)
    position = (xyz - low) / np.float32(ELASTIC_SPACING)
    corner = position.astype(np.int64)
    part = position - corner
    moved = xyz.copy()
    for offset in np.ndindex(2, 2, 2):
        weight = np.where(offset, part, 1 - part).prod(axis=1, keepdims=True)
        moved += weight * field[tuple((corner + offset).T)]
    return moved


def jitter(colour: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random contrast of 1 ± strength about the scene's mean, and a random offset of each channel [N, c]."""
    contrast = np.float32(1 + rng.uniform(-strength, strength))
    offset = rng.uniform(-strength, strength, (1, colour.shape[1])).astype(np.float32)
    mean = colour.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.clip((colour - mean) * contrast + mean + offset, -1, 1)
