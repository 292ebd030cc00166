"""Kernels of `hicl.pipeline.partition`. Arithmetic is float32 throughout, as in the Segmentator."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.sort import radix_order


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
def knn_edges(neighbors):
    n, k = neighbors.shape
    edges = np.empty((n * k, 2), np.int32)
    count = 0
    for i in range(n):
        for m in range(k):
            j = neighbors[i, m]
            if j < 0 or j == i:
                continue
            if j < i:
                mutual = False
                for other in range(k):
                    if neighbors[j, other] == i:
                        mutual = True
                        break
                if mutual:
                    continue
            edges[count, 0] = min(i, j)
            edges[count, 1] = max(i, j)
            count += 1
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
def ascending(edges, weights):
    """The given edges i4 [M], themselves ascending, in stable ascending order of weight, NaN as inf."""
    keys = np.empty(len(edges), np.uint32)
    bits = weights.view(np.uint32)
    for m in range(len(edges)):
        w, word = weights[edges[m]], bits[edges[m]]
        if math.isnan(w):
            keys[m] = np.uint32(0xFF800000)
        elif w == 0:
            keys[m] = np.uint32(0x80000000)
        elif w < 0:
            keys[m] = ~word
        else:
            keys[m] = word | np.uint32(0x80000000)
    return edges[radix_order(keys)]


@kernel
def find(parent, x):
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@kernel
def join(parent, size, a, b):
    """Join two different roots, the smaller below the larger; returns the new root."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@kernel
def felzenszwalb(n_points, edges, weights, k_threshold, min_size):
    k = np.float32(k_threshold)
    parent = np.arange(n_points).astype(np.int32)
    size = np.ones(n_points, np.int32)
    threshold = np.full(n_points, k, np.float32)
    # No set's threshold ever reaches 2 k: that of two sets joined is at most the smaller one's plus k / their size,
    # which is k + k/2 + k/4 + ... at worst. So edges beyond it take no part in the first pass, nor in its sort.
    reach = np.float32(2.001) * k
    low, high = np.empty(len(weights), np.int32), np.empty(len(weights), np.int32)
    n_low = n_high = 0
    for e in range(len(weights)):
        if weights[e] <= reach:
            low[n_low] = e
            n_low += 1
        else:
            high[n_high] = e
            n_high += 1
    left = 0
    low = ascending(low[:n_low], weights)
    # Fetched beforehand: these reads are all over memory, and here none has to wait for another.
    ends, w_low = np.empty((n_low, 2), np.int32), np.empty(n_low, np.float32)
    for m in range(n_low):
        ends[m, 0], ends[m, 1], w_low[m] = edges[low[m], 0], edges[low[m], 1], weights[low[m]]
    for m in range(n_low):
        a, b, w = find(parent, ends[m, 0]), find(parent, ends[m, 1]), w_low[m]
        if a == b:
            continue
        if w <= threshold[a] and w <= threshold[b]:
            root = join(parent, size, a, b)
            threshold[root] = w + k / np.float32(size[root])
        else:
            low[left] = low[m]
            left += 1
    # The second pass needs the edges that reach a small set: sets only grow.
    root_of, small = np.empty(n_points, np.int32), np.empty(n_points, np.bool_)
    for i in range(n_points):
        root_of[i] = find(parent, i)
        small[i] = size[root_of[i]] < min_size
    n_low = _reaching_small(root_of, small, edges, low[:left])
    n_high = _reaching_small(root_of, small, edges, high[:n_high])
    for order in (low[:n_low], ascending(high[:n_high], weights)):
        for e in order:
            a = find(parent, edges[e, 0])
            b = find(parent, edges[e, 1])
            if a != b and (size[a] < min_size or size[b] < min_size):
                join(parent, size, a, b)
    roots = np.empty(n_points, np.int64)
    for i in range(n_points):
        roots[i] = find(parent, i)
    return number_by_appearance(roots, n_points)


@kernel
def _reaching_small(root_of, small, edges, some):
    """Keep, at the front of `some`, the edges between two sets of which one is small; returns how many."""
    count = 0
    for e in some:
        a, b = edges[e, 0], edges[e, 1]
        some[count] = e
        count += (small[a] | small[b]) & (root_of[a] != root_of[b])
    return count


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
