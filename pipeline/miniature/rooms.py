"""Furnished rooms: what belongs into which kind of room, and where it can stand.

A room is an axis-aligned floor W x D metres with its corner at the origin, z up, and a list of labelled solids. The
kinds of room go round in a shuffled order, so that a handful of scenes shows every class, while a toilet stays rare.
"""

from dataclasses import dataclass

import numpy as np

from hicl.pipeline.miniature import fixtures as fx
from hicl.pipeline.miniature import furniture as fu
from hicl.pipeline.miniature import textures as tx
from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Solid, block

WALL, FLOOR, CEILING, FLOOR_MAT = 1, 2, 22, 20
KINDS = ("bedroom", "living room", "kitchen", "office", "bathroom", "meeting room", "studio")

# Ranges of width and depth in metres.
_EXTENT = {
    "bedroom": ((3.2, 4.6), (3.2, 4.4)),
    "living room": ((4.2, 5.6), (3.8, 4.8)),
    "kitchen": ((3.2, 4.8), (3.0, 4.2)),
    "office": ((3.4, 5.2), (3.2, 4.6)),
    "bathroom": ((2.9, 3.6), (2.8, 3.4)),
    "meeting room": ((4.0, 5.6), (3.6, 4.8)),
    "studio": ((4.6, 6.0), (4.0, 4.8)),
}


@dataclass(frozen=True)
class Room:
    """A furnished room. extent: (width, depth, height) in metres."""

    kind: str
    extent: tuple[float, float, float]
    solids: list[Solid]


class _Builder:
    """Finds free places for pieces; knows nothing about what they are."""

    def __init__(self, rng, kind):
        (w0, w1), (d0, d1) = _EXTENT[kind]
        self.rng, self.kind = rng, kind
        self.w, self.d, self.h = rng.uniform(w0, w1), rng.uniform(d0, d1), rng.uniform(2.4, 2.8)
        self.solids: list[Solid] = []
        self.taken: list[tuple[np.ndarray, np.ndarray]] = []

    def free(self, low, high) -> bool:
        inside = low[0] > -0.13 and low[1] > -0.13 and high[0] < self.w + 0.13 and high[1] < self.d + 0.13
        return inside and not any((low < b).all() and (a < high).all() for a, b in self.taken)

    def add(self, piece: Piece, keep: bool = True):
        self.solids += piece.solids
        if keep:
            low, high = piece.bounds()
            self.taken.append((low, high))

    def at_wall(self, piece: Piece, wall=None, gap=None, tries=40) -> tuple[int, float] | None:
        """Stand `piece` with its back at a wall where it and its front are free; returns (wall, place along it)."""
        rng = self.rng
        low, high = piece.bounds()
        half = max(-low[0], high[0])
        for _ in range(tries):
            k = int(rng.integers(4)) if wall is None else wall
            length = self.w if k % 2 == 0 else self.d
            if length < 2 * half + 0.06:
                continue
            s = rng.uniform(half + 0.03, length - half - 0.03)
            if rng.random() < 0.35:  # Furniture likes corners.
                s = half + 0.04 if rng.random() < 0.5 else length - half - 0.04
            if self.put(piece, k, s, float(rng.uniform(0, 0.06)) if gap is None else gap):
                return k, s
        return None

    def put(self, piece: Piece, wall: int, s: float, gap: float = 0.0, keep: bool = True) -> bool:
        """Put `piece` at place `s` along `wall` if it is free there."""
        origin = [(s, gap), (self.w - gap, s), (self.w - s, self.d - gap), (gap, self.d - s)][wall]
        there = piece.moved(wall * np.pi / 2, np.array([*origin, 0.0]))
        low, high = there.bounds()
        if keep:
            ahead = np.array([[0, 1], [-1, 0], [0, -1], [1, 0]][wall]) * piece.front
            a, b = low.copy(), high.copy()
            a[:2] = np.minimum(a[:2], a[:2] + ahead)
            b[:2] = np.maximum(b[:2], b[:2] + ahead)
            if not self.free(low, high) or not self.free(
                np.maximum(a, [-0.1, -0.1, 0]), np.minimum(b, [self.w + 0.1, self.d + 0.1, 9])
            ):
                return False
            # A door needs its way kept free; other pieces only their own place.
            self.taken.append((a, b) if piece.front >= 0.75 else (low, high))
        self.solids += there.solids
        return True

    def inside(self, piece: Piece, angle=None, tries=30, near=None) -> Piece | None:
        """Stand `piece` freely on the floor."""
        rng = self.rng
        for _ in range(tries):
            turn = rng.uniform(0, 2 * np.pi) if angle is None else angle
            middle = (
                rng.uniform([0.4, 0.4], [self.w - 0.4, self.d - 0.4]) if near is None else near + rng.normal(0, 0.25, 2)
            )
            there = piece.moved(turn, np.array([*middle, 0.0]))
            low, high = there.bounds()
            if low[0] > 0.02 and low[1] > 0.02 and high[0] < self.w - 0.02 and high[1] < self.d - 0.02:
                if self.free(low, high):
                    self.add(there)
                    return there
        return None

    def shell(self):
        rng, w, d, h, t = self.rng, self.w, self.d, self.h, 0.25
        wet = self.kind == "bathroom"
        paint = tx.wall_cover(rng, wet and rng.random() < 0.7)
        accent = tx.wall_cover(rng, False) if rng.random() < 0.35 and not wet else paint
        self.solids.append(block((-t, w + t), (-t, d + t), (-t, 0), FLOOR, tx.floor_cover(rng, wet)))
        self.solids.append(block((-t, w + t), (-t, d + t), (h, h + t), CEILING, tx.plain((0.9, 0.9, 0.88))))
        sides = [((-t, w + t), (-t, 0)), ((w, w + t), (-t, d + t)), ((-t, w + t), (d, d + t)), ((-t, 0), (-t, d + t))]
        skirting = tx.painted(rng)
        for i, (x, y) in enumerate(sides):
            self.solids.append(block(x, y, (-t, h + t), WALL, accent if i == 0 else paint))
            if not wet:
                x, y = [c if c[1] - c[0] > 1 else (c[0] - 0.02, c[1] + 0.02) for c in (x, y)]
                self.solids.append(block(x, y, (0, 0.08), WALL, skirting))
        if rng.random() < 0.35 and not wet:  # A shaft in a corner makes the plan an L.
            a, b = rng.uniform(0.4, 0.9, 2)
            x = (-t, a) if rng.random() < 0.5 else (w - a, w + t)
            y = (-t, b) if rng.random() < 0.5 else (d - b, d + t)
            self.add(Piece([block(x, y, (-t, h + t), WALL, paint)]))

    def seats(self, low, high, count):
        """Chairs round a table that fills [low, high] (float64 [3] each), turned to it."""
        rng, style = self.rng, int(self.rng.integers(1 << 30))
        middle = (low + high) / 2
        half = (high - low) / 2
        spots = [(sx * half[0] * 0.45, sy * (half[1] + 0.28)) for sx in (-1, 1) for sy in (-1, 1)]
        spots += [(sx * (half[0] + 0.3), 0.0) for sx in (-1, 1)]
        for i in rng.permutation(len(spots))[:count]:
            x, y = spots[i]
            toward = np.arctan2(-y if abs(y) > half[1] else 0.0, -x if abs(y) <= half[1] else 0.0)
            # Chairs of one table look alike.
            chair = fu.chair(np.random.default_rng(style))
            turn = about = toward - np.pi / 2 + rng.normal(0, 0.15)
            back = np.array([np.cos(about + np.pi / 2), np.sin(about + np.pi / 2)]) * 0.24
            there = chair.moved(turn, np.array([middle[0] + x - back[0], middle[1] + y - back[1], 0.0]))
            a, b = there.bounds()
            if self.free(a * [1, 1, 1] + [0.06, 0.06, 0], b - [0.06, 0.06, 0]) or self._only_table(a, b, low, high):
                self.add(there)

    def _only_table(self, a, b, low, high):
        """Whether the chair's box meets nothing but the table it is pushed under."""
        if a[0] < 0.02 or a[1] < 0.02 or b[0] > self.w - 0.02 or b[1] > self.d - 0.02:
            return False
        hits = [(p, q) for p, q in self.taken if (a < q).all() and (p < b).all()]
        return all(np.allclose(p, low) and np.allclose(q, high) for p, q in hits)


def _windows(b: _Builder, count, curtain=0.6):
    for _ in range(count):
        piece = fx.window(b.rng)
        place = b.at_wall(piece, gap=0.0)
        if place is not None and b.rng.random() < curtain:
            low, high = piece.bounds()
            b.put(fx.curtains(b.rng, float(high[0] - low[0])), *place, keep=False)


def _walls(b: _Builder, pictures, extra=()):
    for _ in range(pictures):
        b.at_wall(fx.picture(b.rng), gap=0.0)
    for make in extra:
        b.at_wall(make(b.rng), gap=0.0)


def _mat(b: _Builder):
    if b.rng.random() < 0.4:
        x, y = b.w / 2 + b.rng.normal(0, 0.3), b.d / 2 + b.rng.normal(0, 0.3)
        w, d = b.rng.uniform(0.5, 0.9), b.rng.uniform(0.4, 0.7)
        b.solids.append(block((x - w, x + w), (y - d, y + d), (-0.05, 0.012), FLOOR_MAT, tx.cloth(b.rng)))


def _bedroom(b: _Builder):
    rng = b.rng
    place = b.at_wall(fu.bed(rng), gap=0.0)
    if place is not None:
        for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
            b.put(fu.night_stand(rng), place[0], place[1] + side * rng.uniform(1.0, 1.25))
    b.at_wall(fu.cabinet(rng))
    _windows(b, 1, 0.85)
    for make in rng.permutation([fu.desk, fu.bookshelf, fu.cabinet, fu.stand, fu.other])[:2]:
        b.at_wall(make(rng))
    _walls(b, int(rng.integers(1, 3)))
    b.inside(fu.chair(rng))


def _living(b: _Builder):
    rng = b.rng
    place = b.at_wall(fu.sofa(rng))
    if place is not None:
        b.at_wall(fu.stand(rng), wall=(place[0] + 2) % 4)
    if rng.random() < 0.5:
        b.at_wall(fu.sofa(rng))
    low_table = fu.table(rng, low=True)
    b.inside(low_table, angle=float(rng.choice([0, np.pi / 2])), near=np.array([b.w / 2, b.d / 2]))
    b.at_wall(fu.bookshelf(rng))
    _windows(b, 2, 0.8)
    b.at_wall(fu.cabinet(rng))
    _walls(b, int(rng.integers(2, 4)), (fx.wall_shelf,))
    b.inside(fu.chair(rng))


def _kitchen(b: _Builder):
    rng = b.rng
    wall = int(rng.integers(4))
    length = b.w if wall % 2 == 0 else b.d
    b.at_wall(fx.kitchen_row(rng, rng.uniform(1.6, min(2.6, length - 0.9))), wall=wall, gap=0.0)
    b.at_wall(fx.refrigerator(rng), wall=wall) or b.at_wall(fx.refrigerator(rng))
    if rng.random() < 0.5:
        b.at_wall(fx.kitchen_row(rng, rng.uniform(1.3, 1.7)), gap=0.0)
    table = b.inside(fu.table(rng), angle=float(rng.choice([0, np.pi / 2])), near=np.array([b.w / 2, b.d / 2]))
    if table is not None:
        b.seats(*table.bounds(), int(rng.integers(2, 5)))
    _windows(b, 1, 0.4)
    for make in rng.permutation([fu.cabinet, fu.other, fx.washer])[:2]:
        b.at_wall(make(rng))
    _walls(b, 1)


def _office(b: _Builder):
    rng = b.rng
    for _ in range(int(rng.integers(1, 4))):
        place = b.at_wall(fu.desk(rng))
        if place is not None:
            chair = fu.chair(rng)
            turned = Piece([s for s in chair.moved(np.pi, [0.0, 1.25 + rng.uniform(-0.1, 0.1), 0.0]).solids], 0.0)
            b.put(turned, place[0], place[1] + rng.normal(0, 0.1), keep=False)
    for make in rng.permutation([fu.bookshelf, fu.bookshelf, fu.cabinet, fu.cabinet, fu.other, fu.sofa])[:4]:
        b.at_wall(make(rng))
    _windows(b, int(rng.integers(1, 3)), 0.35)
    _walls(b, int(rng.integers(1, 3)), (fx.whiteboard,) if rng.random() < 0.6 else ())
    b.inside(fu.chair(rng))
    b.inside(fu.cartons(rng))


def _bathroom(b: _Builder):
    rng = b.rng
    wall = int(rng.integers(4))
    length = b.w if wall % 2 == 0 else b.d
    if rng.random() < 0.7:
        b.at_wall(fx.bathtub(rng, min(1.7, length - 0.9)), wall=wall, gap=0.0)
    else:
        b.at_wall(fx.shower(rng), gap=0.0)
    b.at_wall(fx.toilet(rng), gap=0.0)
    place = b.at_wall(fx.wash_stand(rng), gap=0.0)
    if place is not None:
        b.put(fx.mirror(rng), *place, keep=False)
    for make in rng.permutation([fx.washer, fu.other, fu.cabinet])[:2]:
        b.at_wall(make(rng))
    _windows(b, int(rng.random() < 0.6), 0.3)
    _walls(b, int(rng.random() < 0.4), (fx.towel, fx.towel))


def _meeting(b: _Builder):
    rng = b.rng
    table = b.inside(fu.table(rng), angle=float(rng.choice([0, np.pi / 2])), near=np.array([b.w / 2, b.d / 2]))
    if table is not None:
        b.seats(*table.bounds(), int(rng.integers(4, 7)))
    for make in rng.permutation([fu.cabinet, fu.bookshelf, fu.stand, fu.other, fu.chair, fu.sofa])[:3]:
        b.at_wall(make(rng))
    _windows(b, 2, 0.6)
    _walls(b, int(rng.integers(1, 4)), (fx.whiteboard,) if rng.random() < 0.7 else ())


def _studio(b: _Builder):
    rng = b.rng
    b.at_wall(fu.bed(rng), gap=0.0)
    b.at_wall(fx.kitchen_row(rng, rng.uniform(1.5, 2.1)), gap=0.0)
    b.at_wall(fx.refrigerator(rng))
    for make in rng.permutation([fu.sofa, fu.desk, fu.bookshelf, fu.cabinet, fu.stand])[:3]:
        b.at_wall(make(rng))
    table = b.inside(fu.table(rng), near=np.array([b.w / 2, b.d / 2]), angle=0.0)
    if table is not None:
        b.seats(*table.bounds(), 2)
    _windows(b, 2, 0.7)
    _walls(b, 2)


_FURNISH = dict(zip(KINDS, (_bedroom, _living, _kitchen, _office, _bathroom, _meeting, _studio), strict=True))


def room_kind(seed: int, index: int) -> str:
    """The kind of the room number `index` of a set with this seed: every seven rooms hold every kind once."""
    turn, place = divmod(index, len(KINDS))
    return KINDS[np.random.default_rng([7, seed, turn]).permutation(len(KINDS))[place]]


def build_room(seed: int, index: int) -> Room:
    """Furnish room number `index` of a set with this seed. The same numbers give the same room, bit by bit."""
    rng = np.random.default_rng([1, seed, index])
    b = _Builder(rng, room_kind(seed, index))
    b.shell()
    b.at_wall(fx.door(rng), gap=0.0)
    _FURNISH[b.kind](b)
    b.at_wall(fu.other(rng))
    b.at_wall(fu.cartons(rng)) if rng.random() < 0.5 else None
    if b.kind != "bathroom":
        _mat(b)
    return Room(b.kind, (b.w, b.d, b.h), b.solids)
