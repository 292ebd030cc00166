"""Movable furniture. One function a class: it draws a piece at random and returns its solids.

Local frame of a piece: x along the wall (centred), y out of the wall into the room (from 0), z up (from the floor);
metres. Free-standing pieces use the same frame. Labels are NYU40 ids; clutter keeps its own id, which is none of
ScanNet's 20 classes. No part is thinner than about 5 cm: a fused scan thickens what is thinner anyway.
"""

from dataclasses import dataclass

import numpy as np

from hicl.pipeline.miniature import textures as tx
from hicl.pipeline.miniature.solids import Solid, Span, about_x, about_z, block, drum, egg
from hicl.pipeline.miniature.textures import Material

CABINET, BED, CHAIR, SOFA, TABLE, DESK, BOOKSHELF, OTHER = 3, 4, 5, 6, 7, 14, 10, 39
BOX, PILLOW, BOOKS, TELEVISION, TOWEL, LAMP, NIGHT_STAND, PROP, BAG, CLOTHES = 29, 18, 23, 25, 27, 35, 32, 40, 37, 21


@dataclass(frozen=True)
class Piece:
    """Solids that move together. front: metres of free floor wanted before it."""

    solids: list[Solid]
    front: float = 0.35

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners float64 [3] each of the axis-aligned box round all solids."""
        corners = [s.bounds() for s in self.solids]
        return np.min([c[0] for c in corners], 0), np.max([c[1] for c in corners], 0)

    def moved(self, angle: float, shift: np.ndarray) -> "Piece":
        """Turned by `angle` radians about z, then shifted by float64 [3]."""
        turn = about_z(angle)
        return Piece([s.moved(turn, np.asarray(shift, float)) for s in self.solids], self.front)


def _legs(
    x: Span, y: Span, height: float, label: int, material: Material, thick: float = 0.05, round_legs: bool = False
) -> list[Solid]:
    """Four legs at the corners of the intervals x, y."""
    part = drum if round_legs else block
    return [
        part((px, px + thick), (py, py + thick), (0, height), label, material)
        for px in (x[0], x[1] - thick)
        for py in (y[0], y[1] - thick)
    ]


def bed(rng: np.random.Generator) -> Piece:
    """A bed with its head at the wall."""
    w, d = rng.choice([1.0, 1.4, 1.7]) + rng.uniform(-0.05, 0.05), rng.uniform(1.95, 2.1)
    h, frame, cover, under = rng.uniform(0.42, 0.58), tx.board(rng), tx.cloth(rng), tx.linen(rng)
    x = (-w / 2, w / 2)
    out = [block(x, (0.06, d), (0.1, h - 0.2), BED, frame), *_legs(x, (0.06, d), 0.1, BED, frame)]
    out.append(block(x, (0.08, d - 0.02), (h - 0.22, h), BED, under, 0.07))
    out.append(
        block((x[0] - 0.03, x[1] + 0.03), (0.6, d + 0.02), (h - rng.uniform(0.15, 0.35), h + 0.04), BED, cover, 0.05)
    )
    if rng.random() < 0.8:
        out.append(block((x[0] - 0.02, x[1] + 0.02), (0, 0.07), (0, rng.uniform(0.8, 1.15)), BED, frame))
    pillow = tx.linen(rng)
    for c in [0.0] if w < 1.2 else [-w / 4, w / 4]:
        out.append(block((c - 0.27, c + 0.27), (0.12, 0.5), (h - 0.03, h + 0.12), PILLOW, pillow, 0.07))
    return Piece(out, 0.4)


def chair(rng: np.random.Generator) -> Piece:
    """A wooden chair, an office chair on a column, or an armchair; its back towards y = 0."""
    kind = rng.choice(["wood", "office", "arm"], p=[0.5, 0.35, 0.15])
    seat, top = rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.0)
    if kind == "wood":
        m, w = tx.board(rng), rng.uniform(0.4, 0.48)
        x = (-w / 2, w / 2)
        pad = tx.cloth(rng) if rng.random() < 0.5 else m
        out = [*_legs(x, (0, w), seat - 0.02, CHAIR, m), block(x, (0, w), (seat - 0.05, seat + 0.02), CHAIR, pad, 0.02)]
        out += [block((c, c + 0.05), (0, 0.05), (seat, top), CHAIR, m) for c in (x[0], x[1] - 0.05)]
        out.append(block(x, (0, 0.05), (seat + rng.uniform(0.08, 0.25), top), CHAIR, m))
    elif kind == "office":
        m, pad = tx.metal(rng), tx.cloth(rng)
        out = [drum((-0.04, 0.04), (0.21, 0.29), (0.05, seat), CHAIR, m)]
        for a in range(5):
            arm = block((0.0, 0.28), (-0.03, 0.03), (0.03, 0.09), CHAIR, m)
            out.append(arm.moved(about_z(a * 2 * np.pi / 5), np.array([0.0, 0.25, 0.0])))
        out.append(block((-0.24, 0.24), (0.02, 0.5), (seat, seat + 0.09), CHAIR, pad, 0.04))
        out.append(block((-0.22, 0.22), (0.0, 0.08), (seat + 0.12, top + 0.06), CHAIR, pad, 0.035))
        out.append(block((-0.04, 0.04), (0, 0.06), (seat, seat + 0.2), CHAIR, m))
        if rng.random() < 0.6:
            out += [block((s - 0.03, s + 0.03), (0.1, 0.4), (seat + 0.2, seat + 0.25), CHAIR, m) for s in (-0.26, 0.26)]
            out += [block((s - 0.03, s + 0.03), (0.2, 0.27), (seat, seat + 0.22), CHAIR, m) for s in (-0.26, 0.26)]
    else:
        return Piece(_couch(rng, rng.uniform(0.7, 0.85), CHAIR, 1), 0.3)
    return Piece(out, 0.1)


def _couch(rng: np.random.Generator, w: float, label: int, seats: int) -> list[Solid]:
    m, d, seat, top = tx.cloth(rng), rng.uniform(0.78, 0.95), rng.uniform(0.38, 0.46), rng.uniform(0.72, 0.9)
    arm, high = rng.uniform(0.12, 0.2), rng.uniform(0.52, 0.64)
    out = [
        block((-w / 2, w / 2), (0.05, d - 0.03), (0.06, seat - 0.1), label, m, 0.03),
        block((-w / 2, w / 2), (0, 0.22), (0.06, top), label, m, 0.06),
        block((-w / 2, -w / 2 + arm), (0, d), (0.04, high), label, m, 0.05),
        block((w / 2 - arm, w / 2), (0, d), (0.04, high), label, m, 0.05),
    ]
    span = (w - 2 * arm) / seats
    for i in range(seats):
        x = (-w / 2 + arm + i * span + 0.005, -w / 2 + arm + (i + 1) * span - 0.005)
        out.append(block(x, (0.2, d + 0.01), (seat - 0.13, seat + 0.03), label, m, 0.045))
        out.append(block(x, (0.17, 0.34), (seat, top - 0.03), label, m, 0.06))
    return out


def sofa(rng: np.random.Generator) -> Piece:
    """A sofa of two or three seats, sometimes with a chaise, sometimes with cushions on it."""
    seats = int(rng.integers(2, 4))
    w = 0.36 + seats * rng.uniform(0.58, 0.7)
    out = _couch(rng, w, SOFA, seats)
    if rng.random() < 0.25:
        out.append(block((-w / 2 + 0.02, -w / 2 + 0.8), (0.5, 1.55), (0.05, 0.44), SOFA, out[0].material, 0.05))
    for _ in range(int(rng.integers(0, 3))):
        c, m = rng.uniform(-w / 2 + 0.4, w / 2 - 0.4), tx.cloth(rng)
        lean = block((c - 0.2, c + 0.2), (0.36, 0.47), (0.45, 0.83), PILLOW, m, 0.05)
        out.append(Solid(lean.kind, lean.centre, about_x(-0.3), lean.size, lean.label, lean.material))
    return Piece(out, 0.5)


def clutter(rng: np.random.Generator, x: Span, y: Span, z: float, n: int) -> list[Solid]:
    """n small things on a top: boxes, books, lamps, bottles and screens that no class names."""
    out: list[Solid] = []
    if x[1] - x[0] < 0.25 or y[1] - y[0] < 0.2:
        return out
    for _ in range(n):
        px, py = rng.uniform(x[0] + 0.1, x[1] - 0.1), rng.uniform(y[0] + 0.08, y[1] - 0.08)
        kind = rng.choice(["books", "box", "bottle", "lamp", "bag"], p=[0.3, 0.25, 0.25, 0.1, 0.1])
        if kind == "books":
            h = rng.uniform(0.05, 0.15)
            out.append(block((px - 0.1, px + 0.1), (py - 0.08, py + 0.08), (z, z + h), BOOKS, tx.cloth(rng)))
        elif kind == "box":
            a, b, h = rng.uniform(0.07, 0.16, 3)
            out.append(block((px - a, px + a), (py - b * 0.7, py + b * 0.7), (z, z + 1.5 * h), BOX, tx.board(rng)))
        elif kind == "bottle":
            r = rng.uniform(0.035, 0.06)
            out.append(drum((px - r, px + r), (py - r, py + r), (z, z + rng.uniform(0.12, 0.3)), PROP, tx.cloth(rng)))
        elif kind == "lamp":
            m = tx.metal(rng)
            shade = tx.plain((0.95, 0.9, 0.75), glow=0.4)
            out.append(drum((px - 0.03, px + 0.03), (py - 0.03, py + 0.03), (z, z + 0.3), LAMP, m))
            out.append(drum((px - 0.12, px + 0.12), (py - 0.12, py + 0.12), (z + 0.25, z + 0.45), LAMP, shade))
        else:
            out.append(egg((px - 0.16, px + 0.16), (py - 0.09, py + 0.09), (z, z + 0.22), BAG, tx.cloth(rng)))
    return out


def table(rng: np.random.Generator, low: bool = False) -> Piece:
    """A dining table (square, long or round), or a coffee table where `low`."""
    h = rng.uniform(0.38, 0.46) if low else rng.uniform(0.71, 0.77)
    m = tx.board(rng)
    leg = m if rng.random() < 0.7 else tx.metal(rng)
    w, d = (rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.7)) if low else (rng.uniform(1.0, 1.8), rng.uniform(0.75, 0.95))
    if rng.random() < 0.3:
        d = w = min(w, 1.2)
        out = [drum((-w / 2, w / 2), (0, d), (h - 0.05, h), TABLE, m)]
        out.append(drum((-0.05, 0.05), (d / 2 - 0.05, d / 2 + 0.05), (0, h), TABLE, leg))
        out.append(drum((-0.28, 0.28), (d / 2 - 0.28, d / 2 + 0.28), (0, 0.05), TABLE, leg))
    else:
        x, y = (-w / 2, w / 2), (0, d)
        out = [block(x, y, (h - 0.055, h), TABLE, m)]
        out += _legs((x[0] + 0.04, x[1] - 0.04), (0.04, d - 0.04), h - 0.03, TABLE, leg, 0.06, rng.random() < 0.3)
        if low and rng.random() < 0.5:
            out.append(block((x[0] + 0.05, x[1] - 0.05), (0.05, d - 0.05), (0.12, 0.17), TABLE, m))
    out += clutter(rng, (-w / 2 + 0.1, w / 2 - 0.1), (0.12, d - 0.12), h, int(rng.integers(0, 4)))
    return Piece(out, 0.5)


def desk(rng: np.random.Generator) -> Piece:
    """A desk with side panels or legs, drawers, a screen and papers."""
    w, d, h = rng.uniform(1.1, 1.6), rng.uniform(0.6, 0.75), rng.uniform(0.71, 0.76)
    m, x = tx.board(rng), (-w / 2, w / 2)
    out = [block(x, (0, d), (h - 0.055, h), DESK, m)]
    if rng.random() < 0.6:
        out += [block((s, s + 0.05), (0.03, d - 0.03), (0, h - 0.03), DESK, m) for s in (x[0], x[1] - 0.05)]
        out.append(block(x, (0.02, 0.07), (0.3, h - 0.03), DESK, m))
    else:
        out += _legs(x, (0.02, d - 0.02), h - 0.03, DESK, tx.metal(rng))
    if rng.random() < 0.6:
        front = tx.doored(rng) if rng.random() < 0.3 else m
        out.append(block((x[1] - 0.45, x[1] - 0.03), (0.04, d - 0.04), (0.05, h - 0.04), DESK, front))
    if rng.random() < 0.8:
        c, dark = rng.uniform(-0.2, 0.2), tx.plain((0.08, 0.08, 0.1), 0.4)
        out.append(block((c - 0.27, c + 0.27), (0.16, 0.21), (h + 0.1, h + 0.45), PROP, dark))
        out.append(block((c - 0.1, c + 0.1), (0.12, 0.28), (h, h + 0.12), PROP, dark))
        out.append(block((c - 0.22, c + 0.22), (0.38, 0.53), (h, h + 0.03), PROP, tx.metal(rng)))
    out += clutter(rng, (x[0], x[1]), (0.1, d - 0.1), h, int(rng.integers(0, 4)))
    return Piece(out, 0.8)


def bookshelf(rng: np.random.Generator) -> Piece:
    """Shelves between side boards, mostly full of books."""
    w, d, h = rng.uniform(0.7, 1.3), rng.uniform(0.26, 0.36), rng.choice([1.1, 1.8, 2.05]) + rng.uniform(-0.08, 0.08)
    m, x = tx.board(rng), (-w / 2, w / 2)
    out = [block((s, s + 0.05), (0, d), (0, h), BOOKSHELF, m) for s in (x[0], x[1] - 0.05)]
    out.append(block(x, (0, 0.04), (0, h), BOOKSHELF, m))
    rows = max(3, round(h / 0.36))
    for i in range(rows + 1):
        z = 0.03 + i * (h - 0.08) / rows
        out.append(block(x, (0.0, d), (z, z + 0.05), BOOKSHELF, m))
        if i < rows and rng.random() < 0.85:
            fill = rng.uniform(0.5, 1.0) * (w - 0.1)
            a = x[0] + 0.05 + rng.uniform(0, w - 0.1 - fill)
            top = z + 0.05 + (h - 0.08) / rows * rng.uniform(0.6, 0.8)
            out.append(
                block((a, a + fill), (0.04, d - rng.uniform(0.04, 0.09)), (z + 0.04, top), BOOKSHELF, tx.books(rng))
            )
    return Piece(out, 0.5)


def cabinet(rng: np.random.Generator) -> Piece:
    """A wardrobe, a sideboard or a filing cabinet."""
    kind = rng.choice(["tall", "low", "file"], p=[0.4, 0.4, 0.2])
    front = tx.doored(rng)
    if kind == "tall":
        w, d, h = rng.uniform(0.8, 1.6), rng.uniform(0.5, 0.62), rng.uniform(1.7, 2.15)
    elif kind == "low":
        w, d, h = rng.uniform(0.8, 1.6), rng.uniform(0.38, 0.5), rng.uniform(0.7, 1.0)
    else:
        w, d, h = rng.uniform(0.42, 0.5), rng.uniform(0.5, 0.62), rng.uniform(0.7, 1.35)
    x = (-w / 2, w / 2)
    out = [block(x, (0, d), (0.04, h), CABINET, front)]
    if kind != "file":
        body = tx.Material(1, front.first, front.second, 0.4, front.seed, 0.1)
        out.append(block((x[0] - 0.02, x[1] + 0.02), (0, d + 0.02), (h - 0.03, h + 0.02), CABINET, body))
        out.append(block((x[0] + 0.02, x[1] - 0.02), (0, d - 0.05), (0, 0.06), CABINET, body))
    if h < 1.4:
        out += clutter(rng, x, (0, d), h + 0.02 * (kind != "file"), int(rng.integers(0, 3)))
    return Piece(out, 0.5)


def stand(rng: np.random.Generator) -> Piece:
    """A television on its stand: the stand is other furniture."""
    w, d, h = rng.uniform(1.1, 1.6), rng.uniform(0.36, 0.45), rng.uniform(0.4, 0.55)
    m, dark = tx.board(rng), tx.plain((0.06, 0.06, 0.07), 0.4)
    tv = rng.uniform(0.42, 0.6)
    out = [
        block((-w / 2, w / 2), (0, d), (h - 0.05, h), OTHER, m),
        block((-w / 2, w / 2), (0, d), (0.03, 0.09), OTHER, m),
    ]
    out += [block((s, s + 0.05), (0, d), (0, h), OTHER, m) for s in (-w / 2, -0.03, w / 2 - 0.05)]
    out.append(block((-tv, tv), (0.12, 0.18), (h + 0.08, h + 0.08 + 1.1 * tv), TELEVISION, dark))
    out.append(block((-0.15, 0.15), (0.08, 0.25), (h, h + 0.1), TELEVISION, dark))
    return Piece(out, 0.8)


def other(rng: np.random.Generator) -> Piece:
    """Other furniture: an ottoman, a bin, a trolley or a clothes rack."""
    kind = rng.choice(["ottoman", "bin", "trolley", "rack"], p=[0.35, 0.35, 0.15, 0.15])
    if kind == "ottoman":
        w, h = rng.uniform(0.42, 0.65), rng.uniform(0.36, 0.46)
        part = drum if rng.random() < 0.5 else block
        return Piece([part((-w / 2, w / 2), (0, w), (0, h), OTHER, tx.cloth(rng), 0.05)], 0.1)
    if kind == "bin":
        w, h = rng.uniform(0.26, 0.4), rng.uniform(0.35, 0.65)
        part = drum if rng.random() < 0.6 else block
        m = tx.metal(rng) if rng.random() < 0.5 else tx.cloth(rng)
        lid = tx.plain((0.1, 0.1, 0.11), 0.2)
        top = part((-w / 2 + 0.03, w / 2 - 0.03), (0.03, w - 0.03), (h - 0.02, h + 0.015), OTHER, lid)
        return Piece([part((-w / 2, w / 2), (0, w), (0, h), OTHER, m, 0.02), top], 0.1)
    if kind == "trolley":
        m, x, y = tx.metal(rng), (-0.3, 0.3), (0, 0.42)
        out = [block(x, y, (z, z + 0.05), OTHER, m) for z in (0.12, 0.45, 0.78)]
        return Piece([*out, *_legs(x, y, 0.83, OTHER, m), *clutter(rng, x, y, 0.83, 2)], 0.2)
    m = tx.metal(rng)
    out = [block((s - 0.03, s + 0.03), (0.22, 0.28), (0, 1.6), OTHER, m) for s in (-0.45, 0.45)]
    out += [block((s - 0.03, s + 0.03), (0, 0.5), (0, 0.06), OTHER, m) for s in (-0.45, 0.45)]
    out.append(block((-0.45, 0.45), (0.22, 0.28), (1.54, 1.6), OTHER, m))
    for c in rng.uniform(-0.35, 0.35, 3):
        out.append(block((c - 0.05, c + 0.05), (0.05, 0.45), (0.6, 1.5), CLOTHES, tx.cloth(rng), 0.03))
    return Piece(out, 0.3)


def night_stand(rng: np.random.Generator) -> Piece:
    """A night stand with a lamp: clutter to ScanNet's 20 classes."""
    w, h = rng.uniform(0.38, 0.5), rng.uniform(0.45, 0.6)
    out = [block((-w / 2, w / 2), (0, 0.4), (0, h), NIGHT_STAND, tx.doored(rng))]
    return Piece([*out, *clutter(rng, (-w / 2, w / 2), (0, 0.4), h, 2)], 0.1)


def cartons(rng: np.random.Generator) -> Piece:
    """One or two cardboard boxes on the floor."""
    m = tx.plain((0.68, 0.52, 0.36))
    a, b, h = rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.4)
    out = [block((-a / 2, a / 2), (0, b), (0, h), BOX, m)]
    if rng.random() < 0.4:
        out.append(block((-a / 2 + 0.04, a / 2 - 0.08), (0.03, b - 0.03), (h, h + 0.22), BOX, m))
    return Piece(out, 0.0)
