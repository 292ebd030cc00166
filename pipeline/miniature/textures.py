"""Materials: colours and patterns drawn per object.

The families overlap on purpose: a white door before a white wall, a wooden table beside a wooden desk, a grey
refrigerator beside a grey cabinet. Colour alone must not give the class away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hicl.pipeline.kernels import paint as p

Color = Sequence[float] | np.ndarray
"""RGB in 0..1."""


@dataclass(frozen=True)
class Material:
    """A pattern of `kernels.paint` with its two colours (RGB in 0..1), scale in metres and seed.

    gloss, glow: shares of mirrored light and of light of its own. rough: metres that a LiDAR's beam may go in, as among
    leaves. retro: share of a beam that is thrown back to where it came from.
    """

    texture: int
    first: Color
    second: Color
    scale: float = 0.3
    seed: int = 0
    gloss: float = 0.0
    glow: float = 0.0
    rough: float = 0.0
    retro: float = 0.0


def _shade(color: Color, factor: float) -> Color:
    return tuple(float(min(max(c * factor, 0.0), 1.0)) for c in color)


def draw(
    rng: np.random.Generator,
    texture: int,
    color: Color,
    contrast: float = 0.6,
    scale: float = 0.3,
    gloss: float = 0.0,
    second: Color | None = None,
) -> Material:
    color = tuple(float(c) for c in np.clip(np.asarray(color) + rng.normal(0, 0.02, 3), 0.02, 0.98))
    second = _shade(color, contrast) if second is None else tuple(float(c) for c in second)
    return Material(texture, color, second, float(scale), int(rng.integers(1 << 20)), float(gloss))


_WOODS = [(0.72, 0.53, 0.34), (0.55, 0.36, 0.2), (0.36, 0.22, 0.13), (0.82, 0.68, 0.48), (0.62, 0.42, 0.3)]
_PALES = [(0.93, 0.92, 0.89), (0.88, 0.86, 0.8), (0.82, 0.83, 0.84), (0.9, 0.86, 0.76)]
_WALLS = [(0.85, 0.83, 0.76), (0.78, 0.83, 0.85), (0.86, 0.8, 0.72), (0.8, 0.85, 0.77), (0.75, 0.74, 0.76)]
_GREYS = [(0.75, 0.76, 0.78), (0.55, 0.56, 0.58), (0.36, 0.37, 0.4), (0.2, 0.2, 0.22)]


def hue(rng: np.random.Generator, low: float = 0.2, high: float = 0.8) -> np.ndarray:
    """Any cloth or paint colour: float64 [3] with moderate saturation."""
    base = rng.uniform(low, high)
    return np.clip(base + rng.normal(0, 0.16, 3), 0.05, 0.95)


def pick(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def wood(rng: np.random.Generator) -> Material:
    """Stained or natural wood."""
    return draw(rng, p.GRAIN, pick(rng, _WOODS), rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.6), 0.1)


def painted(rng: np.random.Generator) -> Material:
    """Painted board: mostly pale, sometimes any colour."""
    color = pick(rng, _PALES) if rng.random() < 0.7 else hue(rng)
    return draw(rng, p.PLAIN, color, 0.8, 0.5, 0.1)


def board(rng: np.random.Generator) -> Material:
    """What furniture is made of: wood, paint or grey laminate."""
    roll = rng.random()
    if roll < 0.6:
        return wood(rng)
    return painted(rng) if roll < 0.85 else draw(rng, p.PLAIN, pick(rng, _GREYS), 0.8, 0.4, 0.15)


def doored(rng: np.random.Generator) -> Material:
    """Cupboard fronts: panels with joints and knobs, in wood, paint or grey."""
    color = pick(rng, _WOODS + _PALES + _GREYS[:2])
    return draw(rng, p.PANELS, color, 0.35, rng.uniform(0.35, 0.55), 0.1)


def cloth(rng: np.random.Generator) -> Material:
    """Upholstery, bed covers and curtains: weave, stripes, checks, dots or plain in any colour."""
    color = hue(rng)
    texture = int(
        rng.choice([p.WEAVE, p.MOTTLE, p.PLAIN, p.STRIPES, p.CHECKER, p.DOTS], p=[0.3, 0.2, 0.2, 0.12, 0.1, 0.08])
    )
    other = hue(rng) if rng.random() < 0.4 else np.clip(color * rng.uniform(0.6, 1.35), 0, 1)
    return draw(rng, texture, color, scale=rng.uniform(0.08, 0.3), second=other)


def linen(rng: np.random.Generator) -> Material:
    """Pale bedding, towels and shower curtains, sometimes patterned."""
    texture = int(rng.choice([p.PLAIN, p.WEAVE, p.STRIPES, p.DOTS], p=[0.4, 0.25, 0.15, 0.2]))
    return draw(rng, texture, pick(rng, _PALES), scale=rng.uniform(0.1, 0.25), second=hue(rng, 0.4, 0.9))


def metal(rng: np.random.Generator) -> Material:
    """Legs, taps, office furniture."""
    return draw(rng, p.PLAIN, pick(rng, _GREYS), 0.85, 0.3, 0.3)


def ceramic(rng: np.random.Generator) -> Material:
    """Toilets, sinks, tubs: mostly white, sometimes bone or grey."""
    color = pick(rng, [(0.95, 0.95, 0.95), (0.92, 0.9, 0.85), (0.95, 0.95, 0.95), (0.78, 0.78, 0.76)])
    return draw(rng, p.PLAIN, color, 0.92, 0.6, 0.4)


def stone(rng: np.random.Generator) -> Material:
    """Counter tops."""
    color = pick(rng, [(0.3, 0.3, 0.31), (0.6, 0.58, 0.55), (0.82, 0.8, 0.76), (0.45, 0.36, 0.3)])
    return draw(rng, p.MOTTLE, color, rng.uniform(0.55, 0.8), 0.08, 0.3)


def appliance(rng: np.random.Generator) -> Material:
    """Refrigerators: white, steel or black."""
    return draw(rng, p.PLAIN, pick(rng, [*_PALES[:3], *_GREYS]), 0.9, 0.6, 0.3)


def books(rng: np.random.Generator) -> Material:
    """A row of book spines."""
    return draw(rng, p.BOOKS, (0.5, 0.47, 0.43), scale=rng.uniform(0.04, 0.07))


def art(rng: np.random.Generator) -> Material:
    """A painting or a poster."""
    return draw(rng, p.ART, hue(rng), scale=rng.uniform(0.12, 0.3), second=hue(rng, 0.1, 0.9))


def glass(rng: np.random.Generator) -> Material:
    """A window pane with its bars and the daylight behind it."""
    frame = pick(rng, [*_PALES, _WOODS[1], _GREYS[2]])
    m = draw(rng, p.GLASS, (0.8, 0.88, 0.95), second=frame, gloss=0.3)
    return Material(m.texture, m.first, m.second, m.scale, m.seed, m.gloss, float(rng.uniform(0.3, 0.8)))


def wall_cover(rng: np.random.Generator, tiled: bool) -> Material:
    """Paint or wallpaper; tiles in a bathroom."""
    if tiled:
        return draw(rng, p.TILES, pick(rng, _PALES + _WALLS), 0.7, rng.uniform(0.15, 0.3), 0.2)
    texture = int(rng.choice([p.PLAIN, p.MOTTLE, p.STRIPES, p.WEAVE], p=[0.7, 0.12, 0.1, 0.08]))
    return draw(rng, texture, pick(rng, _WALLS + _PALES), rng.uniform(0.85, 0.95), rng.uniform(0.2, 0.5))


def floor_cover(rng: np.random.Generator, tiled: bool) -> Material:
    """Boards, carpet or tiles."""
    roll = rng.random()
    if tiled or roll < 0.2:
        color = pick(rng, _PALES + _GREYS[:2] + [(0.65, 0.52, 0.42)])
        return draw(rng, p.TILES if rng.random() < 0.8 else p.CHECKER, color, 0.65, rng.uniform(0.25, 0.5), 0.2)
    if roll < 0.65:
        return draw(rng, p.PLANKS, pick(rng, _WOODS), 0.65, rng.uniform(0.3, 0.5), 0.15)
    return draw(rng, p.MOTTLE, hue(rng, 0.3, 0.65), 0.8, rng.uniform(0.05, 0.15))


def plain(color: Color, gloss: float = 0.0, glow: float = 0.0) -> Material:
    """One colour."""
    color = tuple(float(c) for c in color)
    return Material(p.PLAIN, color, _shade(color, 0.9), 0.4, 0, gloss, glow)
