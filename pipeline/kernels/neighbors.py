"""Kernels of `hicl.pipeline.normals.neighbors`: the k nearest points, found cell by cell on a grid."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel, lowest_bit, set_bits
from hicl.pipeline.kernels.vectors import LANES, at_most, lesser

_MANY = 256  # from here on counting takes longer than insertion
_FEW = 2.0  # times k: of fewer in the cells around, the k nearest mostly aren't all there


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
def _rank(squares, numbers, count, short, before, near, which):
    """Put the least of `count` squared distances and their numbers in order into the k places of near f8 and which i4
    [k + 1]; of equal ones the lower number comes first.

    For the few that are left after the bound, counting for each those before it is fastest: it needs no branch. short
    f4, before i4 [_MANY + LANES]: room.
    """
    k = len(near) - 1
    for a in range(count):
        short[a] = squares[a]
    for a in range(0, count, LANES):
        lesser(short, count, a, before)
    ranks = 0
    for a in range(count):
        ranks += before[a]
    if 2 * ranks != count * (count - 1):  # some are equal, in float32
        for a in range(count):
            least, square, number, more = short[a], squares[a], numbers[a], np.int32(0)
            for b in range(count):
                first = (squares[b] < square) | ((squares[b] == square) & (numbers[b] < number))
                more += np.int32((short[b] == least) & first)
            before[a] += more
    for a in range(count):
        place = min(np.uint64(before[a]), np.uint64(k))
        near[place], which[place] = squares[a], numbers[a]


@kernel
def _insert(squares, numbers, count, near, which):
    """The same by insertion, for many."""
    k = len(near) - 1
    held = np.int64(0)
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


@kernel
def _in_order(xyz, order):
    """f8 [3, N + 8]: coordinate by coordinate, so that runs of points are copied and compared as vectors."""
    n = len(order)
    placed = np.zeros((3, n + 8))
    for m in range(n):
        for axis in range(3):
            placed[axis, m] = xyz[order[m], axis]
    return placed


@kernel
def _choose(squares, k, guess, limit, bits):
    """Mark, in bits u8 [W], those of squares f8 [64 W] that are not above a bound below which there are k or more, few
    more if the guess is good; at most `limit`. NaN is never marked. Returns how many."""
    while True:
        bound, within = min(guess, limit), 0
        for w in range(len(bits)):
            bits[w] = at_most(squares, 64 * w, bound)
            within += set_bits(bits[w])
        if within >= k or guess >= limit:
            return within
        guess = guess * 1.5 if guess > 0 and 4 * within > k else np.inf


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
    short, before = np.empty(_MANY + LANES, np.float32), np.empty(_MANY + LANES, np.int32)
    enough = _FEW * k if reach * reach < limit and reach < np.inf else 0.0
    last = np.inf
    room = 0
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
        count = np.int64(0)
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
        if count < enough:
            begin = end
            continue
        if count >= room:
            room = 2 * count + 1024
            px, py, pz, number = np.empty(room + 64), np.empty(room + 64), np.empty(room + 64), np.empty(room, np.int32)
            every, bits = np.empty(room + 64), np.empty(room // 64 + 1, np.uint64)
            squares, left = np.empty(room), np.empty(room, np.int32)
        count = np.int64(0)
        for r in range(9):
            # By eights: what this copies too much is written over, by the next run or by what is no point.
            for c in range(0, stop[r] - start[r], 8):
                to, m = count + c, start[r] + c
                for e in range(8):
                    px[to + e], py[to + e], pz[to + e] = placed[0, m + e], placed[1, m + e], placed[2, m + e]
            for m in range(start[r], stop[r]):
                number[count] = order[m]
                count += 1
        words = (count + 63) // 64
        for c in range(count, 64 * words):
            px[c] = np.nan
        for m in range(begin, end):
            i = order[m]
            if not open_[i]:
                continue
            x, y, z = placed[0, m], placed[1, m], placed[2, m]
            for c in range(64 * words):
                ex, ey, ez = px[c] - x, py[c] - y, pz[c] - z
                every[c] = ex * ex + ey * ey + ez * ez
            # What the cells around hold for certain: all up to the nearest outer face of them.
            sx, sy, sz = (x - low[0]) / cell, (y - low[1]) / cell, (z - low[2]) / cell
            fx, fy, fz = sx - math.floor(sx), sy - math.floor(sy), sz - math.floor(sz)
            margin = min(min(min(fx, 1 - fx), min(fy, 1 - fy)), min(fz, 1 - fz))
            sure = ((reach + margin * cell) * (1 - 1e-9)) ** 2
            # The point before is near by, and its k-th neighbour mostly about as far.
            some = _choose(every, k, 1.2 * last, min(limit, sure), bits[:words])
            if some < k and sure < limit:
                continue
            some = np.int64(0)
            for w in range(words):
                word = bits[w]
                while word:
                    c = 64 * w + lowest_bit(word)
                    squares[some], left[some] = every[c], number[c]
                    some += 1
                    word &= word - np.uint64(1)
            if some > _MANY:
                _insert(squares, left, some, near, which)
            else:
                _rank(squares, left, some, short, before, near, which)
            held = min(some, k)
            last = near[k - 1] if held == k else np.inf
            for c in range(k):
                inside = c < held and near[c] < limit
                index[i, c] = which[c] if inside else -1
                distance[i, c] = math.sqrt(near[c]) if inside else np.inf
            open_[i] = False
        begin = end
