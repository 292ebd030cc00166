"""What stands beside a road. Local frame: x along the road, y away from it, z up from the ground; metres."""

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import about_x, block, drum, egg
from hicl.pipeline.miniature.street import materials as mt
from hicl.pipeline.miniature.street.categories import BARRIER, BIN, CONE, MANMADE, RACK, VEGETATION


def building(rng: np.random.Generator, width: float, depth: float, height: float) -> Piece:
    """A house with its front at y = 0: storeys, a ground floor of its own, balconies, a flat or a pitched roof."""
    x, front = width / 2, mt.facade(rng)
    out = [block((-x, x), (0, depth), (-0.2, height), MANMADE, front)]
    stone = mt.wall(rng)
    out.append(block((-x - 0.1, x + 0.1), (-0.15, depth), (height, height + 0.4), MANMADE, stone))
    if rng.random() < 0.5:
        out.append(block((-x, x), (-0.12, 0.1), (0, rng.uniform(0.6, 1.0)), MANMADE, stone))
    if rng.random() < 0.4:  # a shop
        out.append(block((-x * 0.8, x * 0.8), (-0.2, 0.2), (0.3, 2.6), MANMADE, mt.GLASS))
        out.append(block((-x * 0.85, x * 0.85), (-1.0, 0.1), (2.7, 2.95), MANMADE, mt.lacquer(rng)))
    else:
        d = rng.uniform(-0.5, 0.5) * x
        out.append(block((d - 0.6, d + 0.6), (-0.1, 0.1), (0, 2.2), MANMADE, mt.lacquer(rng)))
    if height > 6 and rng.random() < 0.5:
        for level in np.arange(3.1, height - 2.5, 3.1):
            out.append(block((-x * 0.5, x * 0.5), (-1.1, 0.1), (level, level + 1.0), MANMADE, stone))
    if height < 8 and rng.random() < 0.6:
        for side in (-1, 1):
            leaf = block((-x - 0.3, x + 0.3), (-depth * 0.33, depth * 0.33), (-0.12, 0.12), MANMADE, stone)
            middle = depth / 2 + side * depth * 0.24
            out.append(leaf.moved(about_x(-side * 0.6), np.array([0, middle, height + 0.4 + depth * 0.14])))
    return Piece(out)


def wall(rng: np.random.Generator, length: float) -> Piece:
    """A garden wall or a fence of posts and rails."""
    high = rng.uniform(0.9, 2.0)
    if rng.random() < 0.5:
        return Piece([block((-length / 2, length / 2), (-0.12, 0.12), (0, high), MANMADE, mt.wall(rng))])
    m = mt.steel(rng)
    out = [block((-length / 2, length / 2), (-0.04, 0.04), (z, z + 0.1), MANMADE, m) for z in (high * 0.5, high - 0.1)]
    for x in np.arange(-length / 2, length / 2 + 0.01, 1.5):
        out.append(block((x - 0.05, x + 0.05), (-0.05, 0.05), (0, high), MANMADE, m))
    return Piece(out)


def tree(rng: np.random.Generator) -> Piece:
    """A trunk under a crown of several parts, or a conifer."""
    high, m = rng.uniform(4.0, 9.0), mt.leaves(rng)
    thick = 0.03 * high * rng.uniform(0.6, 1.1)
    out = [drum((-thick, thick), (-thick, thick), (-0.1, high * 0.55), VEGETATION, mt.bark(rng))]
    if rng.random() < 0.2:
        for i in range(4):
            r, z = high * (0.26 - 0.055 * i), high * (0.22 + 0.19 * i)
            out.append(egg((-r, r), (-r, r), (z, z + high * 0.3), VEGETATION, m))
        return Piece(out)
    for _ in range(int(rng.integers(4, 7))):
        r = high * rng.uniform(0.14, 0.24)
        x, y = rng.normal(0, high * 0.1, 2)
        z = high * rng.uniform(0.45, 0.8)
        out.append(egg((x - r, x + r), (y - r, y + r), (z - 0.8 * r, z + 0.8 * r), VEGETATION, m))
    return Piece(out)


def bush(rng: np.random.Generator) -> Piece:
    """A bush of two or three parts."""
    m = mt.leaves(rng)
    out = []
    for _ in range(int(rng.integers(2, 4))):
        r, x, y = rng.uniform(0.35, 0.8), *rng.normal(0, 0.35, 2)
        out.append(egg((x - r, x + r), (y - r, y + r), (-0.2, r * 1.4), VEGETATION, m))
    return Piece(out)


def hedge(rng: np.random.Generator, length: float) -> Piece:
    """A clipped hedge."""
    high, half = rng.uniform(0.8, 1.8), rng.uniform(0.3, 0.5)
    return Piece([block((-length / 2, length / 2), (-half, half), (-0.1, high), VEGETATION, mt.leaves(rng), 0.2)])


def lamp_post(rng: np.random.Generator) -> Piece:
    """A street lamp, its arm towards the road."""
    high, m, r = rng.uniform(5.0, 7.5), mt.steel(rng), rng.uniform(0.08, 0.12)
    out = [drum((-r, r), (-r, r), (0, high), MANMADE, m)]
    out.append(block((-0.06, 0.06), (-1.6, 0.1), (high - 0.1, high), MANMADE, m))
    out.append(block((-0.16, 0.16), (-1.9, -1.2), (high - 0.14, high - 0.02), MANMADE, mt.lamp((1.0, 0.9, 0.7), 0.9)))
    return Piece(out)


def sign(rng: np.random.Generator) -> Piece:
    """A traffic sign, or a traffic light."""
    m, high = mt.steel(rng), rng.uniform(2.2, 3.2)
    out = [drum((-0.05, 0.05), (-0.05, 0.05), (0, high), MANMADE, m)]
    if rng.random() < 0.4:
        out.append(block((-0.17, 0.17), (-0.16, 0.16), (high - 0.1, high + 0.8), MANMADE, mt.TYRE))
        color, z = ((0.9, 0.1, 0.1), 0.5) if rng.random() < 0.5 else ((0.1, 0.8, 0.3), 0.1)
        for side in (-1, 1):
            out.append(
                egg(
                    (side * 0.2 - 0.08, side * 0.2 + 0.08),
                    (-0.1, 0.1),
                    (high + z - 0.1, high + z + 0.1),
                    MANMADE,
                    mt.lamp(color, 0.8),
                )
            )
        return Piece(out)
    face = mt.plate([(0.15, 0.25, 0.65), (0.8, 0.12, 0.1), (0.9, 0.9, 0.88)][int(rng.integers(3))])
    out.append(block((-0.03, 0.03), (-0.32, 0.32), (high - 0.6, high + 0.05), MANMADE, face, 0.02))
    return Piece(out)


def bollard(rng: np.random.Generator) -> Piece:
    """A short post."""
    r = rng.uniform(0.07, 0.12)
    return Piece([drum((-r, r), (-r, r), (0, rng.uniform(0.7, 1.0)), MANMADE, mt.steel(rng))])


def shelter(rng: np.random.Generator) -> Piece:
    """A bus stop, open towards the road."""
    m = mt.steel(rng)
    out = [
        block((-2.0, 2.0), (-0.7, 0.8), (2.4, 2.52), MANMADE, m),
        block((-2.0, 2.0), (0.7, 0.76), (0.2, 2.4), MANMADE, mt.GLASS),
    ]
    out += [block((s * 2.0 - 0.04, s * 2.0 + 0.04), (-0.6, 0.75), (0.0, 2.4), MANMADE, m) for s in (-1, 1)]
    out.append(block((-1.4, 1.4), (0.25, 0.65), (0.4, 0.5), MANMADE, m))
    return Piece(out)


def cone(rng: np.random.Generator) -> Piece:
    """A traffic cone: three rings that narrow, on a foot."""
    high, m = rng.uniform(0.6, 0.95), mt.cone(rng)
    out = [block((-0.2, 0.2), (-0.2, 0.2), (0, 0.05), CONE, mt.TYRE)]
    for i, r in enumerate((0.15, 0.105, 0.06)):
        out.append(drum((-r, r), (-r, r), (high * i / 3, high * (i + 1) / 3), CONE, m))
    return Piece(out)


def barrier(rng: np.random.Generator) -> Piece:
    """A construction site's barrier: red and white boards on feet, a concrete block, or a plastic one."""
    kind, x = rng.choice(["boards", "concrete", "plastic"], p=[0.4, 0.3, 0.3]), rng.uniform(0.8, 1.1)
    if kind == "boards":
        m, foot = mt.signal(rng), mt.steel(rng)
        out = [block((-x, x), (-0.03, 0.03), (z, z + 0.28), BARRIER, m) for z in (0.25, 0.7)]
        return Piece(
            out + [block((s - 0.05, s + 0.05), (-0.25, 0.25), (0, 0.98), BARRIER, foot) for s in (-x + 0.1, x - 0.1)]
        )
    m = mt.wall(rng) if kind == "concrete" else mt.signal(rng)
    return Piece([
        block((-x, x), (-0.28, 0.28), (0, 0.3), BARRIER, m, 0.04),
        block((-x, x), (-0.13, 0.13), (0.25, rng.uniform(0.8, 1.0)), BARRIER, m, 0.04),
    ])  # fmt: skip


def dustbin(rng: np.random.Generator) -> Piece:
    """A wheeled bin, which none of the sixteen classes names."""
    return Piece([block((-0.3, 0.3), (-0.35, 0.35), (0.05, 1.1), BIN, mt.lacquer(rng), 0.05)])


def rack(rng: np.random.Generator) -> Piece:
    """A bicycle rack, which none of the sixteen classes names."""
    m = mt.steel(rng)
    return Piece([block((x - 0.03, x + 0.03), (-0.35, 0.35), (0, 0.78), RACK, m, 0.02) for x in (-0.8, 0.0, 0.8)])
