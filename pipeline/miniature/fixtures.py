"""What is built into a room: doors, windows, pictures, curtains, and what stands in kitchens and bathrooms.

Frame and labels as in `furniture`; things on a wall have y = 0 at the wall's surface and reach a little into it.
"""

import numpy as np

from hicl.pipeline.miniature import textures as tx
from hicl.pipeline.miniature.furniture import PROP, TOWEL, Piece, clutter
from hicl.pipeline.miniature.solids import basin, block, drum, egg, sheet

DOOR, WINDOW, PICTURE, COUNTER, CURTAIN, CABINET = 8, 9, 11, 12, 16, 3
REFRIGERATOR, SHOWER_CURTAIN, TOILET, SINK, BATHTUB, OTHER = 24, 28, 33, 34, 36, 39
MIRROR, WHITEBOARD, BLINDS, SHELVES = 19, 30, 13, 15
_INTO_WALL = -0.12


def door(rng: np.random.Generator) -> Piece:
    """A door in its frame, flush with the wall or a little open."""
    w, h = rng.uniform(0.78, 0.95), rng.uniform(1.98, 2.1)
    leaf = tx.doored(rng) if rng.random() < 0.35 else tx.board(rng)
    frame = leaf if rng.random() < 0.4 else tx.painted(rng)
    if leaf.texture == 9:  # One or two panels across, not a row of cupboard doors.
        leaf = tx.Material(leaf.texture, leaf.first, leaf.second, w / 2, leaf.seed, leaf.gloss)
    out = [
        block((s - 0.04, s + 0.04), (_INTO_WALL, 0.04), (0, h + 0.08), DOOR, frame)
        for s in (-w / 2 - 0.03, w / 2 + 0.03)
    ]
    out.append(block((-w / 2, w / 2), (_INTO_WALL, 0.04), (h, h + 0.08), DOOR, frame))
    out.append(block((-w / 2, w / 2), (_INTO_WALL, 0.015), (0, h), DOOR, leaf))
    side = w / 2 - 0.1
    out.append(block((side - 0.06, side + 0.04), (0.01, 0.07), (0.98, 1.03), DOOR, tx.metal(rng)))
    return Piece(out, 0.75)


def window(rng: np.random.Generator) -> Piece:
    """A window; blinds half the way down at times."""
    w, z0, z1 = rng.uniform(0.8, 1.7), rng.uniform(0.75, 1.0), rng.uniform(1.75, 2.05)
    frame = tx.painted(rng)
    out = [block((-w / 2, w / 2), (_INTO_WALL, 0.015), (z0, z1), WINDOW, tx.glass(rng))]
    out.append(block((-w / 2 - 0.06, w / 2 + 0.06), (_INTO_WALL, 0.1), (z0 - 0.06, z0), WINDOW, frame))
    if rng.random() < 0.2:
        m = tx.Material(13, (0.88, 0.87, 0.82), (0.6, 0.6, 0.58), 0.05)
        out.append(block((-w / 2, w / 2), (0.0, 0.05), ((z0 + z1) / 2, z1), BLINDS, m))
    return Piece(out, 0.0)


def curtains(rng: np.random.Generator, w: float) -> Piece:
    """Two wavy sheets at the sides of a window `w` metres wide, or one drawn across it."""
    m, z0, z1 = tx.cloth(rng), rng.choice([0.04, 0.6]), rng.uniform(2.05, 2.25)
    wave = (rng.uniform(0.025, 0.045), rng.uniform(0.14, 0.24))
    part = rng.uniform(0.25, 0.45) * w
    spans = [(-w / 2 - 0.2, -w / 2 - 0.2 + part), (w / 2 + 0.2 - part, w / 2 + 0.2)]
    if rng.random() < 0.25:
        spans = [(-w / 2 - 0.15, w / 2 + 0.15)]
    out = [sheet(s, (0.1, 0.15), (z0, z1), CURTAIN, m, *wave) for s in spans]
    out.append(block((-w / 2 - 0.25, w / 2 + 0.25), (0.1, 0.15), (z1, z1 + 0.05), CURTAIN, tx.metal(rng)))
    return Piece(out, 0.0)


def picture(rng: np.random.Generator) -> Piece:
    """A framed picture; its surface hardly leaves the wall."""
    w, h, z = rng.uniform(0.35, 1.0), rng.uniform(0.3, 0.75), rng.uniform(1.4, 1.65)
    frame = tx.board(rng)
    out = [block((-w / 2, w / 2), (_INTO_WALL, 0.02), (z - h / 2, z + h / 2), PICTURE, frame)]
    x, zz = (-w / 2 + 0.05, w / 2 - 0.05), (z - h / 2 + 0.05, z + h / 2 - 0.05)
    out.append(block(x, (_INTO_WALL, 0.026), zz, PICTURE, tx.art(rng)))
    return Piece(out, 0.0)


def whiteboard(rng: np.random.Generator) -> Piece:
    """A whiteboard: none of the 20 classes."""
    w = rng.uniform(1.0, 1.8)
    m = tx.plain((0.94, 0.95, 0.96), 0.3)
    return Piece([block((-w / 2, w / 2), (_INTO_WALL, 0.03), (0.95, 1.95), WHITEBOARD, m)], 0.0)


def mirror(rng: np.random.Generator) -> Piece:
    """A mirror: none of the 20 classes."""
    w = rng.uniform(0.45, 0.8)
    m = tx.Material(3, (0.7, 0.76, 0.8), (0.5, 0.56, 0.62), 0.8, int(rng.integers(1000)), 0.5)
    return Piece([block((-w / 2, w / 2), (_INTO_WALL, 0.03), (1.15, 1.9), MIRROR, m)], 0.0)


def wall_shelf(rng: np.random.Generator) -> Piece:
    """A shelf on the wall with things on it: none of the 20 classes."""
    w = rng.uniform(0.6, 1.1)
    out = [block((-w / 2, w / 2), (0, 0.22), (1.5, 1.55), SHELVES, tx.board(rng))]
    return Piece([*out, *clutter(rng, (-w / 2, w / 2), (0, 0.22), 1.55, 3)], 0.0)


def kitchen_row(rng: np.random.Generator, w: float) -> Piece:
    """Cupboards below (cabinet), a slab (counter) with a sink in it, cupboards above at times; `w` metres long."""
    d, h, m, top = rng.uniform(0.58, 0.65), rng.uniform(0.86, 0.92), tx.doored(rng), tx.stone(rng)
    if rng.random() < 0.2:
        top = tx.wood(rng)
    x = (-w / 2, w / 2)
    out = [
        block(x, (0, d - 0.04), (0.08, h - 0.05), CABINET, m),
        block(x, (0, d - 0.1), (0, 0.1), CABINET, tx.metal(rng)),
    ]
    c, a = rng.uniform(-w / 2 + 0.55, w / 2 - 0.55), 0.3
    # Slab in four parts round the sink's hole.
    z = (h - 0.055, h)
    out.append(block((x[0], c - a), (0, d), z, COUNTER, top))
    out.append(block((c + a, x[1]), (0, d), z, COUNTER, top))
    out.append(block((c - a, c + a), (0, 0.1), z, COUNTER, top))
    out.append(block((c - a, c + a), (d - 0.08, d), z, COUNTER, top))
    out.append(block(x, (0, 0.03), (h, h + 0.12), COUNTER, top))
    tub = tx.metal(rng) if rng.random() < 0.6 else tx.ceramic(rng)
    out.append(basin((c - a - 0.01, c + a + 0.01), (0.09, d - 0.07), (h - 0.2, h + 0.015), SINK, tub, 0.035))
    tap = tx.metal(rng)
    out.append(drum((c - 0.025, c + 0.025), (0.04, 0.09), (h, h + 0.25), SINK, tap))
    out.append(block((c - 0.025, c + 0.025), (0.06, 0.26), (h + 0.21, h + 0.26), SINK, tap))
    if rng.random() < 0.75:
        out.append(block(x, (0, 0.34), (1.42, 2.1), CABINET, m))
    side = (x[0], c - a - 0.05) if c > 0 else (c + a + 0.05, x[1])
    out += clutter(rng, side, (0.1, d - 0.1), h, int(rng.integers(1, 4)))
    return Piece(out, 0.7)


def refrigerator(rng: np.random.Generator) -> Piece:
    """Two doors, handles; white, steel or black."""
    w, d, h, m = rng.uniform(0.58, 0.78), rng.uniform(0.6, 0.7), rng.uniform(1.5, 1.85), tx.appliance(rng)
    split = h * rng.choice([0.36, 0.66])
    x, grip = (-w / 2, w / 2), tx.metal(rng)
    out = [block(x, (0, d - 0.06), (0.03, h), REFRIGERATOR, m, 0.0)]
    out.append(block(x, (d - 0.07, d), (0.04, split - 0.008), REFRIGERATOR, m, 0.025))
    out.append(block(x, (d - 0.07, d), (split + 0.008, h), REFRIGERATOR, m, 0.025))
    out.append(
        block((x[0] + 0.04, x[0] + 0.09), (d - 0.02, d + 0.05), (split - 0.32, split - 0.06), REFRIGERATOR, grip)
    )
    out.append(
        block((x[0] + 0.04, x[0] + 0.09), (d - 0.02, d + 0.05), (split + 0.06, split + 0.32), REFRIGERATOR, grip)
    )
    if rng.random() < 0.4:
        out += clutter(rng, x, (0.1, d - 0.1), h, 2)
    return Piece(out, 0.7)


def toilet(rng: np.random.Generator) -> Piece:
    """Tank at the wall, bowl and seat before it."""
    m, w = tx.ceramic(rng), rng.uniform(0.36, 0.42)
    lid = m if rng.random() < 0.7 else tx.board(rng)
    out = [
        block((-w / 2 - 0.03, w / 2 + 0.03), (0.02, 0.21), (0.4, 0.78), TOILET, m, 0.04),
        egg((-w / 2, w / 2), (0.17, 0.7), (0.12, 0.6), TOILET, m),
        block((-0.12, 0.12), (0.12, 0.52), (0, 0.3), TOILET, m, 0.06),
        drum((-w / 2, w / 2), (0.2, 0.7), (0.37, 0.43), TOILET, lid, 0.02),
    ]
    out[1] = egg((-w / 2, w / 2), (0.17, 0.69), (0.1, 0.56), TOILET, m)
    if rng.random() < 0.35:
        out.append(drum((-w / 2, w / 2), (0.2, 0.26), (0.4, 0.85), TOILET, lid, 0.02))
    return Piece(out, 0.45)


def wash_stand(rng: np.random.Generator) -> Piece:
    """A sink on a column or on a small cabinet."""
    w, d, h, m = rng.uniform(0.5, 0.68), rng.uniform(0.42, 0.52), rng.uniform(0.8, 0.88), tx.ceramic(rng)
    x = (-w / 2, w / 2)
    out = [basin(x, (0, d), (h - 0.2, h), SINK, m, 0.06)]
    if rng.random() < 0.5:
        out.append(drum((-0.1, 0.1), (0.1, 0.3), (0, h - 0.15), SINK, m))
    else:
        out.append(block((x[0] + 0.03, x[1] - 0.03), (0, d - 0.05), (0.05, h - 0.18), CABINET, tx.doored(rng)))
    tap = tx.metal(rng)
    out.append(drum((-0.025, 0.025), (0.01, 0.06), (h - 0.03, h + 0.17), SINK, tap))
    out.append(block((-0.025, 0.025), (0.02, 0.17), (h + 0.13, h + 0.18), SINK, tap))
    return Piece(out, 0.5)


def bathtub(rng: np.random.Generator, w: float) -> Piece:
    """A tub along the wall, `w` metres long, with a shower curtain before part of it."""
    d, h = rng.uniform(0.7, 0.8), rng.uniform(0.48, 0.6)
    out = [basin((-w / 2, w / 2), (0, d), (0, h), BATHTUB, tx.ceramic(rng), 0.09)]
    tap = tx.metal(rng)
    out.append(block((w / 2 - 0.1, w / 2 + 0.0), (d / 2 - 0.03, d / 2 + 0.03), (h, h + 0.18), BATHTUB, tap))
    m = tx.cloth(rng) if rng.random() < 0.5 else tx.linen(rng)
    part = rng.uniform(0.3, 0.6) * w
    x = (-w / 2, -w / 2 + part) if rng.random() < 0.7 else (w / 2 - part, w / 2)
    wave = (rng.uniform(0.02, 0.04), rng.uniform(0.14, 0.24))
    out.append(sheet(x, (d + 0.0, d + 0.05), (0.22, 1.98), SHOWER_CURTAIN, m, *wave))
    out.append(block((-w / 2, w / 2), (d, d + 0.05), (1.98, 2.03), SHOWER_CURTAIN, tap))
    return Piece(out, 0.4)


def shower(rng: np.random.Generator) -> Piece:
    """A shower corner: a tray and a curtain round it."""
    w, d = rng.uniform(0.85, 1.05), rng.uniform(0.8, 0.95)
    m = tx.linen(rng) if rng.random() < 0.5 else tx.cloth(rng)
    out = [block((-w / 2, w / 2), (0, d), (0, 0.12), OTHER, tx.ceramic(rng), 0.03)]
    x = (-w / 2, -w / 2 + rng.uniform(0.6, 1.0) * w)
    out.append(sheet(x, (d - 0.06, d - 0.01), (0.15, 1.98), SHOWER_CURTAIN, m, 0.03, rng.uniform(0.14, 0.22)))
    out.append(block((-w / 2, w / 2), (d - 0.06, d - 0.01), (1.98, 2.03), SHOWER_CURTAIN, tx.metal(rng)))
    return Piece(out, 0.4)


def washer(rng: np.random.Generator) -> Piece:
    """A washing machine: other furniture."""
    m = tx.ceramic(rng)
    out = [block((-0.3, 0.3), (0, 0.6), (0, 0.86), OTHER, m, 0.02)]
    eye = drum((-0.19, 0.19), (-0.19, 0.19), (-0.02, 0.02), OTHER, tx.plain((0.12, 0.13, 0.16), 0.4))
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    out.append(eye.moved(upright, np.array([0.0, 0.6, 0.48])))
    return Piece(out, 0.5)


def towel(rng: np.random.Generator) -> Piece:
    """A towel on a rail: none of the 20 classes."""
    w, m = rng.uniform(0.35, 0.6), tx.cloth(rng)
    out = [block((-w / 2, w / 2), (0.02, 0.08), (0.9, 1.45), TOWEL, m, 0.02)]
    out.append(block((-w / 2 - 0.06, w / 2 + 0.06), (0.0, 0.06), (1.42, 1.47), PROP, tx.metal(rng)))
    return Piece(out, 0.0)
