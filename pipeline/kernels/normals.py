"""Kernels of `hicl.pipeline.normals`."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel

BLOCK = 64  # points computed at once


@kernel
def mesh_normals(xyz, faces):
    """All in float32 and in this order of operations: the Segmentator's weights depend on the last bit."""
    one = np.float32(1)
    normals = np.zeros(xyz.shape, np.float32)
    counts = np.zeros(xyz.shape[0], np.float32)
    for t in range(faces.shape[0]):
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        ax, ay, az = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1], xyz[j, 2] - xyz[i, 2]
        bx, by, bz = xyz[k, 0] - xyz[i, 0], xyz[k, 1] - xyz[i, 1], xyz[k, 2] - xyz[i, 2]
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        length = np.float32(math.sqrt(x * x + y * y + z * z))
        if not (length > 0 and length < np.inf):
            continue
        x, y, z = x / length, y / length, z / length
        for v in (i, j, k):
            new = one / (counts[v] + one)
            old = one - new
            normals[v, 0] = new * x + old * normals[v, 0]
            normals[v, 1] = new * y + old * normals[v, 1]
            normals[v, 2] = new * z + old * normals[v, 2]
            counts[v] += one
    return normals


@kernel
def rotate(a, v, p, q):
    """One Jacobi rotation that zeroes a[p, q] of a symmetric 3 x 3 matrix; v collects the eigenvectors (columns)."""
    if a[p, q] == 0.0:
        return
    theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
    t = 1.0 / (abs(theta) + math.sqrt(theta * theta + 1.0))
    if theta < 0.0:
        t = -t
    c = 1.0 / math.sqrt(t * t + 1.0)
    s = t * c
    shift = t * a[p, q]
    a[p, p] -= shift
    a[q, q] += shift
    a[p, q] = 0.0
    a[q, p] = 0.0
    r = 3 - p - q
    arp, arq = a[r, p], a[r, q]
    a[r, p] = c * arp - s * arq
    a[p, r] = a[r, p]
    a[r, q] = s * arp + c * arq
    a[q, r] = a[r, q]
    for i in range(3):
        vip, viq = v[i, p], v[i, q]
        v[i, p] = c * vip - s * viq
        v[i, q] = s * vip + c * viq


@kernel
def _by_rotations(xx, xy, xz, yy, yz, zz, a, v):
    """The direction of the smallest eigenvalue by Jacobi rotations; 0 where the middle one vanishes too."""
    a[0, 0], a[1, 1], a[2, 2] = xx, yy, zz
    a[0, 1] = a[1, 0] = xy
    a[0, 2] = a[2, 0] = xz
    a[1, 2] = a[2, 1] = yz
    v[:] = 0.0
    v[0, 0] = v[1, 1] = v[2, 2] = 1.0
    for _ in range(16):
        if abs(a[0, 1]) + abs(a[0, 2]) + abs(a[1, 2]) <= 1e-15:
            break
        for p, q in ((0, 1), (0, 2), (1, 2)):
            rotate(a, v, p, q)
    low = 0
    if a[1, 1] < a[low, low]:
        low = 1
    if a[2, 2] < a[low, low]:
        low = 2
    largest = max(a[0, 0], a[1, 1], a[2, 2])
    # The middle eigenvalue: on a line two of them vanish, and any direction across would do.
    if 1.0 - largest - a[low, low] <= 1e-9 * largest:
        return 0.0, 0.0, 0.0
    return v[0, low], v[1, low], v[2, low]


@kernel
def _flattest(cov, axis, doubtful):
    """axis f8 [3, BLOCK], of unit length: where covariances f8 [6, BLOCK] (xx xy xz yy yz zz, trace 1) are smallest.
    `doubtful` is set where the middle eigenvalue is too near the smallest for this to be accurate.

    Newton's method finds the smallest root of the characteristic polynomial from 0, that is, from below, where it never
    overshoots. Two rows of what is then singular span the other directions. Every step is taken for all at once, as
    vectors; one that has arrived, or is in doubt, stays where it is.
    """
    xx, xy, xz, yy, yz, zz = cov[0], cov[1], cov[2], cov[3], cov[4], cov[5]
    minors, det, root, slope = np.empty(BLOCK), np.empty(BLOCK), np.zeros(BLOCK), np.empty(BLOCK)
    moving = np.ones(BLOCK, np.int64)
    for m in range(BLOCK):
        minors[m] = xx[m] * yy[m] - xy[m] * xy[m] + xx[m] * zz[m] - xz[m] * xz[m] + yy[m] * zz[m] - yz[m] * yz[m]
        det[m] = (
            xx[m] * (yy[m] * zz[m] - yz[m] * yz[m])
            - xy[m] * (xy[m] * zz[m] - yz[m] * xz[m])
            + xz[m] * (xy[m] * yz[m] - yy[m] * xz[m])
        )
        slope[m] = minors[m]
        doubtful[m] = 0
    for _ in range(12):
        still = 0
        for m in range(BLOCK):
            steep = slope[m] > 1e-3
            doubtful[m] |= moving[m] & (not steep)
            moving[m] &= steep
            step = (((root[m] - 1.0) * root[m] + minors[m]) * root[m] - det[m]) / slope[m]
            moved = root[m] - step
            root[m] = moved if moving[m] else root[m]
            slope[m] = (3.0 * root[m] - 2.0) * root[m] + minors[m]
            moving[m] &= abs(step) > 1e-15
            still += moving[m]
        if still == 0:
            break
    for m in range(BLOCK):
        a, b, c = xx[m] - root[m], yy[m] - root[m], zz[m] - root[m]
        x, y, z = xy[m] * yz[m] - xz[m] * b, xz[m] * xy[m] - a * yz[m], a * b - xy[m] * xy[m]
        square = x * x + y * y + z * z
        x1, y1, z1 = xy[m] * c - xz[m] * yz[m], xz[m] * xz[m] - a * c, a * yz[m] - xy[m] * xz[m]
        other = x1 * x1 + y1 * y1 + z1 * z1
        longer = other > square
        x, y, z, square = x1 if longer else x, y1 if longer else y, z1 if longer else z, max(square, other)
        x1, y1, z1 = b * c - yz[m] * yz[m], yz[m] * xz[m] - xy[m] * c, xy[m] * yz[m] - b * xz[m]
        other = x1 * x1 + y1 * y1 + z1 * z1
        longer = other > square
        x, y, z, square = x1 if longer else x, y1 if longer else y, z1 if longer else z, max(square, other)
        length = math.sqrt(square)
        axis[0, m], axis[1, m], axis[2, m] = x / length, y / length, z / length


@kernel
def _covariances(xyz, neighbors, begin, near, here, sums, count, trace, cov):
    """cov f8 [6, BLOCK] (xx xy xz yy yz zz) of the neighbours of BLOCK points, or as many as there are, from `begin`
    on, divided by their trace f8 [BLOCK]; count f8 [BLOCK]: how many neighbours. near f4 [3, BLOCK], here f8 [3,
    BLOCK], sums f8 [9, BLOCK]: room.

    A neighbour at a time for all of the points, as vectors; each point's sums still grow in the order of its own.
    """
    own = min(BLOCK, len(neighbors) - begin)
    x, y, z = near[0], near[1], near[2]
    for a in range(3):
        for m in range(own):
            here[a, m] = xyz[begin + m, a]
    for s in range(9):
        for m in range(BLOCK):
            sums[s, m] = 0.0
    for m in range(BLOCK):
        count[m] = 0.0
    for c in range(neighbors.shape[1]):
        for m in range(own):
            # What is left out is the point itself, which adds nothing.
            j = neighbors[begin + m, c]
            count[m] += j >= 0
            j = np.uint64(j if j >= 0 else begin + m)
            x[m], y[m], z[m] = xyz[j, 0], xyz[j, 1], xyz[j, 2]
        for a in range(3):
            b = (a + 1) % 3
            one, other, here_one, here_other = near[a], near[b], here[a], here[b]
            total, square, mixed = sums[a], sums[3 + a], sums[6 + a]
            for m in range(BLOCK):
                # Relative to the point itself, so that far from the origin nothing cancels.
                p, q = np.float64(one[m]) - here_one[m], np.float64(other[m]) - here_other[m]
                total[m] += p
                square[m] += p * p
                mixed[m] += p * q
    for a in range(3):
        one, other, square, mixed = sums[a], sums[(a + 1) % 3], sums[3 + a], sums[6 + a]
        for m in range(BLOCK):
            square[m] -= one[m] * one[m] / count[m]
            mixed[m] -= one[m] * other[m] / count[m]
    xx, yy, zz = sums[3], sums[4], sums[5]
    for m in range(BLOCK):
        trace[m] = xx[m] + yy[m] + zz[m]
    for row, s in enumerate((3, 6, 8, 4, 7, 5)):
        for m in range(BLOCK):
            cov[row, m] = sums[s, m] / trace[m]


@kernel
def pca_normals(xyz, neighbors, toward, oriented):
    """toward is read only if oriented. A point without a plane through its neighbours gets a normal of 0."""
    n = len(neighbors)
    normals = np.zeros((n, 3), np.float32)
    near, here, sums = np.zeros((3, BLOCK), np.float32), np.zeros((3, BLOCK)), np.empty((9, BLOCK))
    count, trace, cov, axis = np.empty(BLOCK), np.empty(BLOCK), np.empty((6, BLOCK)), np.empty((3, BLOCK))
    doubtful = np.empty(BLOCK, np.int64)
    a, v = np.empty((3, 3)), np.empty((3, 3))
    for begin in range(0, n, BLOCK):
        _covariances(xyz, neighbors, begin, near, here, sums, count, trace, cov)
        _flattest(cov, axis, doubtful)
        for m in range(min(BLOCK, n - begin)):
            if not (count[m] >= 3 and trace[m] > 0.0 and trace[m] < np.inf):
                continue
            x, y, z = axis[0, m], axis[1, m], axis[2, m]
            if doubtful[m]:
                x, y, z = _by_rotations(cov[0, m], cov[1, m], cov[2, m], cov[3, m], cov[4, m], cov[5, m], a, v)
            i = begin + m
            if oriented:
                side = x * toward[i, 0] + y * toward[i, 1] + z * toward[i, 2]
            else:
                side = x
                if abs(y) > abs(side):
                    side = y
                if abs(z) > abs(side):
                    side = z
            if side < 0.0:
                x, y, z = -x, -y, -z
            normals[i, 0], normals[i, 1], normals[i, 2] = x, y, z
    return normals
