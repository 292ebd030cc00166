"""The kinds of street, in numbers."""

from dataclasses import dataclass

from hicl.pipeline.miniature.solids import Span

VEHICLES = ("car", "truck", "bus", "trailer", "motorcycle", "bicycle")


@dataclass(frozen=True)
class Kind:
    """lanes: each way. traffic: shares of `VEHICLES`. Metres: parking, median (half of it), walk (the pavement), green
    (what lies behind it), storeys (how high the buildings are). built: share of the front. Counts a side: crowd,
    wheels (bicycles and motorcycles each), trees, bushes. works: chance of a construction site. urban:
    shops and bus stops. yard: trailers and machines stand about."""

    lanes: int
    traffic: tuple[float, ...]
    walk: Span
    green: float
    built: float
    storeys: Span
    crowd: int
    wheels: int
    trees: int
    bushes: int
    parking: float = 0.0
    median: Span = (0.0, 0.0)
    water: float = 0.0
    works: float = 0.25
    urban: bool = False
    yard: bool = False


KINDS = {
    "town": Kind(
        2, (0.5, 0.08, 0.16, 0.02, 0.14, 0.1), (2.5, 4.5), 0.0, 1.0, (8, 22), 14, 3, 4, 0, parking=2.3, urban=True
    ),
    "houses": Kind(1, (0.64, 0.1, 0.04, 0.04, 0.08, 0.1), (1.6, 2.6), 3.5, 0.75, (4, 9), 5, 3, 8, 8, parking=2.3),
    "roadworks": Kind(2, (0.45, 0.25, 0.07, 0.13, 0.05, 0.05), (1.6, 2.6), 2.0, 0.6, (4, 9), 5, 1, 5, 4, works=1.0),
    "park": Kind(1, (0.55, 0.05, 0.1, 0.05, 0.1, 0.15), (1.8, 3.0), 14.0, 0.15, (4, 9), 10, 4, 22, 12, water=0.5),
    "boulevard": Kind(
        2, (0.48, 0.1, 0.18, 0.02, 0.17, 0.05), (2.5, 4.5), 2.0, 0.85, (8, 22), 10, 3, 6, 4,
        median=(1.0, 2.2), water=0.4, urban=True,
    ),
    "yards": Kind(
        1, (0.32, 0.26, 0.05, 0.3, 0.04, 0.03), (1.6, 2.4), 3.0, 0.6, (5, 10), 3, 1, 5, 4, water=0.4, yard=True
    ),
}  # fmt: skip
