"""Kernels of `hicl.pipeline.lidar`: points of a sweep in a pinhole camera, and which of them others hide."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel, lowest_bit
from hicl.pipeline.kernels.vectors import at_most

_BLOCK = 64  # points looked at at once


@kernel
def project(xyz, valid, to_camera, pinhole, size, least):
    """Points f4 [N, 3] that are valid b1 [N] and that the camera sees: point i4 [P], ascending, and their place and
    depth f4 [P, 3] = (u, v, z).

    to_camera f8 [4, 4], pinhole f8 [4] = fx fy cx cy, size (height, width), least: depth in metres.

    One in six is seen: as vectors, and without a division, points are found that may be, to half a pixel.
    """
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    fx, fy, cx, cy = pinhole
    height, width = size
    left, right, top, bottom = 0.5 - cx, width - 0.5 - cx, 0.5 - cy, height - 0.5 - cy
    point, place = np.empty(len(xyz), np.int32), np.empty((len(xyz), 3))
    px, py, pz, beyond = np.zeros(_BLOCK), np.zeros(_BLOCK), np.zeros(_BLOCK), np.empty(_BLOCK)
    count = 0
    for begin in range(0, len(xyz), _BLOCK):
        own = min(_BLOCK, len(xyz) - begin)
        for m in range(own):
            px[m], py[m], pz[m] = xyz[begin + m, 0], xyz[begin + m, 1], xyz[begin + m, 2]
        for m in range(_BLOCK):
            z = r20 * px[m] + r21 * py[m] + r22 * pz[m] + t2
            x = fx * (r00 * px[m] + r01 * py[m] + r02 * pz[m] + t0)
            y = fy * (r10 * px[m] + r11 * py[m] + r12 * pz[m] + t1)
            across, down = max(left * z - x, x - right * z), max(top * z - y, y - bottom * z)
            beyond[m] = max(max(across, down), least - z)
        word = at_most(beyond, 0, 0.0)
        while word:
            m = lowest_bit(word)
            word &= word - np.uint64(1)
            if m >= own:
                break
            z = r20 * px[m] + r21 * py[m] + r22 * pz[m] + t2
            u = fx * (r00 * px[m] + r01 * py[m] + r02 * pz[m] + t0) / z + cx
            v = fy * (r10 * px[m] + r11 * py[m] + r12 * pz[m] + t1) / z + cy
            # Written before it is known whether it counts, instead of a branch.
            point[count] = begin + m
            place[count, 0], place[count, 1], place[count, 2] = u, v, z
            seen = (z > least) & (u > 1.0) & (u < width - 1) & (v > 1.0) & (v < height - 1) & valid[begin + m]
            count += np.int64(seen)
    return point[:count], place[:count]


@kernel
def covered(xyz, point, place, sensor, wide_step, high_step):
    """Pixels (wide f8 [P], high f8 [P]) of a surface square to the beam that points cover, which are steps, in radians
    times pixels of focal length, away from their neighbours in the eyes of the sensor f8 [3]."""
    wide, high = np.empty(len(point)), np.empty(len(point))
    for p in range(len(point)):
        i = point[p]
        x, y, z = xyz[i, 0] - sensor[0], xyz[i, 1] - sensor[1], xyz[i, 2] - sensor[2]
        reach = math.sqrt(x * x + y * y + z * z) / place[p, 2]
        wide[p], high[p] = reach * wide_step, reach * high_step
    return wide, high


@kernel
def _cells(middle, extent, cell, count):
    """(first, last) of `count` cells whose middle is within an extent around a place; at least the place's own."""
    own = int(middle / cell)
    first = min(int(math.ceil((middle - extent / 2) / cell - 0.5)), own)
    last = max(int(math.floor((middle + extent / 2) / cell - 0.5)), own)
    return max(first, 0), min(last, count - 1)


@kernel
def hidden(place, wide, high, size, cell, share, margin):
    """b1 [P]: which of the points at place f8 [P, 3] = (u, v, z) lie behind what others cover.

    A point covers a rectangle of wide, high f8 [P] pixels around it, at its depth; one behind it, by more than a share
    of its own depth and a margin in metres, is hidden. In cells of so many pixels: a point covers the columns and rows
    of them whose middle is in its rectangle, and at least its own. Depths are compared in float32.
    """
    rows, columns = (size[0] + cell - 1) // cell, (size[1] + cell - 1) // cell
    nearest = np.full((rows, columns), np.float32(np.inf))
    for p in range(len(place)):
        left, right = _cells(place[p, 0], wide[p], cell, columns)
        top, bottom = _cells(place[p, 1], high[p], cell, rows)
        z = np.float32(place[p, 2])
        for row in range(np.uint64(top), np.uint64(bottom + 1)):
            for column in range(np.uint64(left), np.uint64(right + 1)):
                nearest[row, column] = min(nearest[row, column], z)
    found = np.empty(len(place), np.bool_)
    for p in range(len(place)):
        u, v, z = place[p]
        found[p] = z - nearest[int(v / cell), int(u / cell)] > share * z + margin
    return found


@kernel
def pixels(point, place, hidden):
    """Of the points that aren't hidden b1 [P]: point i4 [K], and the pixel u2 [K, 2] (row, column) nearest to each."""
    kept, pixel = np.empty(len(point), np.int32), np.empty((len(point), 2), np.uint16)
    count = 0
    for p in range(len(point)):
        kept[count] = point[p]
        pixel[count, 0], pixel[count, 1] = math.floor(place[p, 1] + 0.5), math.floor(place[p, 0] + 0.5)
        count += np.int64(not hidden[p])
    return kept[:count].copy(), pixel[:count].copy()
