"""One side of a road: pavement, green, water, buildings, and what stands and walks there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Span
from hicl.pipeline.miniature.street import materials as mt
from hicl.pipeline.miniature.street import people, roadside, vehicles
from hicl.pipeline.miniature.street.categories import OTHER_FLAT, SIDEWALK, TERRAIN
from hicl.pipeline.miniature.street.ground import END, START, Builder, Make

KERB = 0.14


@dataclass
class _Verge:
    """side: 1 on the left, -1 on the right. Distances from the road's middle: the kerb, where the pavement begins and
    ends, where the green behind it ends."""

    b: Builder
    side: int
    kerb: float
    inner: float
    outer: float
    back: float

    @property
    def facing(self) -> float:
        """Heading of what is built to look at the road with its y = 0."""
        return 0.0 if self.side > 0 else np.pi

    def across(self, near: float, far: float) -> Span:
        """The interval of y between two distances from the road's middle."""
        return (near, far) if self.side > 0 else (-far, -near)

    def along(self, make: Make, count: int, near: float, far: float, turned: bool = True) -> None:
        """Up to `count` pieces between two distances, facing the road unless `turned` any way."""
        self.b.scatter(make, count, self.across(near, far), KERB, None if turned else self.facing)


def lay_verge(b: Builder, side: int) -> None:
    """Make one side of the street."""
    rng, kind = b.rng, b.kind
    green = kind.green * rng.uniform(0.5, 1.4)
    strip = 1.8 if green > 1.8 and rng.random() < 0.4 else 0.0  # green between kerb and pavement
    inner = b.kerb + strip
    outer = inner + rng.uniform(*kind.walk)
    v = _Verge(b, side, b.kerb, inner, outer, outer + green - strip)
    water = rng.random() < kind.water
    _ground(v, water)
    _buildings(v, v.back + (9.5 if water else rng.uniform(0.0, 1.5)))
    _furniture(v)
    _people(v)
    _green(v)
    if kind.yard:
        _yard(v)


def _ground(v: _Verge, water: bool) -> None:
    b, slabs, lawn = v.b, mt.paving(v.b.rng), mt.earth(v.b.rng)
    low = KERB - b.rng.uniform(0.0, 0.1)
    still = mt.island(b.rng)
    for x in b.stretches():
        if v.inner > v.kerb:
            b.lay(x, v.across(v.kerb, v.inner), KERB - 0.02, TERRAIN, lawn)
        b.lay(x, v.across(v.inner, v.outer), KERB, SIDEWALK, slabs)
        if v.back > v.outer:
            b.lay(x, v.across(v.outer, v.back), low, TERRAIN, lawn)
        behind = v.across(v.back, v.back + 12)
        if water:
            b.lay(x, v.across(v.back, v.back + 9), -0.05, OTHER_FLAT, still)
        elif b.kind.green == 0:
            b.lay(x, behind, KERB - 0.01, SIDEWALK, slabs)
        else:
            b.lay(x, behind, low - 0.01, TERRAIN, lawn)


def _buildings(v: _Verge, front: float) -> None:
    b, rng, kind = v.b, v.b.rng, v.b.kind
    for x0, x1 in b.stretches():
        x = x0 + rng.uniform(0, 3)
        while x < x1 - 8:
            width = min(rng.uniform(8, 20), x1 - x)
            if rng.random() < kind.built:
                house = roadside.building(rng, width, rng.uniform(7, 11), rng.uniform(*kind.storeys))
                b.put(house, x + width / 2, v.side * front, v.facing, room=-0.5)
            x += width + rng.uniform(0, 1 if kind.built == 1 else 7)


def _furniture(v: _Verge) -> None:
    b, rng, urban = v.b, v.b.rng, v.b.kind.urban
    for x in np.arange(START + rng.uniform(5, 20), END, rng.uniform(18, 28)):
        if b.clear(x, 4.0):
            b.put(roadside.lamp_post(rng), x, v.side * (v.kerb + 0.45), v.facing, KERB, must=True)
    if urban and rng.random() < 0.7:
        v.along(roadside.shelter, 1, v.outer - 1.0, v.outer - 0.9, turned=False)
    v.along(roadside.sign, 4, v.kerb + 0.35, v.kerb + 0.7, turned=False)
    if b.kind.parking:
        v.along(roadside.bollard, 5, v.kerb + 0.3, v.kerb + 0.5)
        v.along(roadside.dustbin, 2, v.outer - 0.6, v.outer - 0.4, turned=False)
    if urban and rng.random() < 0.6:
        v.along(roadside.rack, 2, v.inner + 0.5, v.inner + 0.9)


def _people(v: _Verge) -> None:
    b, rng, kind = v.b, v.b.rng, v.b.kind
    for _ in range(kind.crowd):
        x, y = rng.triangular(-35, 12, 60), v.side * rng.uniform(v.inner + 0.4, v.outer - 0.4)
        along = np.pi * rng.integers(2) + rng.normal(0, 0.15)
        speed = rng.uniform(0.8, 1.6) * (rng.random() < 0.75)
        if b.clear(x, 5.0):
            b.put(people.walker(rng), x, y, along, KERB, speed, room=0.15)
    if b.crossing is not None and rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 4))):
            x, y = b.crossing - rng.normal(5.8, 0.6), v.side * rng.uniform(1.0, v.kerb)
            b.put(people.walker(rng), x, y, -v.side * np.pi / 2, speed=rng.uniform(0.8, 1.5))
    for _ in range(kind.wheels):
        _two_wheels(v, vehicles.bicycle, rng.random() < 0.4)
        _two_wheels(v, vehicles.motorcycle, False)


def _two_wheels(v: _Verge, make: Callable[[np.random.Generator, bool], Piece], ridden: bool) -> None:
    """One that is ridden along the pavement, or stands across it."""
    rng, x = v.b.rng, v.b.rng.triangular(-30, 12, 50)
    heading: float
    if not v.b.clear(x, 6.0):
        return
    if ridden:
        y, heading = rng.uniform(v.inner + 0.5, v.outer - 0.5), np.pi * rng.integers(2)
    else:
        y, heading = v.inner + rng.uniform(0.5, 0.9), v.facing + rng.normal(np.pi / 2, 0.3)
    v.b.put(make(rng, ridden), x, v.side * y, heading, KERB, 3.5 * ridden, room=0.1)


def _green(v: _Verge) -> None:
    b, rng, kind = v.b, v.b.rng, v.b.kind
    if v.inner > v.kerb:
        v.along(roadside.tree, 7, v.kerb + 0.8, v.inner - 0.5)
    elif kind.urban:
        v.along(roadside.tree, kind.trees, v.kerb + 0.9, v.kerb + 1.1)
    if v.back - v.outer < 1.0:
        return
    v.along(roadside.tree, kind.trees, v.outer + 0.8, v.back)
    v.along(roadside.bush, kind.bushes, v.outer + 0.6, v.back)
    for _ in range(4):
        long = rng.uniform(4, 10)
        piece = roadside.hedge(rng, long) if rng.random() < 0.6 else roadside.wall(rng, long)
        x = rng.uniform(-35, 55)
        if b.clear(x, 5 + long / 2):
            b.put(piece, x, v.side * (v.outer + 0.5), v.facing, KERB)


def _yard(v: _Verge) -> None:
    """Trailers, lorries and machines that stand behind the pavement."""
    b, rng = v.b, v.b.rng
    makes: tuple[Make, ...] = (vehicles.trailer, vehicles.trailer, vehicles.truck, vehicles.digger)
    for _ in range(5):
        make = makes[int(rng.integers(len(makes)))]
        heading = rng.choice([0.0, np.pi, np.pi / 2]) + rng.normal(0, 0.1)
        b.put(make(rng), rng.uniform(-30, 50), v.side * (v.back + rng.uniform(-1, 4)), heading, KERB)
