"""Streets: a road with its traffic, a construction site now and then, and two sides to it.

The kinds of street go round in a shuffled order, so that a handful of scenes shows every class.
"""

from dataclasses import dataclass

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Packed, pack
from hicl.pipeline.miniature.street import materials as mt
from hicl.pipeline.miniature.street import people, roadside, vehicles
from hicl.pipeline.miniature.street.categories import OTHER_FLAT, ROAD, TERRAIN
from hicl.pipeline.miniature.street.ground import END, LANE, START, Builder
from hicl.pipeline.miniature.street.kinds import KINDS, VEHICLES
from hicl.pipeline.miniature.street.verge import lay_verge


@dataclass(frozen=True)
class Street:
    """solids: at time 0; velocity: float64 [P, 3] metres a second of each. lane: y of the ego car's way, speed: its
    metres a second. lamps: float64 [L, 3], places of the street lamps' lights."""

    kind: str
    dusk: bool
    solids: Packed
    velocity: np.ndarray
    lane: float
    speed: float
    lamps: np.ndarray


def street_kind(seed: int, index: int) -> str:
    """The kind of scene number `index`: each block of them is all kinds in another order."""
    block, place = divmod(index, len(KINDS))
    order = np.random.default_rng([11, seed, block]).permutation(len(KINDS))
    return list(KINDS)[order[place]]


def build_street(seed: int, index: int) -> Street:
    """Scene number `index` of a seed."""
    name = street_kind(seed, index)
    kind = KINDS[name]
    rng = np.random.default_rng([12, seed, index])
    crossing = rng.uniform(14, 40) if rng.random() < 0.55 else None
    b = Builder(rng, kind, kind.lanes if rng.random() < 0.6 else 1, rng.uniform(*kind.median), crossing)
    lane, speed = -b.lane(b.lanes - 1), rng.uniform(4.0, 9.0)
    b.taken.append((-6.0, lane - 1.2, 10.0 + 1.5 * speed, lane + 1.2))  # the ego car's own way
    _road(b)
    if rng.random() < kind.works:
        _works(b)
    _traffic(b, lane, speed)
    for side in (-1, 1):
        lay_verge(b, side)
    solids = pack(b.solids)
    lamps = solids.centre[(solids.glow >= 0.9) & (solids.centre[:, 2] > 3)]
    return Street(name, bool(rng.random() < 0.3), solids, np.array(b.velocity), lane, speed, lamps)


def _road(b: Builder) -> None:
    rng, x = b.rng, (START, END)
    b.lay((START - 60, END + 60), (-140, 140), -0.12, TERRAIN, mt.earth(rng))
    b.lay(x, (-b.kerb, b.kerb), 0.0, ROAD, mt.asphalt(rng, LANE) if b.median == 0 else mt.bare_asphalt(rng))
    if b.median:
        still = mt.island(rng)
        for stretch in b.stretches():
            b.lay(stretch, (-b.median, b.median), 0.1, OTHER_FLAT, still)
    if b.crossing is not None:
        c = b.crossing
        b.lay((c - 3.5, c + 3.5), (-60, 60), 0.003, ROAD, mt.bare_asphalt(rng))
        b.lay((c - 7.3, c - 4.3), (-b.kerb, b.kerb), 0.006, ROAD, mt.crossing())


def _works(b: Builder) -> None:
    """A site that takes a lane: machines and workers behind barriers, with cones that lead round it."""
    rng = b.rng
    side = 1 if b.lanes == 1 or rng.random() < 0.7 else -1
    y = side * (b.lane(b.lanes - 1) if side > 0 else b.kerb + 1.2)
    x, long = rng.uniform(8, 22), rng.uniform(14, 24)
    for place in (0.3, 0.8):
        b.put(vehicles.digger(rng), x + long * place, y + side * 0.6, rng.uniform(0, 2 * np.pi))
    b.put(vehicles.truck(rng), x + long + 6, y, 0.0 if side < 0 else np.pi)
    inner = y - side * 1.9
    alike = int(rng.integers(1 << 30))
    for at in np.arange(x, x + long, 2.4):
        board = roadside.barrier(np.random.default_rng(alike))
        b.put(board, at, inner + rng.normal(0, 0.08), rng.normal(0, 0.08), room=0)
    for i in range(7):
        b.put(roadside.cone(rng), x - 1.5 - 1.8 * i, inner + side * 0.35 * i + rng.normal(0, 0.08), room=0)
    for _ in range(int(rng.integers(1, 4))):
        b.put(people.walker(rng), x + rng.uniform(0, long), y + side * rng.uniform(-1, 1.5), rng.uniform(0, 6.3))
    for _ in range(4):
        b.put(roadside.cone(rng), x + rng.uniform(0, long), y + rng.normal(0, 0.8))


def _vehicle(b: Builder) -> Piece:
    name = VEHICLES[int(b.rng.choice(len(VEHICLES), p=b.kind.traffic))]
    if name == "bicycle":
        return vehicles.bicycle(b.rng, True)
    if name == "motorcycle":
        return vehicles.motorcycle(b.rng, True)
    return {"car": vehicles.car, "truck": vehicles.truck, "bus": vehicles.bus, "trailer": vehicles.trailer}[name](b.rng)


def _traffic(b: Builder, lane: float, speed: float) -> None:
    """Vehicles in all lanes, as fast as the ego car in its own, and parked at the kerb."""
    rng = b.rng
    for way in (-1, 1):  # on our side, y < 0, they drive towards +x
        ahead = 0.0 if way < 0 else np.pi
        for number in range(b.lanes):
            y = way * b.lane(number)
            pace = speed if y == lane else rng.uniform(4, 10) * (rng.random() < 0.75)
            x = START + rng.uniform(20, 35)
            while x < END - 15:
                piece = _vehicle(b)
                low, high = piece.bounds()
                long = high[0] - low[0]
                heading = ahead + rng.normal(0, 0.02)
                b.put(piece, x + long / 2, y + rng.normal(0, 0.15), heading, speed=pace, room=0.5)
                x += long + rng.uniform(4, 22)
        if b.kind.parking:
            x = START + rng.uniform(15, 23)
            while x < END - 15:
                if rng.random() < 0.7 and b.clear(x, 11):
                    parked = vehicles.car(rng) if rng.random() < 0.85 else vehicles.truck(rng)
                    b.put(parked, x, way * (b.kerb - 1.15), ahead + rng.normal(0, 0.02), room=0.15)
                x += rng.uniform(5.3, 7.5)
