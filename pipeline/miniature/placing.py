"""Where pieces can stand in a room: along the walls, freely on the floor, round a table."""

import numpy as np

from hicl.pipeline.miniature import furniture as fu
from hicl.pipeline.miniature import textures as tx
from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Solid, block

WALL, FLOOR, CEILING = 1, 2, 22

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


class Builder:
    """Finds free places for pieces; knows nothing about what they are."""

    def __init__(self, rng: np.random.Generator, kind: str):
        (w0, w1), (d0, d1) = _EXTENT[kind]
        self.rng, self.kind = rng, kind
        self.w, self.d, self.h = rng.uniform(w0, w1), rng.uniform(d0, d1), rng.uniform(2.4, 2.8)
        self.pieces: list[list[Solid]] = []  # the solids of each: what moves together
        self.taken: list[tuple[np.ndarray, np.ndarray]] = []

    def free(self, low: np.ndarray, high: np.ndarray) -> bool:
        inside = low[0] > -0.13 and low[1] > -0.13 and high[0] < self.w + 0.13 and high[1] < self.d + 0.13
        return inside and not any((low < b).all() and (a < high).all() for a, b in self.taken)

    def add(self, piece: Piece, keep: bool = True) -> None:
        self.pieces.append(piece.solids)
        if keep:
            low, high = piece.bounds()
            self.taken.append((low, high))

    def at_wall(
        self, piece: Piece, wall: int | None = None, gap: float | None = None, tries: int = 40
    ) -> tuple[int, float] | None:
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
        self.pieces.append(there.solids)
        return True

    def inside(
        self, piece: Piece, angle: float | None = None, tries: int = 30, near: np.ndarray | None = None
    ) -> Piece | None:
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

    def shell(self) -> None:
        rng, w, d, h, t = self.rng, self.w, self.d, self.h, 0.25
        wet = self.kind == "bathroom"
        paint = tx.wall_cover(rng, wet and rng.random() < 0.7)
        accent = tx.wall_cover(rng, False) if rng.random() < 0.35 and not wet else paint
        self.pieces.append([block((-t, w + t), (-t, d + t), (-t, 0), FLOOR, tx.floor_cover(rng, wet))])
        self.pieces.append([block((-t, w + t), (-t, d + t), (h, h + t), CEILING, tx.plain((0.9, 0.9, 0.88)))])
        sides = [((-t, w + t), (-t, 0)), ((w, w + t), (-t, d + t)), ((-t, w + t), (d, d + t)), ((-t, 0), (-t, d + t))]
        skirting = tx.painted(rng)
        for i, (x, y) in enumerate(sides):
            self.pieces.append([block(x, y, (-t, h + t), WALL, accent if i == 0 else paint)])
            if not wet:
                x, y = [c if c[1] - c[0] > 1 else (c[0] - 0.02, c[1] + 0.02) for c in (x, y)]
                self.pieces.append([block(x, y, (0, 0.08), WALL, skirting)])
        if rng.random() < 0.35 and not wet:  # A shaft in a corner makes the plan an L.
            a, b = rng.uniform(0.4, 0.9, 2)
            x = (-t, a) if rng.random() < 0.5 else (w - a, w + t)
            y = (-t, b) if rng.random() < 0.5 else (d - b, d + t)
            self.add(Piece([block(x, y, (-t, h + t), WALL, paint)]))

    def seats(self, low: np.ndarray, high: np.ndarray, count: int) -> None:
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

    def _only_table(self, a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether the chair's box meets nothing but the table it is pushed under."""
        if a[0] < 0.02 or a[1] < 0.02 or b[0] > self.w - 0.02 or b[1] > self.d - 0.02:
            return False
        hits = [(p, q) for p, q in self.taken if (a < q).all() and (p < b).all()]
        return all(np.allclose(p, low) and np.allclose(q, high) for p, q in hits)
