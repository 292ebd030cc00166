"""Kernels of `hicl.pipeline.refine`."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def modes(labels, group, counts, seen, touched, best):
    """best u1 [groups] = the most frequent of labels u1 [P] in each group met there, the lowest of equals; 255 if
    none of them votes. Groups that aren't met keep theirs.

    counts i4 [groups, classes] and seen b1 [groups] come and go all zero; only what was touched is cleared, so that the
    time doesn't grow with the groups of the whole scene. touched i4 is room for as many groups as can be met.
    """
    met = 0
    for p in range(labels.shape[0]):
        g, label = group[p], labels[p]
        if g < 0:
            continue
        if not seen[g]:
            seen[g] = True
            touched[met] = g
            met += 1
        if label != 255:
            counts[g, label] += 1
    for t in range(met):
        g = touched[t]
        seen[g] = False
        most = 0
        best[g] = 255
        for label in range(counts.shape[1]):
            if counts[g, label] > most:
                most = counts[g, label]
                best[g] = label
            counts[g, label] = 0


@kernel
def group_modes(labels, group, counts):
    """labels u1 [P], group i4 [P], negative = none -> u1 [groups]."""
    n_groups = counts.shape[0]
    best = np.full(n_groups, 255, np.uint8)
    touched = np.empty(n_groups, np.int32)
    modes(labels, group, counts, np.zeros(n_groups, np.bool_), touched, best)
    return best


@kernel
def add_rows(sums, group, rows):
    """sums f8 [groups, C] += rows f4 [P, C], each to the group i4 [P] that it belongs to; negative = none."""
    for p in range(len(group)):
        g = group[p]
        if g >= 0:
            for k in range(rows.shape[1]):
                sums[g, k] += rows[p, k]


@kernel
def vote(labels, point, set_id, indptr, counts):
    """labels u1 [P], point i4 [P], set_id i4 [N], negative = none, views indptr i8 [F + 1] -> u1 [P]."""
    n_sets = counts.shape[0]
    best = np.full(n_sets, 255, np.uint8)
    seen = np.zeros(n_sets, np.bool_)
    touched = np.empty(n_sets, np.int32)
    longest = 0
    for f in range(indptr.shape[0] - 1):
        longest = max(longest, indptr[f + 1] - indptr[f])
    group = np.empty(longest, np.int32)
    out = np.empty(len(labels), np.uint8)
    for f in range(indptr.shape[0] - 1):
        view = slice(indptr[f], indptr[f + 1])
        seen_points, given, voted = point[view], labels[view], out[view]
        n = len(given)
        for p in range(n):
            group[p] = set_id[seen_points[p]]
        modes(given, group, counts, seen, touched, best)
        for p in range(n):
            voted[p] = best[group[p]] if group[p] >= 0 else given[p]
    return out
