"""People: on foot, and on two wheels. Local frame as `vehicles`: x forward, y left, z up from the ground; metres."""

import numpy as np

from hicl.pipeline.miniature.furniture import Piece
from hicl.pipeline.miniature.solids import Solid, about_x, about_z, block, drum, egg
from hicl.pipeline.miniature.street import materials as mt
from hicl.pipeline.miniature.street.categories import ADULT, CHILD, WORKER


def _limb(x: float, y: float, z: float, length: float, thick: float, swing: float, label: int, m: object) -> Solid:
    """A limb that hangs from (x, y, z), swung forward by `swing` radians."""
    turn = about_z(np.pi / 2) @ about_x(-swing) @ about_z(-np.pi / 2)
    hanging = drum((-thick, thick), (-thick, thick), (-length, 0.02), label, m, thick * 0.6)  # type: ignore[arg-type]
    return hanging.moved(turn, np.array([x, y, z]))


def walker(rng: np.random.Generator) -> Piece:
    """Somebody standing or walking: an adult, a child, or a worker in a vest."""
    label = int(rng.choice([ADULT, CHILD, WORKER], p=[0.8, 0.1, 0.1]))
    tall = rng.uniform(1.1, 1.4) if label == CHILD else rng.uniform(1.58, 1.9)
    k = tall / 1.75
    coat, legs = mt.clothes(rng), mt.clothes(rng)
    if label == WORKER:
        coat = mt.machine(rng)
    swing = rng.uniform(0.0, 0.5)
    out = [_limb(0, s * 0.1 * k, 0.86 * k, 0.84 * k, 0.085 * k, s * swing, label, legs) for s in (-1, 1)]
    wide = rng.uniform(0.19, 0.25) * k
    out.append(block((-0.13 * k, 0.13 * k), (-wide, wide), (0.8 * k, 1.48 * k), label, coat, 0.1 * k))
    out += [_limb(0, s * (wide + 0.04), 1.42 * k, 0.6 * k, 0.06 * k, -s * swing, label, coat) for s in (-1, 1)]
    out.append(egg((-0.11 * k, 0.11 * k), (-0.09 * k, 0.09 * k), (1.5 * k, 1.75 * k), label, mt.SKIN))
    hair = mt.machine(rng) if label == WORKER else mt.bark(rng)
    out.append(egg((-0.13 * k, 0.09 * k), (-0.1 * k, 0.1 * k), (1.6 * k, 1.78 * k), label, hair))
    if rng.random() < 0.3:
        out.append(block((-0.28 * k, -0.1), (-0.15, 0.15), (1.0 * k, 1.45 * k), label, mt.clothes(rng), 0.06))
    return Piece(out)


def rider(rng: np.random.Generator, x: float, seat: float, reach: float, label: int) -> list[Solid]:
    """Somebody who sits at x, `seat` metres up, and leans towards a bar `reach` ahead."""
    coat, legs = mt.clothes(rng), mt.clothes(rng)
    lean = about_z(np.pi / 2) @ about_x(0.35) @ about_z(-np.pi / 2)
    torso = block((-0.13, 0.13), (-0.21, 0.21), (0.0, 0.62), label, coat, 0.1).moved(lean, np.array([x, 0, seat]))
    out = [torso]
    out += [_limb(x + 0.05, s * 0.12, seat + 0.02, 0.85, 0.085, rng.uniform(0.3, 0.7), label, legs) for s in (-1, 1)]
    out += [_limb(x + 0.2, s * 0.24, seat + 0.52, 0.62, 0.055, 0.9, label, coat) for s in (-1, 1)]
    out.append(egg((x + 0.14, x + 0.38), (-0.1, 0.1), (seat + 0.62, seat + 0.88), label, mt.SKIN))
    out.append(egg((x + 0.1, x + 0.38), (-0.12, 0.12), (seat + 0.72, seat + 0.93), label, mt.lacquer(rng)))
    return out
