"""What a street is made of. As indoors, families of colours overlap on purpose: a grey kerb beside a grey road."""

import dataclasses

import numpy as np

from hicl.pipeline.kernels import paint as p
from hicl.pipeline.miniature.textures import Material, draw, hue, pick, plain

_ASPHALT = [(0.32, 0.32, 0.33), (0.38, 0.37, 0.36), (0.27, 0.27, 0.29)]
_PAVING = [(0.58, 0.56, 0.53), (0.5, 0.5, 0.5), (0.62, 0.52, 0.45), (0.44, 0.43, 0.42)]
_EARTH = [(0.36, 0.45, 0.2), (0.42, 0.47, 0.24), (0.3, 0.4, 0.18), (0.5, 0.43, 0.28)]
_CANAL = [(0.62, 0.6, 0.56), (0.4, 0.36, 0.33), (0.3, 0.38, 0.4)]
_LEAF = [(0.2, 0.38, 0.14), (0.28, 0.42, 0.16), (0.16, 0.3, 0.13), (0.45, 0.42, 0.16)]
_STONE = [(0.72, 0.66, 0.55), (0.6, 0.35, 0.27), (0.75, 0.74, 0.71), (0.5, 0.48, 0.46), (0.82, 0.76, 0.62)]
_PAINT = [
    (0.9, 0.9, 0.9),
    (0.08, 0.08, 0.09),
    (0.45, 0.46, 0.48),
    (0.7, 0.71, 0.73),
    (0.6, 0.1, 0.1),
    (0.12, 0.22, 0.5),
]
_BARK = [(0.3, 0.22, 0.16), (0.4, 0.36, 0.3)]
YELLOW, ORANGE, WHITE = (0.85, 0.62, 0.1), (0.92, 0.35, 0.08), (0.92, 0.92, 0.9)


def asphalt(rng: np.random.Generator, lane: float) -> Material:
    """A road with lines `lane` metres apart."""
    return draw(rng, p.ROAD, pick(rng, _ASPHALT), scale=lane, second=(0.85, 0.85, 0.82))


def bare_asphalt(rng: np.random.Generator) -> Material:
    """A road without lines."""
    return draw(rng, p.MOTTLE, pick(rng, _ASPHALT), 0.85, 0.7)


def crossing() -> Material:
    """A zebra crossing's stripes."""
    return Material(p.HOOPS, (0.82, 0.82, 0.8), (0.34, 0.34, 0.34), 1.0)


def paving(rng: np.random.Generator) -> Material:
    """A pavement's slabs."""
    return draw(rng, p.TILES, pick(rng, _PAVING), 0.8, rng.uniform(0.4, 1.1))


def earth(rng: np.random.Generator) -> Material:
    """Lawn, meadow or bare soil."""
    return draw(rng, p.MOTTLE, pick(rng, _EARTH), 0.7, rng.uniform(0.5, 1.2))


def island(rng: np.random.Generator) -> Material:
    """What is flat and for nobody: concrete islands, gravel of a track, water."""
    return draw(rng, p.MOTTLE, pick(rng, _CANAL), rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.9))


def leaves(rng: np.random.Generator) -> Material:
    """Crowns and hedges; a beam goes in a little."""
    green = draw(rng, p.LEAVES, pick(rng, _LEAF), 0.35, rng.uniform(0.3, 0.6))
    return dataclasses.replace(green, rough=0.18)


def bark(rng: np.random.Generator) -> Material:
    """Trunks."""
    return draw(rng, p.MOTTLE, pick(rng, _BARK), 0.7, 0.2)


def facade(rng: np.random.Generator) -> Material:
    """Walls with windows in storeys of about three metres."""
    glass = np.array([0.2, 0.25, 0.3]) + rng.normal(0, 0.05, 3)
    return draw(rng, p.FACADE, pick(rng, _STONE), scale=rng.uniform(2.7, 3.4), second=np.clip(glass, 0.05, 0.6))


def wall(rng: np.random.Generator) -> Material:
    """Walls without windows, roofs, concrete."""
    texture = int(rng.choice([p.PLAIN, p.MOTTLE, p.TILES]))
    return draw(rng, texture, pick(rng, _STONE), 0.8, rng.uniform(0.3, 0.8))


def lacquer(rng: np.random.Generator) -> Material:
    """A vehicle's paint."""
    color = pick(rng, _PAINT) if rng.random() < 0.75 else hue(rng, 0.2, 0.7)
    return draw(rng, p.PLAIN, color, 0.92, 1.0, 0.35)


def window_band(rng: np.random.Generator, paint: Material) -> Material:
    """A bus's sides: its paint with a row of windows."""
    return draw(rng, p.BAND, paint.first, scale=rng.uniform(1.2, 1.8), second=(0.1, 0.12, 0.14), gloss=0.2)


def tarpaulin(rng: np.random.Generator) -> Material:
    """Boxes of trucks and trailers."""
    texture = int(rng.choice([p.PLAIN, p.SLATS, p.STRIPES], p=[0.55, 0.3, 0.15]))
    color = WHITE if rng.random() < 0.45 else hue(rng, 0.2, 0.75)
    return draw(rng, texture, color, 0.85, rng.uniform(0.3, 1.2), second=None)


def machine(rng: np.random.Generator) -> Material:
    """Yellow or orange of construction sites."""
    return draw(rng, p.MOTTLE, YELLOW if rng.random() < 0.75 else ORANGE, 0.85, 0.4, 0.15)


def signal(rng: np.random.Generator) -> Material:
    """Red and white, or orange and white, which shine in a beam."""
    red = (0.8, 0.12, 0.1) if rng.random() < 0.6 else ORANGE
    return dataclasses.replace(draw(rng, p.HAZARD, red, scale=0.5, second=WHITE), retro=0.5)


def cone(rng: np.random.Generator) -> Material:
    """Orange with white hoops."""
    return dataclasses.replace(draw(rng, p.HOOPS, ORANGE, scale=0.3, second=WHITE), retro=0.4)


def clothes(rng: np.random.Generator) -> Material:
    """What people wear."""
    texture = int(rng.choice([p.PLAIN, p.MOTTLE, p.STRIPES], p=[0.6, 0.25, 0.15]))
    return draw(rng, texture, hue(rng, 0.1, 0.7), 0.75, 0.15)


def steel(rng: np.random.Generator) -> Material:
    """Poles, fences, frames."""
    return draw(rng, p.PLAIN, pick(rng, [(0.5, 0.51, 0.53), (0.3, 0.31, 0.32), (0.2, 0.28, 0.22)]), 0.85, 0.4, 0.25)


def lamp(color: tuple[float, float, float], glow: float) -> Material:
    """Something that shines."""
    return plain(color, 0.2, glow)


def plate(color: tuple[float, float, float]) -> Material:
    """A sign, which throws beams back."""
    return dataclasses.replace(plain(color), retro=0.9)


GLASS = plain((0.09, 0.1, 0.12), 0.45)
TYRE = plain((0.06, 0.06, 0.06))
SKIN = plain((0.72, 0.53, 0.42))
