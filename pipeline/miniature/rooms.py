"""Furnished rooms: what belongs into which kind of room.

A room is an axis-aligned floor W x D metres with its corner at the origin, z up, and a list of labelled solids. The
kinds of room go round in a shuffled order, so that a handful of scenes shows every class, while a toilet stays rare.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hicl.pipeline.miniature import fixtures as fx
from hicl.pipeline.miniature import furniture as fu
from hicl.pipeline.miniature import textures as tx
from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.placing import Builder
from hicl.pipeline.miniature.solids import Solid, block

Make = Callable[[np.random.Generator], Piece]
FLOOR_MAT = 20
KINDS = ("bedroom", "living room", "kitchen", "office", "bathroom", "meeting room", "studio")


@dataclass(frozen=True)
class Room:
    """A furnished room. extent: (width, depth, height) in metres. piece: of each solid, the number of the piece that it
    is a part of."""

    kind: str
    extent: tuple[float, float, float]
    solids: list[Solid]
    piece: list[int]


def _some(rng: np.random.Generator, count: int, makes: Sequence[Make]) -> list[Make]:
    return [makes[i] for i in rng.permutation(len(makes))[:count]]


def _windows(b: Builder, count: int, curtain: float = 0.6) -> None:
    for _ in range(count):
        piece = fx.window(b.rng)
        place = b.at_wall(piece, gap=0.0)
        if place is not None and b.rng.random() < curtain:
            low, high = piece.bounds()
            b.put(fx.curtains(b.rng, float(high[0] - low[0])), *place, keep=False)


def _walls(b: Builder, pictures: int, extra: Sequence[Make] = ()) -> None:
    for _ in range(pictures):
        b.at_wall(fx.picture(b.rng), gap=0.0)
    for make in extra:
        b.at_wall(make(b.rng), gap=0.0)


def _mat(b: Builder) -> None:
    if b.rng.random() < 0.4:
        x, y = b.w / 2 + b.rng.normal(0, 0.3), b.d / 2 + b.rng.normal(0, 0.3)
        w, d = b.rng.uniform(0.5, 0.9), b.rng.uniform(0.4, 0.7)
        b.pieces.append([block((x - w, x + w), (y - d, y + d), (-0.05, 0.012), FLOOR_MAT, tx.cloth(b.rng))])


def _bedroom(b: Builder) -> None:
    rng = b.rng
    place = b.at_wall(fu.bed(rng), gap=0.0)
    if place is not None:
        for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
            b.put(fu.night_stand(rng), place[0], place[1] + side * rng.uniform(1.0, 1.25))
    b.at_wall(fu.cabinet(rng))
    _windows(b, 1, 0.85)
    for make in _some(rng, 2, [fu.desk, fu.bookshelf, fu.cabinet, fu.stand, fu.other]):
        b.at_wall(make(rng))
    _walls(b, int(rng.integers(1, 3)))
    b.inside(fu.chair(rng))


def _living(b: Builder) -> None:
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


def _kitchen(b: Builder) -> None:
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
    for make in _some(rng, 2, [fu.cabinet, fu.other, fx.washer]):
        b.at_wall(make(rng))
    _walls(b, 1)


def _office(b: Builder) -> None:
    rng = b.rng
    for _ in range(int(rng.integers(1, 4))):
        place = b.at_wall(fu.desk(rng))
        if place is not None:
            chair = fu.chair(rng)
            turned = Piece(
                [s for s in chair.moved(np.pi, np.array([0.0, 1.25 + rng.uniform(-0.1, 0.1), 0.0])).solids], 0.0
            )
            b.put(turned, place[0], place[1] + rng.normal(0, 0.1), keep=False)
    for make in _some(rng, 4, [fu.bookshelf, fu.bookshelf, fu.cabinet, fu.cabinet, fu.other, fu.sofa]):
        b.at_wall(make(rng))
    _windows(b, int(rng.integers(1, 3)), 0.35)
    _walls(b, int(rng.integers(1, 3)), (fx.whiteboard,) if rng.random() < 0.6 else ())
    b.inside(fu.chair(rng))
    b.inside(fu.cartons(rng))


def _bathroom(b: Builder) -> None:
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
    for make in _some(rng, 2, [fx.washer, fu.other, fu.cabinet]):
        b.at_wall(make(rng))
    _windows(b, int(rng.random() < 0.6), 0.3)
    _walls(b, int(rng.random() < 0.4), (fx.towel, fx.towel))


def _meeting(b: Builder) -> None:
    rng = b.rng
    table = b.inside(fu.table(rng), angle=float(rng.choice([0, np.pi / 2])), near=np.array([b.w / 2, b.d / 2]))
    if table is not None:
        b.seats(*table.bounds(), int(rng.integers(4, 7)))
    for make in _some(rng, 3, [fu.cabinet, fu.bookshelf, fu.stand, fu.other, fu.chair, fu.sofa]):
        b.at_wall(make(rng))
    _windows(b, 2, 0.6)
    _walls(b, int(rng.integers(1, 4)), (fx.whiteboard,) if rng.random() < 0.7 else ())


def _studio(b: Builder) -> None:
    rng = b.rng
    b.at_wall(fu.bed(rng), gap=0.0)
    b.at_wall(fx.kitchen_row(rng, rng.uniform(1.5, 2.1)), gap=0.0)
    b.at_wall(fx.refrigerator(rng))
    for make in _some(rng, 3, [fu.sofa, fu.desk, fu.bookshelf, fu.cabinet, fu.stand]):
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
    b = Builder(rng, room_kind(seed, index))
    b.shell()
    b.at_wall(fx.door(rng), gap=0.0)
    _FURNISH[b.kind](b)
    b.at_wall(fu.other(rng))
    b.at_wall(fu.cartons(rng)) if rng.random() < 0.5 else None
    if b.kind != "bathroom":
        _mat(b)
    solids = [solid for piece in b.pieces for solid in piece]
    number = [number for number, piece in enumerate(b.pieces) for _ in piece]
    return Room(b.kind, (b.w, b.d, b.h), solids, number)
