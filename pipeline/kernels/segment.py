"""Kernels of `hicl.pipeline.partition`. Arithmetic is float32 throughout, as in the Segmentator."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.vectors import EIGHT, any_equal


@kernel
def mesh_edges(faces):
    edges = np.empty((3 * len(faces), 2), np.int32)
    for t in range(len(faces)):
        i, j, k = faces[t]
        edges[3 * t, 0], edges[3 * t, 1] = i, j
        edges[3 * t + 1, 0], edges[3 * t + 1, 1] = i, k
        edges[3 * t + 2, 0], edges[3 * t + 2, 1] = k, j
    return edges


@kernel
def _lists(neighbors, j, k, i):
    """Whether i is among the first k neighbours of j."""
    found = False
    for m in range(0, k - EIGHT + 1, EIGHT):
        found |= any_equal(neighbors, j, m, i)
    for m in range(k - k % EIGHT, k):
        found |= neighbors[j, m] == i
    return found


@kernel
def knn_edges(neighbors, k):
    """Of the first k neighbours."""
    n = len(neighbors)
    edges = np.empty((n * k + 1, 2), np.int32)
    count = 0
    for i in range(n):
        for m in range(k):
            j = neighbors[i, m]
            # Written before it is known whether it counts: a branch here would be guessed wrong half of the time.
            edges[count, 0], edges[count, 1] = min(i, j), max(i, j)
            count += np.int64((j >= 0) & ((j > i) | ((j < i) & (not _lists(neighbors, max(j, 0), k, i)))))
    return edges[:count].copy()


@kernel
def edge_weights(xyz, normals, edges, oriented):
    one = np.float32(1)
    weights = np.empty(edges.shape[0], np.float32)
    for e in range(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        nx, ny, nz = normals[b, 0], normals[b, 1], normals[b, 2]
        dot = normals[a, 0] * nx + normals[a, 1] * ny + normals[a, 2] * nz
        if oriented:
            w = one - dot
            dx, dy, dz = xyz[b, 0] - xyz[a, 0], xyz[b, 1] - xyz[a, 1], xyz[b, 2] - xyz[a, 2]
            length = np.float32(math.sqrt(dx * dx + dy * dy + dz * dz))
            # With a length of 0 this compares NaN and is false: no convexity test.
            if nx * (dx / length) + ny * (dy / length) + nz * (dz / length) > 0:
                w = w * w
        else:
            w = one - abs(dot)
        weights[e] = np.float32(np.inf) if math.isnan(w) else w
    return weights


@kernel
def weight_keys(edges, weights):
    """u4 [M]: for the given edges i4 [M], numbers that are in the order of their weights; none of them NaN."""
    keys = np.empty(len(edges), np.uint32)
    bits = weights.view(np.uint32)
    for m in range(len(edges)):
        w, word = weights[edges[m]], bits[edges[m]]
        if w == 0:
            keys[m] = np.uint32(0x80000000)
        elif w < 0:
            keys[m] = ~word
        else:
            keys[m] = word | np.uint32(0x80000000)
    return keys


@kernel
def split(edges, weights, bound):
    """(the given edges of at most this weight, the heavier ones), both in the order they had."""
    light, heavy = np.empty(len(edges), np.int32), np.empty(len(edges), np.int32)
    n_light = 0
    for m in range(len(edges)):
        # Both are written and one moves on: a branch here would be guessed wrong half of the time.
        light[n_light] = heavy[m - n_light] = edges[m]
        n_light += weights[edges[m]] <= bound
    return light[:n_light], heavy[: len(edges) - n_light]


@kernel
def find(parent, x):
    """The root of x, by path halving: every other node on the way is hung below its grandparent."""
    while True:
        above = parent[x]
        if above < 0:
            return x
        higher = parent[above]
        if higher < 0:
            return above
        parent[x] = higher
        x = higher


@kernel
def join(parent, a, b):
    """Join two different roots, the smaller below the larger; returns the new root."""
    if parent[a] > parent[b]:
        a, b = b, a
    parent[a] += parent[b]
    parent[b] = a
    return a


@kernel
def roots(parent):
    """i8 [N]: the root of each node."""
    found = np.empty(len(parent), np.int64)
    for i in range(len(parent)):
        found[i] = find(parent, i)
    return found


@kernel
def fetched(edges, weights, order):
    """(ends i4 [M, 2], weights f4 [M]) in an order: reads all over memory, none of which has to wait for another."""
    ends, ordered = np.empty((len(order), 2), np.int32), np.empty(len(order), np.float32)
    for m in range(len(order)):
        e = order[m]
        ends[m, 0], ends[m, 1], ordered[m] = edges[e, 0], edges[e, 1], weights[e]
    return ends, ordered


@kernel
def join_below(parent, threshold, ends, weights, k, left, n_left):
    """The first pass. The ends of edges that don't join their sets go into `left`; returns how many are there."""
    for m in range(len(ends)):
        a, b, w = find(parent, ends[m, 0]), find(parent, ends[m, 1]), weights[m]
        if a == b:
            continue
        if w <= threshold[a] and w <= threshold[b]:
            root = join(parent, a, b)
            threshold[root] = w + k / np.float32(-parent[root])
        else:
            left[n_left, 0], left[n_left, 1] = ends[m, 0], ends[m, 1]
            n_left += 1
    return n_left


@kernel
def join_small(parent, ends, min_size):
    """The second pass."""
    for m in range(len(ends)):
        a, b = find(parent, ends[m, 0]), find(parent, ends[m, 1])
        if a != b and max(parent[a], parent[b]) > -min_size:
            join(parent, a, b)


@kernel
def between(parent, edges, some, min_size):
    """Those of some edges that lie between two sets, of which one has fewer than `min_size` points: sets only grow."""
    kept = np.empty(len(some), np.int32)
    count = 0
    for m in range(len(some)):
        a, b = find(parent, edges[some[m], 0]), find(parent, edges[some[m], 1])
        kept[count] = some[m]
        count += (a != b) & (max(parent[a], parent[b]) > -min_size)
    return kept[:count]


@kernel
def number_by_appearance(ids, bound):
    """ids i8 [N] below `bound` -> i4 [N], 0, 1, ... in the order in which they first appear; negative ones -> -1."""
    new = np.full(bound, -1, np.int32)
    out = np.empty(ids.shape[0], np.int32)
    count = 0
    for i in range(ids.shape[0]):
        if ids[i] < 0:
            out[i] = -1
            continue
        if new[ids[i]] < 0:
            new[ids[i]] = count
            count += 1
        out[i] = new[ids[i]]
    return out
