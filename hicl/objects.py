"""Objects of a labelled scene: what hangs together and has one class, with a box around it and a score.

Which classes have objects is a question of words: a wall and a floor are everywhere, and count for nothing (`STUFF`, as
ScanNet's instance benchmark has it).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hicl.errors import HiclError

STUFF = ("wall", "floor", "ceiling")
GAP = 0.2  # metres; chosen by `hicl report objects` on rooms of the miniature that no table is made of
SMALLEST = 100  # points: what ScanNet's benchmark leaves out
_CELLS_A_GAP = 4  # points nearer than a quarter of the gap are looked at as one


@dataclass(frozen=True)
class Box:
    """A box that stands upright. centre, size: float64 [3], metres; size: length, width, height, length the longer of
    the two. yaw: radians in (-pi/2, pi/2], from the first of the horizontal axes (`level`) to the length."""

    centre: np.ndarray
    size: np.ndarray
    yaw: float


@dataclass(frozen=True)
class Object:
    """label: of its class. score: 0..1, the mean of its points'. points: how many it has."""

    label: int
    score: float
    points: int
    box: Box


def find_objects(
    xyz: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    score: np.ndarray | None = None,
    sets: np.ndarray | None = None,
    gap: float | None = None,
    smallest: int | None = None,
    stuff: Collection[str] = STUFF,
    up: np.ndarray | None = None,
    aligned: bool = False,
) -> tuple[np.ndarray, list[Object]]:
    """Points of one class whose distance is at most about `gap` are of one object, and so are those of one set.

    Args:
        xyz: [N, 3] float32, metres.
        label: [N] int, places in `classes`; any others, such as 255, are none.
        score: [N] float, how sure each label is, 0..1; None: 1.
        sets: [N] int from 0, geometric sets; None: distances alone decide.
        gap: metres; None: `GAP`.
        smallest: points; what has fewer is no object; None: `SMALLEST`.
        stuff: names of classes that have no objects.
        up: [3], which way boxes stand; None: z.
        aligned: boxes lie along the axes, in place of turning about `up` to where they are smallest.

    Returns:
        instance [N] int32: place of a point's object in the list, -1 for none; and the objects, the surest first.

    Raises:
        HiclError: a gap that isn't positive.
    """
    gap, smallest = GAP if gap is None else gap, SMALLEST if smallest is None else smallest
    if not 0 < gap < np.inf:
        raise HiclError(f"--gap {gap}: metres, greater than 0")
    named = np.array([name not in stuff for name in classes] + [False])
    thing = named[np.where((label >= 0) & (label < len(classes)), label, len(classes)).astype(np.int64)]
    rows = np.flatnonzero(thing)
    piece = _pieces(xyz[rows], label[rows].astype(np.int64), None if sets is None else sets[rows], gap)
    count = np.bincount(piece)
    sure = np.bincount(piece, None if score is None else score[rows].astype(np.float64)) / np.maximum(count, 1)
    order = np.argsort(-sure, kind="stable")
    order = order[count[order] >= smallest]
    place = np.full(len(count), -1, np.int32)
    place[order] = np.arange(len(order))
    instance = np.full(len(xyz), -1, np.int32)
    instance[rows] = place[piece]
    axes = level(np.array([0.0, 0.0, 1.0]) if up is None else up)
    members = np.split(np.argsort(instance, kind="stable"), np.cumsum(np.r_[(instance < 0).sum(), count[order]]))[1:-1]
    found = [
        Object(int(label[own[0]]), float(sure[number]), len(own), box_around(xyz[own], axes, aligned))
        for own, number in zip(members, order, strict=True)
    ]
    return instance, found


def _pieces(xyz: np.ndarray, label: np.ndarray, sets: np.ndarray | None, gap: float) -> np.ndarray:
    """Number of the piece of each point, int [N], from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not len(xyz):
        return np.zeros(0, np.int64)
    # A class is its own floor of a fourth axis, farther from the next than any gap.
    cell = np.floor(xyz.astype(np.float64) * (_CELLS_A_GAP / gap)).astype(np.int64)
    _, first, node = np.unique(np.column_stack([label, cell]), axis=0, return_index=True, return_inverse=True)
    node = node.ravel()
    edges = cKDTree(np.column_stack([xyz[first], label[first] * 2.0 * gap])).query_pairs(gap, output_type="ndarray")
    if sets is not None:  # all of one set and class hang on the first of them
        _, start, which = np.unique(np.column_stack([sets, label]), axis=0, return_index=True, return_inverse=True)
        edges = np.concatenate([edges, np.column_stack([node, node[start][which.ravel()]])])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(first), len(first)))
    return connected_components(graph, directed=False)[1][node]


def level(up: np.ndarray) -> np.ndarray:
    """Axes of boxes that stand along `up` [3]: float64 [3, 3], rows; the first as near to x (y, if up is x) as it goes.

    Raises `HiclError` for an `up` without a direction.
    """
    up = np.asarray(up, np.float64)
    if not (length := np.linalg.norm(up)) > 0:
        raise HiclError("up: a vector without length or direction")
    up = up / length
    ahead = np.eye(3)[0 if abs(up[0]) < 0.9 else 1]
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(up, ahead), up])


def box_around(xyz: np.ndarray, axes: np.ndarray, aligned: bool = False) -> Box:
    """The box of least ground area around points [N, 3] that stands upright in `axes` [3, 3], rows.

    A rectangle of least area has a side along one of the convex hull's (Freeman and Shapira, Communications of the ACM
    18, 1975), so those are tried.
    """
    points = xyz.astype(np.float64) @ axes.T
    angles = np.zeros(1) if aligned else _hull_angles(points[:, :2])
    turns = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    along, across = points[:, :2] @ turns.T, points[:, :2] @ np.stack([-turns[:, 1], turns[:, 0]])
    best = int(np.argmin(np.ptp(along, axis=0) * np.ptp(across, axis=0)))
    spans = np.stack([along[:, best], across[:, best], points[:, 2]])
    low, high = spans.min(axis=1), spans.max(axis=1)
    middle, size, yaw = (low + high) / 2, high - low, float(angles[best])
    (c, s), (x, y, z) = turns[best], middle
    centre = np.array([c * x - s * y, s * x + c * y, z]) @ axes
    if size[1] > size[0]:
        size, yaw = size[[1, 0, 2]], yaw + np.pi / 2
    return Box(centre, size, float(np.pi / 2 - (np.pi / 2 - yaw) % np.pi))


def _hull_angles(points: np.ndarray) -> np.ndarray:
    """Directions of the sides of the convex hull of points [N, 2], radians; 0 where they span no area."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # on a line, or fewer than three
        return np.zeros(1)
    side = np.roll(corners, -1, axis=0) - corners
    return np.unique(np.arctan2(side[:, 1], side[:, 0]) % (np.pi / 2))


def table(objects: Sequence[Object], classes: Sequence[str], origin: np.ndarray | None = None) -> str:
    """The objects as CSV: id, class, score, points, x, y, z of the box' centre and its length, width, height in metres,
    and its yaw in degrees."""
    import csv
    import io

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow("id class score points x y z length width height yaw".split())
    shift = np.zeros(3) if origin is None else origin
    for number, item in enumerate(objects):
        numbers = [f"{value:.3f}" for value in (*(item.box.centre + shift), *item.box.size)]
        rows.writerow(
            [number, classes[item.label], f"{item.score:.4f}", item.points, *numbers, f"{np.degrees(item.box.yaw):.1f}"]
        )
    return text.getvalue()
