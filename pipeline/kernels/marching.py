"""Marching cubes over blocks of voxels (Lorensen and Cline, SIGGRAPH 1987), on tables that are derived here.

Corner n of a cell lies at (n & 1, n >> 1 & 1, n >> 2); an edge is the corner it starts at, times 3, plus the axis that
it runs along. Where a face of a cell has its two inside corners across from each other, each is cut off by itself: the
cell on the other side of the face sees the same, so that there are no holes.
"""

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.fuse import BITS, slot_of
from hicl.pipeline.kernels.segment import find, join, roots
from hicl.pipeline.kernels.tsdf import COLOR_WEIGHT, DISTANCE, RED, SIDE, VOXELS, WEIGHT, corner_of

_PADDED = SIDE + 1  # a block and the first voxels of the next ones


def _faces() -> list[list[int]]:
    """The corners of a cell's six faces, in turn as seen from outside, counter-clockwise."""
    found = []
    for axis in range(3):
        along, across = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        ring = [0, along, along | across, across]
        found.append([corner | 1 << axis for corner in ring])
        found.append(ring[::-1])
    return found


def _edge(a: int, b: int) -> int:
    return 3 * min(a, b) + (a ^ b).bit_length() - 1


def triangles_of(case: int) -> list[tuple[int, int, int]]:
    """The triangles of a cell, each three edges, counter-clockwise as seen from where distances are positive.

    case: bit n is set where corner n is inside, its distance negative.
    """
    following = {}  # a walk around a face enters the inside by one edge and leaves it by the next: they are joined
    for ring in _faces():
        crossed = [
            (_edge(a, b), bool(case >> b & 1))
            for a, b in zip(ring, ring[1:] + ring[:1], strict=True)
            if (case >> a ^ case >> b) & 1
        ]
        for (edge, enters), (left, _) in zip(crossed, crossed[1:] + crossed[:1], strict=True):
            if enters:
                following[edge] = left
    found, left_over = [], sorted(following)
    while left_over:
        loop = [left_over[0]]
        while (after := following[loop[-1]]) != loop[0]:
            loop.append(after)
        left_over = [edge for edge in left_over if edge not in loop]
        found += [(loop[0], loop[n], loop[n + 1]) for n in range(1, len(loop) - 1)]
    return found


def _table() -> tuple[np.ndarray, np.ndarray]:
    cases = [triangles_of(case) for case in range(256)]
    count = np.array([len(found) for found in cases], np.int64)
    edges = np.zeros((256, int(count.max()), 3), np.int64)
    for case, found in enumerate(cases):
        edges[case, : len(found)] = np.array(found).reshape(-1, 3)
    return count, edges


COUNT, EDGES = _table()
"""i8 [256]: how many triangles a case has; i8 [256, most, 3]: the edges of their corners."""


@kernel
def march(order, slots, keys, sums, hits, voxel, least, count_of, edges_of):
    """Triangles of the zero level: xyz f4 [V, 3], rgb u1 [V, 3], faces i4 [T, 3].

    order i8 [B]: the blocks, in the order in which they are gone through. Only cells whose eight corners have at least
    `least` hits count. count_of, edges_of: `COUNT`, `EDGES`.
    """
    value = np.empty((_PADDED, _PADDED, _PADDED), np.float32)
    known = np.empty((_PADDED, _PADDED, _PADDED), np.bool_)
    around = np.empty(8, np.int64)
    total = 0
    for row in order:
        neighbors(keys[row], slots, keys, around)
        fill(around, sums, hits, least, value, known)
        for i in range(SIDE):
            for j in range(SIDE):
                for k in range(SIDE):
                    total += count_of[case_of(value, known, i, j, k)]
    vertex = np.full((len(keys), VOXELS, 3), -1, np.int32)
    xyz, rgb = np.empty((3 * total, 3), np.float32), np.empty((3 * total, 3), np.uint8)
    faces = np.empty((total, 3), np.int32)
    n = t = 0
    for row in order:
        neighbors(keys[row], slots, keys, around)
        fill(around, sums, hits, least, value, known)
        a, b, c = corner_of(keys[row])
        for i in range(SIDE):
            for j in range(SIDE):
                for k in range(SIDE):
                    case = case_of(value, known, i, j, k)
                    for number in range(count_of[case]):
                        for m in range(3):
                            corner, axis = divmod(edges_of[case, number, m], 3)
                            p, q, r = i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2)
                            block, cell = locate(around, p, q, r)
                            if vertex[block, cell, axis] < 0:
                                vertex[block, cell, axis] = n
                                x, y, z = p + (axis == 0), q + (axis == 1), r + (axis == 2)
                                start, end = np.float64(value[p, q, r]), np.float64(value[x, y, z])
                                share = start / (start - end)
                                xyz[n, 0] = voxel * (a + p + share * (x - p))
                                xyz[n, 1] = voxel * (b + q + share * (y - q))
                                xyz[n, 2] = voxel * (c + r + share * (z - r))
                                other, far = locate(around, x, y, z)
                                mix(sums[block, cell], sums[other, far], share, rgb[n])
                                n += 1
                            faces[t, m] = vertex[block, cell, axis]
                        t += 1
    return xyz[:n].copy(), rgb[:n].copy(), faces


@kernel
def neighbors(key, slots, keys, around):
    """Rows of the blocks at (n & 1, n >> 1 & 1, n >> 2) from a block, i8 [8]; -1 where there is none."""
    for n in range(8):
        other = key + (((np.int64(n & 1) << BITS) | np.int64(n >> 1 & 1)) << BITS | np.int64(n >> 2))
        around[n] = slots[slot_of(slots, keys, other)]


@kernel
def locate(around, p, q, r):
    """(row, number in it) of the voxel (p, q, r) of a padded block."""
    n = (p // SIDE) | (q // SIDE) << 1 | (r // SIDE) << 2
    return around[n], ((p % SIDE) * SIDE + q % SIDE) * SIDE + r % SIDE


@kernel
def fill(around, sums, hits, least, value, known):
    """Mean distances f4 of a padded block, and where there are enough hits."""
    for p in range(_PADDED):
        for q in range(_PADDED):
            for r in range(_PADDED):
                row, cell = locate(around, p, q, r)
                known[p, q, r] = row >= 0 and hits[row, cell] >= least
                if known[p, q, r]:
                    value[p, q, r] = sums[row, cell, DISTANCE] / sums[row, cell, WEIGHT]


@kernel
def case_of(value, known, i, j, k):
    """Which corners of a cell are inside; 0 where one of them isn't known."""
    case = 0
    for n in range(8):
        p, q, r = i + (n & 1), j + (n >> 1 & 1), k + (n >> 2)
        if not known[p, q, r]:
            return 0
        if value[p, q, r] < 0:
            case |= 1 << n
    return case


@kernel
def mix(start, end, share, out):
    """The colour u1 [3] between two voxels, of the one where the other has none; mid-grey where neither has."""
    first, second = start[COLOR_WEIGHT], end[COLOR_WEIGHT]
    for channel in range(3):
        if first > 0 and second > 0:
            color = (1 - share) * start[RED + channel] / first + share * end[RED + channel] / second
        elif first > 0 or second > 0:
            color = (start[RED + channel] + end[RED + channel]) / (first + second)
        else:
            color = 128.0
        out[channel] = np.uint8(color + 0.5)


@kernel
def pieces(faces, n):
    """i8 [n]: of each vertex, one that stands for all that hang together with it."""
    parent = np.full(n, -1, np.int32)
    for face in faces:
        for m in range(1, 3):
            a, b = find(parent, face[0]), find(parent, face[m])
            if a != b:
                join(parent, a, b)
    return roots(parent)
