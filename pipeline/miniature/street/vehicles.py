"""Everything on wheels. One function a class: it draws one at random and returns its solids.

Local frame: x forward from the middle, y left, z up from the ground; metres. Labels are lidarseg's.
"""

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Solid, about_x, about_z, block, drum, egg
from hicl.pipeline.miniature.street import materials as mt
from hicl.pipeline.miniature.street import people
from hicl.pipeline.miniature.street.categories import (
    BENDY_BUS,
    BICYCLE,
    BUS,
    CAR,
    DIGGER,
    MOTORCYCLE,
    TRAILER,
    TRUCK,
)
from hicl.pipeline.miniature.textures import Material


def wheel(x: float, y: float, radius: float, width: float, label: int, material: Material = mt.TYRE) -> Solid:
    """A wheel that stands on the ground at x, y, its axle along y."""
    upright = drum((-radius, radius), (-radius, radius), (-width / 2, width / 2), label, material)
    return upright.moved(about_x(np.pi / 2), np.array([x, y, radius]))


def _wheels(xs: list[float], half: float, radius: float, label: int) -> list[Solid]:
    return [wheel(x, side * (half - 0.12), radius, 0.24, label) for x in xs for side in (-1, 1)]


def _lights(front: float, back: float, half: float, z: float, label: int) -> list[Solid]:
    head, tail = mt.lamp((0.95, 0.93, 0.85), 0.55), mt.plate((0.75, 0.08, 0.06))
    out = []
    for side in (-1, 1):
        y = side * (half - 0.22)
        out.append(block((front - 0.08, front + 0.02), (y - 0.14, y + 0.14), (z, z + 0.14), label, head, 0.03))
        out.append(block((back - 0.02, back + 0.08), (y - 0.14, y + 0.14), (z, z + 0.16), label, tail, 0.03))
    return out


def car(rng: np.random.Generator) -> Piece:
    """A hatchback, a saloon, an estate, or a van."""
    kind = rng.choice(["hatch", "saloon", "estate", "van"], p=[0.3, 0.35, 0.2, 0.15])
    long = {"hatch": 3.9, "saloon": 4.6, "estate": 4.6, "van": 5.0}[kind] * rng.uniform(0.95, 1.05)
    high = {"hatch": 1.48, "saloon": 1.45, "estate": 1.62, "van": 2.05}[kind] * rng.uniform(0.97, 1.05)
    half, x, paint = rng.uniform(0.86, 0.95), long / 2, mt.lacquer(rng)
    waist = 0.92 if kind != "van" else 1.15
    out = [block((-x, x), (-half, half), (0.28, waist), CAR, paint, 0.12)]
    back = {"hatch": -x + 0.15, "saloon": -x + 0.75, "estate": -x + 0.12, "van": -x + 0.05}[kind]
    front = x - (0.95 if kind == "van" else 1.45)
    narrow = half - 0.1
    out.append(block((back, front + 0.25), (-narrow, narrow), (waist - 0.1, high - 0.12), CAR, mt.GLASS, 0.1))
    out.append(block((back + 0.18, front - 0.15), (-narrow, narrow), (high - 0.3, high), CAR, paint, 0.1))
    for post in (back + 0.12, (back + front) / 2, front):
        out.append(block((post - 0.06, post + 0.06), (-narrow - 0.01, narrow + 0.01), (waist, high - 0.1), CAR, paint))
    if kind == "van" and rng.random() < 0.5:
        out.append(block((back + 0.05, 0.3), (-half + 0.02, half - 0.02), (waist - 0.1, high - 0.04), CAR, paint, 0.05))
    out += _wheels([-x + 0.75, x - 0.8], half, 0.33, CAR)
    return Piece(out + _lights(x, -x, half, 0.58, CAR))


def _cab(rng: np.random.Generator, x0: float, x1: float, half: float, high: float, label: int) -> list[Solid]:
    paint = mt.lacquer(rng)
    return [
        block((x0, x1), (-half, half), (0.55, high), label, paint, 0.1),
        block((x1 - 0.5, x1 + 0.02), (-half + 0.12, half - 0.12), (high * 0.56, high - 0.3), label, mt.GLASS),
        block((x0 + 0.5, x1 - 0.25), (-half - 0.01, half + 0.01), (high * 0.58, high - 0.35), label, mt.GLASS),
    ]


def truck(rng: np.random.Generator) -> Piece:
    """A lorry with a box, a flat bed with a load, or a pick-up."""
    if rng.random() < 0.2:
        half, paint = rng.uniform(0.95, 1.02), mt.lacquer(rng)
        out = [block((-2.7, 2.7), (-half, half), (0.4, 1.05), TRUCK, paint, 0.1)]
        out.append(block((-0.5, 1.3), (-half + 0.08, half - 0.08), (1.0, 1.7), TRUCK, mt.GLASS, 0.1))
        out.append(block((-0.4, 1.0), (-half + 0.08, half - 0.08), (1.55, 1.85), TRUCK, paint, 0.1))
        out.append(block((-2.6, -0.6), (-half + 0.1, half - 0.1), (1.0, 1.07), TRUCK, mt.TYRE))
        return Piece(out + _wheels([-1.7, 1.75], half, 0.4, TRUCK) + _lights(2.7, -2.7, half, 0.75, TRUCK))
    long, half, high = rng.uniform(6, 10), rng.uniform(1.1, 1.25), rng.uniform(2.4, 3.0)
    x = long / 2
    out = _cab(rng, x - 1.9, x, half, high, TRUCK)
    out.append(block((-x, x - 1.5), (-half * 0.5, half * 0.5), (0.6, 0.95), TRUCK, mt.TYRE))
    if rng.random() < 0.7:
        out.append(block((-x, x - 2.0), (-half, half), (0.95, high + rng.uniform(0.1, 0.8)), TRUCK, mt.tarpaulin(rng)))
    else:
        out.append(block((-x, x - 2.0), (-half, half), (0.95, 1.5), TRUCK, mt.machine(rng)))
        out.append(egg((-x + 0.4, x - 2.4), (-half + 0.1, half - 0.1), (0.8, 2.1), TRUCK, mt.earth(rng)))
    axles = [x - 1.0, -x + 1.0] + ([-x + 2.2] if long > 8 else [])
    return Piece(out + _wheels(axles, half, 0.48, TRUCK) + _lights(x, -x, half, 0.75, TRUCK))


def bus(rng: np.random.Generator) -> Piece:
    """A city bus, sometimes of two parts."""
    half, high, paint = rng.uniform(1.22, 1.28), rng.uniform(2.9, 3.3), mt.lacquer(rng)
    if rng.random() < 0.15:
        high += 1.1  # two decks
    bendy = rng.random() < 0.2
    label, x = (BENDY_BUS, 8.5) if bendy else (BUS, rng.uniform(5.2, 6.0))
    side = mt.window_band(rng, paint)
    spans = [(-x, -0.6), (0.6, x)] if bendy else [(-x, x)]
    out = [block(span, (-half, half), (0.35, high), label, side, 0.1) for span in spans]
    if bendy:
        out.append(block((-0.7, 0.7), (-half + 0.1, half - 0.1), (0.5, high - 0.15), label, mt.TYRE))
    out.append(block((x - 0.1, x + 0.03), (-half + 0.12, half - 0.12), (1.2, high - 0.55), label, mt.GLASS))
    out.append(block((-x, x), (-half + 0.02, half - 0.02), (high - 0.1, high + 0.05), label, paint))
    out.append(block((x - 0.1, x + 0.04), (-0.8, 0.8), (high - 0.45, high - 0.15), label, mt.lamp(mt.YELLOW, 0.5)))
    axles = [x - 2.4, -x + 2.4] + ([1.8] if bendy else [])
    return Piece(out + _wheels(axles, half, 0.5, label) + _lights(x, -x, half, 0.7, label))


def trailer(rng: np.random.Generator) -> Piece:
    """A semi-trailer, with or without a container, on its legs; or a small one behind a car."""
    if rng.random() < 0.25:
        half = rng.uniform(0.75, 0.9)
        out = [block((-1.3, 1.2), (-half, half), (0.5, 1.0), TRAILER, mt.steel(rng))]
        out.append(
            block((-1.25, 1.15), (-half + 0.04, half - 0.04), (0.9, rng.uniform(1.0, 1.8)), TRAILER, mt.tarpaulin(rng))
        )
        out.append(block((1.1, 2.4), (-0.06, 0.06), (0.4, 0.52), TRAILER, mt.steel(rng)))
        return Piece(out + _wheels([-0.1], half + 0.2, 0.33, TRAILER))
    x, half = rng.uniform(4.5, 6.5), 1.25
    out = [block((-x, x), (-half, half), (1.0, 1.25), TRAILER, mt.steel(rng))]
    if rng.random() < 0.75:
        out.append(block((-x, x), (-half, half), (1.25, rng.uniform(3.4, 3.9)), TRAILER, mt.tarpaulin(rng)))
    else:
        out.append(block((x - 0.1, x), (-half, half), (1.2, 2.2), TRAILER, mt.steel(rng)))
        out.append(
            block((-x + 0.5, 0), (-half + 0.2, half - 0.2), (1.2, rng.uniform(1.6, 2.4)), TRAILER, mt.tarpaulin(rng))
        )
    out += [block((x - 2.2, x - 2.05), (s - 0.08, s + 0.08), (0, 1.0), TRAILER, mt.steel(rng)) for s in (-0.9, 0.9)]
    return Piece(out + _wheels([-x + 0.8, -x + 1.9, -x + 3.0], half, 0.48, TRAILER))


def digger(rng: np.random.Generator) -> Piece:
    """An excavator on tracks, a wheel loader, or a roller."""
    kind, paint = rng.choice(["excavator", "loader", "roller"], p=[0.5, 0.3, 0.2]), mt.machine(rng)
    dark = mt.TYRE
    if kind == "excavator":
        out = [block((-1.7, 1.7), (s - 0.3, s + 0.3), (0, 0.85), DIGGER, dark, 0.3) for s in (-1.0, 1.0)]
        out.append(block((-1.8, 1.3), (-1.3, 1.3), (0.95, 1.9), DIGGER, paint, 0.1))
        out.append(block((0.0, 1.35), (0.2, 1.2), (1.8, 2.9), DIGGER, mt.GLASS, 0.08))
        out.append(block((0.0, 1.35), (0.2, 1.2), (2.85, 3.0), DIGGER, paint))
        out += _arm(rng, 1.2, 1.6, DIGGER, paint)
        return Piece(out)
    if kind == "loader":
        out = [wheel(a, s, 0.75, 0.55, DIGGER) for a in (-1.4, 1.4) for s in (-1.0, 1.0)]
        out.append(block((-2.6, 0.2), (-0.95, 0.95), (0.8, 2.0), DIGGER, paint, 0.1))
        out.append(block((-0.9, 0.6), (-0.8, 0.8), (1.8, 3.2), DIGGER, mt.GLASS, 0.08))
        out.append(block((-1.0, 0.7), (-0.85, 0.85), (3.15, 3.3), DIGGER, paint))
        out.append(block((0.2, 3.0), (-0.5, 0.5), (0.7, 1.2), DIGGER, paint))
        out.append(block((2.8, 3.7), (-1.3, 1.3), (0.15, 1.2), DIGGER, mt.steel(rng), 0.1))
        return Piece(out)
    out = [wheel(a, 0.0, 0.7, 1.8, DIGGER, mt.steel(rng)) for a in (-1.6, 1.6)]
    out.append(block((-1.9, 1.9), (-0.85, 0.85), (0.75, 1.6), DIGGER, paint, 0.12))
    out.append(block((-0.9, 0.7), (-0.75, 0.75), (1.5, 2.5), DIGGER, mt.GLASS, 0.05))
    out.append(block((-1.0, 0.8), (-0.85, 0.85), (2.45, 2.65), DIGGER, paint))
    return Piece(out)


def _about_y(angle: float) -> np.ndarray:
    """Rotation that tips x up towards z by `angle` radians."""
    turn = about_z(np.pi / 2)
    return turn @ about_x(-angle) @ turn.T


def _arm(rng: np.random.Generator, x: float, z: float, label: int, paint: Material) -> list[Solid]:
    """Boom up, stick down, bucket at its end."""
    up, down = rng.uniform(0.6, 1.0), rng.uniform(-1.2, -0.7)
    first, second = 3.4, 2.6
    out = []
    at = np.array([x, -0.3, z])
    for length, angle, thick in ((first, up, 0.28), (second, down, 0.2)):
        ahead = np.array([np.cos(angle), 0.0, np.sin(angle)])
        part = block((-length / 2, length / 2), (-thick, thick), (-thick, thick), label, paint, 0.05)
        out.append(part.moved(_about_y(angle), at + ahead * length / 2))
        at = at + ahead * length
    bucket = block((-0.45, 0.45), (-0.6, 0.6), (-0.45, 0.45), label, mt.steel(rng), 0.12)
    return [*out, bucket.moved(_about_y(0.4), np.maximum(at, [0, -9, 0.5]))]


def _rod(a: tuple[float, float, float], b: tuple[float, float, float], thick: float, label: int, m: Material) -> Solid:
    start, end = np.array(a, float), np.array(b, float)
    length = np.linalg.norm(end - start)
    z = (end - start) / length
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    bar = drum((-thick, thick), (-thick, thick), (-float(length) / 2, float(length) / 2), label, m)
    return bar.moved(np.stack([x, np.cross(z, x), z], 1), (start + end) / 2)


def bicycle(rng: np.random.Generator, ridden: bool) -> Piece:
    """A bicycle; a rider belongs to it, as in nuScenes."""
    m, radius, b = mt.lacquer(rng), 0.34, BICYCLE
    out = [wheel(x, 0.0, radius, 0.06, b) for x in (-0.52, 0.52)]
    seat, bar, crank = (-0.2, 0.0, 0.9), (0.42, 0.0, 0.98), (-0.05, 0.0, 0.35)
    for a, e in (((-0.52, 0, 0.34), crank), (crank, seat), (crank, bar), (seat, (0.4, 0, 0.8)), ((0.52, 0, 0.34), bar)):
        out.append(_rod(a, e, 0.03, b, m))
    out.append(block((0.36, 0.46), (-0.28, 0.28), (0.98, 1.03), b, mt.TYRE))
    out.append(block((-0.34, -0.08), (-0.09, 0.09), (0.9, 0.97), b, mt.TYRE, 0.03))
    return Piece(out + (people.rider(rng, -0.2, 0.95, 0.35, b) if ridden else []))


def motorcycle(rng: np.random.Generator, ridden: bool) -> Piece:
    """A motorcycle or a scooter; a rider belongs to it."""
    m, b = mt.lacquer(rng), MOTORCYCLE
    out = [wheel(x, 0.0, 0.32, 0.14, b) for x in (-0.68, 0.7)]
    out.append(egg((-0.15, 0.5), (-0.18, 0.18), (0.6, 1.0), b, m))
    out.append(block((-0.45, 0.35), (-0.17, 0.17), (0.25, 0.7), b, mt.steel(rng), 0.08))
    out.append(block((-0.85, 0.0), (-0.16, 0.16), (0.68, 0.86), b, mt.TYRE, 0.06))
    out.append(_rod((0.7, 0, 0.32), (0.42, 0, 1.02), 0.06, b, mt.steel(rng)))
    out.append(block((0.36, 0.46), (-0.36, 0.36), (1.0, 1.06), b, mt.TYRE))
    out.append(egg((0.42, 0.62), (-0.12, 0.12), (0.72, 0.96), b, mt.lamp((0.95, 0.93, 0.85), 0.5)))
    if rng.random() < 0.5:  # a scooter's shield, and a box behind
        out.append(block((0.3, 0.42), (-0.24, 0.24), (0.25, 0.95), b, m, 0.05))
        out.append(block((-1.0, -0.6), (-0.22, 0.22), (0.85, 1.25), b, m, 0.06))
    return Piece(out + (people.rider(rng, -0.3, 0.85, 0.4, b) if ridden else []))
