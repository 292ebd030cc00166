"""Kernels of `hicl.pipeline.datasets.ply_format`: rows that hold lists have no common length, so they are walked."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def integer(data, at, size, big, signed):
    """The number in `size` bytes of data u1 [B], in two's complement if signed."""
    value = np.int64(0)
    for i in range(size):
        value = (value << 8) | np.int64(data[at + i if big else at + size - 1 - i])
    if signed and size < 8 and value >> (8 * size - 1):
        value -= np.int64(1) << (8 * size)
    return value


@kernel
def locate(data, start, rows, fields, wanted, big):
    """(where field number `wanted` of each row begins i8 [rows], where the last row ends).

    fields i8 [F, 3]: bytes of a list's length (0 for a plain number), whether that is signed, bytes of a number.
    The end is -1 where the data end before it, or a length is negative; from the row after that one on, -1 as well.
    """
    found = np.full(rows, -1, np.int64)
    total = len(data)
    at = np.int64(start)
    for row in range(rows):
        for f in range(len(fields)):
            if f == wanted:
                found[row] = at
            size = fields[f, 2]
            if fields[f, 0] == 0:
                at += size
                continue
            if at + fields[f, 0] > total:
                return found, np.int64(-1)
            length = integer(data, at, fields[f, 0], big, fields[f, 1])
            if length < 0 or length > total:
                return found, np.int64(-1)
            at += fields[f, 0] + length * size
        if at > total:
            return found, np.int64(-1)
    return found, at


@kernel
def fans(data, lists, field, signed, big, n_vertices):
    """Polygons as fans of triangles: (i4 [T, 3], length of a list of fewer than 3 or 3, an index out of range or 0).

    lists i8 [rows]: where each list begins; field i8 [3] as in `locate`; signed: of the indices.
    """
    head, size = field[0], field[2]
    total = 0
    for at in lists:
        length = integer(data, at, head, big, field[1])
        if length < 3:
            return np.empty((0, 3), np.int32), length, np.int64(0)
        total += length - 2
    triangles = np.empty((total, 3), np.int32)
    t = 0
    for at in lists:
        length = integer(data, at, head, big, field[1])
        first = last = np.int64(0)
        for i in range(length):
            index = integer(data, at + head + i * size, size, big, signed)
            if index < 0 or index >= n_vertices:
                return triangles, np.int64(3), index
            if i == 0:
                first = index
            elif i > 1:
                triangles[t, 0], triangles[t, 1], triangles[t, 2] = first, last, index
                t += 1
            last = index
    return triangles, np.int64(3), np.int64(0)
