"""Kernels of `hicl.pipeline.normals.neighbors`: the k nearest points, found cell by cell on a grid."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel

_MANY = 64  # from here on counting takes longer than insertion


@kernel
def cell_keys(xyz, low, cell, shape):
    """i8 [N]: the number of each point's cell in a grid of `shape` cells, z fastest, one empty layer all around.

    A point beyond the grid counts to the nearest of its cells: two points' cells are never farther apart for it, so
    that the cells around a point's own still hold all that is near.
    """
    keys = np.empty(xyz.shape[0], np.int64)
    for i in range(xyz.shape[0]):
        key = 0
        for axis in range(3):
            place = math.floor((np.float64(xyz[i, axis]) - low[axis]) / cell) + 1.0
            key = key * shape[axis] + np.int64(min(max(place, 1.0), shape[axis] - 2.0))
        keys[i] = key
    return keys


@kernel
def _rank(squares, numbers, count, near, which):
    """Put the least of `count` (squared distance, number) in order into the k places of near f8 and which i4 [k + 1],
    the lower number first of equals; returns how many there are.

    For the few that are left after the bound, counting for each those before it is fastest: it needs no branch.
    """
    k = len(near) - 1
    for a in range(count):
        square, number = squares[a], numbers[a]
        rank = 0
        for b in range(count):
            rank += (squares[b] < square) | ((squares[b] == square) & (numbers[b] < number))
        place = min(rank, k)
        near[place], which[place] = square, number
    return min(count, k)


@kernel
def _insert(squares, numbers, count, near, which):
    """The same by insertion, for many."""
    k = len(near) - 1
    held = 0
    for a in range(count):
        square, number = squares[a], numbers[a]
        m = held
        if held == k:
            m = held - 1
            if square > near[m] or (square == near[m] and number > which[m]):
                continue
        while m > 0 and (near[m - 1] > square or (near[m - 1] == square and which[m - 1] > number)):
            near[m], which[m] = near[m - 1], which[m - 1]
            m -= 1
        near[m], which[m] = square, number
        held = min(held + 1, k)
    return held


@kernel
def _in_order(xyz, order):
    """f8 [3, N]: coordinate by coordinate, so that runs of points are copied and compared as vectors."""
    placed = np.empty((3, len(order)))
    for m in range(len(order)):
        for axis in range(3):
            placed[axis, m] = xyz[order[m], axis]
    return placed


@kernel
def _bound(squares, k, guess, limit):
    """A square below which there are k or more of `squares`, few more if the guess is good; at most `limit`."""
    while guess < limit:
        within = 0
        for c in range(len(squares)):
            within += squares[c] <= guess
        if within >= k:
            return guess
        guess = guess * 1.5 if guess > 0 and 4 * within > k else np.inf
    return limit


@kernel
def search(xyz, order, keys, low, cell, shape, reach, limit, open_, index, distance):
    """Answer the queries `open_` b1 [N] that the cells around a point's own suffice for, and close them.

    order i4 [N]: the points by cell; keys i8 [N]: their cells, ascending. reach: how far beyond its own cell the
    3 x 3 x 3 cells around it hold every point (inf where they are the whole grid). limit: squared radius. Writes index
    i4 [N, k] and distance f4 [N, k]; the rest stay open.
    """
    n, k = index.shape
    placed = _in_order(xyz, order)
    first = np.empty(9, np.int64)
    for dx in range(3):
        for dy in range(3):
            first[3 * dx + dy] = ((dx - 1) * shape[1] + dy - 1) * shape[2] - 1
    start, stop = np.zeros(9, np.int64), np.zeros(9, np.int64)
    near, which = np.empty(k + 1), np.empty(k + 1, np.int32)
    last = np.inf
    room = 1024
    around, number = np.empty((3, room)), np.empty(room, np.int32)
    every, squares, left = np.empty(room), np.empty(room), np.empty(room, np.int32)
    begin = 0
    while begin < n:
        key = keys[begin]
        end = begin + 1
        wanted = open_[order[begin]]
        while end < n and keys[end] == key:
            wanted |= open_[order[end]]
            end += 1
        if not wanted:
            begin = end
            continue
        # Points of the 27 cells: nine columns, each a run of three cells, whose bounds only ever move on.
        count = 0
        for r in range(9):
            m = start[r]
            while m < n and keys[m] < key + first[r]:
                m += 1
            start[r] = m
            m = max(m, stop[r])
            while m < n and keys[m] <= key + first[r] + 2:
                m += 1
            stop[r] = m
            count += m - start[r]
        if count > room:
            room = 2 * count
            around, number = np.empty((3, room)), np.empty(room, np.int32)
            every, squares, left = np.empty(room), np.empty(room), np.empty(room, np.int32)
        count = 0
        for r in range(9):
            length = stop[r] - start[r]
            for axis in range(3):
                around[axis, count : count + length] = placed[axis, start[r] : stop[r]]
            number[count : count + length] = order[start[r] : stop[r]]
            count += length
        px, py, pz, candidate = around[0, :count], around[1, :count], around[2, :count], every[:count]
        for m in range(begin, end):
            i = order[m]
            if not open_[i]:
                continue
            x, y, z = placed[0, m], placed[1, m], placed[2, m]
            for c in range(count):
                ex, ey, ez = px[c] - x, py[c] - y, pz[c] - z
                candidate[c] = ex * ex + ey * ey + ez * ez
            # The point before is near by, and its k-th neighbour mostly about as far.
            worst = _bound(candidate, k, 1.2 * last, limit)
            some = 0
            for c in range(count):
                squares[some], left[some] = candidate[c], number[c]
                some += candidate[c] <= worst
            if some <= _MANY:
                held = _rank(squares, left, some, near, which)
            else:
                held = _insert(squares, left, some, near, which)
            last = near[k - 1] if held == k else np.inf
            if reach < np.inf:
                # What the cells around hold for certain: all up to the nearest outer face of them.
                sx, sy, sz = (x - low[0]) / cell, (y - low[1]) / cell, (z - low[2]) / cell
                fx, fy, fz = sx - math.floor(sx), sy - math.floor(sy), sz - math.floor(sz)
                margin = min(min(min(fx, 1 - fx), min(fy, 1 - fy)), min(fz, 1 - fz))
                if not min(last, limit) < ((reach + margin * cell) * (1 - 1e-9)) ** 2:
                    continue
            for c in range(k):
                inside = c < held and near[c] < limit
                index[i, c] = which[c] if inside else -1
                distance[i, c] = math.sqrt(near[c]) if inside else np.inf
            open_[i] = False
        begin = end
