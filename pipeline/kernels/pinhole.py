"""Kernels of `hicl.pipeline.lidar`: points of a sweep in a pinhole camera, and which of them others hide."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def project(xyz, valid, to_camera, pinhole, size, least):
    """Points f4 [N, 3] that are valid b1 [N] and that the camera sees: point i4 [P], ascending, and their place and
    depth f4 [P, 3] = (u, v, z).

    to_camera f8 [4, 4], pinhole f8 [4] = fx fy cx cy, size (height, width), least: depth in metres.
    """
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    fx, fy, cx, cy = pinhole
    height, width = size
    point, place = np.empty(len(xyz), np.int32), np.empty((len(xyz), 3))
    count = 0
    for i in range(len(xyz)):
        px, py, pz = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        z = r20 * px + r21 * py + r22 * pz + t2
        u = fx * (r00 * px + r01 * py + r02 * pz + t0) / z + cx
        v = fy * (r10 * px + r11 * py + r12 * pz + t1) / z + cy
        # Written before it is known whether it counts: no branch, as half of the points do.
        point[count] = i
        place[count, 0], place[count, 1], place[count, 2] = u, v, z
        seen = (z > least) & (u > 1.0) & (u < width - 1) & (v > 1.0) & (v < height - 1) & valid[i]
        count += np.int64(seen)
    return point[:count], place[:count]


@kernel
def hidden(place, wide, high, size, cell, share, margin):
    """b1 [P]: which of the points at place f8 [P, 3] = (u, v, z) lie behind what others cover.

    A point covers a rectangle of wide, high f8 [P] pixels around it, at its depth; one behind it, by more than a share
    of its own depth and a margin in metres, is hidden. In cells of so many pixels: a point covers the columns and rows
    of them whose middle is in its rectangle, and at least its own.
    """
    rows, columns = (size[0] + cell - 1) // cell, (size[1] + cell - 1) // cell
    nearest = np.full((rows, columns), np.inf)
    for p in range(len(place)):
        u, v, z = place[p]
        left = max(min(int(np.ceil((u - wide[p] / 2) / cell - 0.5)), int(u / cell)), 0)
        right = min(max(int(np.floor((u + wide[p] / 2) / cell - 0.5)), int(u / cell)), columns - 1)
        top = max(min(int(np.ceil((v - high[p] / 2) / cell - 0.5)), int(v / cell)), 0)
        bottom = min(max(int(np.floor((v + high[p] / 2) / cell - 0.5)), int(v / cell)), rows - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                nearest[row, column] = min(nearest[row, column], z)
    found = np.empty(len(place), np.bool_)
    for p in range(len(place)):
        u, v, z = place[p]
        found[p] = z - nearest[int(v / cell), int(u / cell)] > share * z + margin
    return found
