"""A street while it is being made: its ground, and what takes which place on it.

A street's frame: x along the road, the way the ego car drives, y left, z up from the road's surface, metres; traffic
keeps right.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Solid, Span, block
from hicl.pipeline.miniature.street.kinds import Kind
from hicl.pipeline.miniature.textures import Material

LANE = 3.4
START, END = -75.0, 95.0  # of the road
Make = Callable[[np.random.Generator], Piece]


@dataclass
class Builder:
    """What has been made of a street so far. median: half its width. crossing: x of a side street, or None.
    velocity: float64 [3] metres a second, of each solid. taken: x0, y0, x1, y1 of the places that are."""

    rng: np.random.Generator
    kind: Kind
    lanes: int
    median: float
    crossing: float | None
    solids: list[Solid] = field(default_factory=list)
    velocity: list[np.ndarray] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def kerb(self) -> float:
        """Distance of the kerb from the road's middle."""
        return self.median + self.lanes * LANE + self.kind.parking

    def lane(self, number: int) -> float:
        """Distance of a lane's middle from the road's, counted from there."""
        return self.median + LANE * (number + 0.5)

    def clear(self, x: float, distance: float) -> bool:
        """Whether x is so far from a side street's middle."""
        return self.crossing is None or abs(x - self.crossing) > distance

    def stretches(self) -> list[Span]:
        """The road's length, without the side street."""
        if self.crossing is None:
            return [(START, END)]
        return [(START, self.crossing - 3.5), (self.crossing + 3.5, END)]

    def lay(self, x: Span, y: Span, top: float, label: int, material: Material) -> None:
        """Flat ground over x, y."""
        self._add([block(x, y, (top - 0.6, top), label, material)], np.zeros(3))

    def _add(self, solids: list[Solid], velocity: np.ndarray) -> None:
        self.solids += solids
        self.velocity += [velocity] * len(solids)

    def put(
        self,
        piece: Piece,
        x: float,
        y: float,
        turn: float = 0.0,
        z: float = 0.0,
        speed: float = 0.0,
        room: float = 0.3,
        must: bool = False,
    ) -> bool:
        """Stand a piece at x, y, heading `turn` radians from x and moving ahead at `speed`, if `room` metres round it
        are free or it `must`; says whether it stands."""
        there = piece.moved(turn, np.array([x, y, z]))
        low, high = there.bounds()
        a, b, c, d = low[0] - room, low[1] - room, high[0] + room, high[1] + room
        if not must and any(a < q[2] and q[0] < c and b < q[3] and q[1] < d for q in self.taken):
            return False
        self.taken.append((low[0], low[1], high[0], high[1]))
        self._add(there.solids, speed * np.array([np.cos(turn), np.sin(turn), 0.0]))
        return True

    def scatter(self, make: Make, count: int, y: Span, z: float, turn: float | None) -> None:
        """Up to `count` pieces here and there on a strip, clear of a side street; turned any way without `turn`."""
        rng = self.rng
        for _ in range(count):
            for _ in range(6):
                x = rng.triangular(START + 25, 12.0, END - 25)
                heading = rng.uniform(0, 2 * np.pi) if turn is None else turn
                if self.clear(x, 5.5) and self.put(make(rng), x, rng.uniform(*y), heading, z):
                    break
