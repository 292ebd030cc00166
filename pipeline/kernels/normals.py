"""Kernels of `hicl.pipeline.normals`."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel


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
        rotate(a, v, 0, 1)
        rotate(a, v, 0, 2)
        rotate(a, v, 1, 2)
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
def _flattest(xx, xy, xz, yy, yz, zz, a, v):
    """The direction in which a covariance of trace 1 is smallest, of unit length; 0 where a line has many such.

    Newton's method finds the smallest root of the characteristic polynomial from 0, that is, from below, where it never
    overshoots. Two rows of what is then singular span the other directions. Where the middle eigenvalue is too near the
    smallest for that to be accurate, Jacobi rotations take over; room for them is in a and v.
    """
    minors = xx * yy - xy * xy + xx * zz - xz * xz + yy * zz - yz * yz
    det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    root = 0.0
    slope = minors
    for _ in range(12):
        if not slope > 1e-3:
            return _by_rotations(xx, xy, xz, yy, yz, zz, a, v)
        step = (((root - 1.0) * root + minors) * root - det) / slope
        root -= step
        slope = (3.0 * root - 2.0) * root + minors
        if abs(step) <= 1e-15:
            break
    xx, yy, zz = xx - root, yy - root, zz - root
    x, y, z = xy * yz - xz * yy, xz * xy - xx * yz, xx * yy - xy * xy
    square = x * x + y * y + z * z
    x1, y1, z1 = xy * zz - xz * yz, xz * xz - xx * zz, xx * yz - xy * xz
    other = x1 * x1 + y1 * y1 + z1 * z1
    if other > square:
        x, y, z, square = x1, y1, z1, other
    x1, y1, z1 = yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz
    other = x1 * x1 + y1 * y1 + z1 * z1
    if other > square:
        x, y, z, square = x1, y1, z1, other
    length = math.sqrt(square)
    return x / length, y / length, z / length


@kernel
def pca_normals(xyz, neighbors, toward, oriented):
    """toward is read only if oriented. A point without a plane through its neighbours gets a normal of 0."""
    n, k = neighbors.shape
    normals = np.zeros((n, 3), np.float32)
    a, v = np.empty((3, 3)), np.empty((3, 3))
    for i in range(n):
        count = 0
        sx = sy = sz = 0.0
        xx = xy = xz = yy = yz = zz = 0.0
        for m in range(k):
            j = neighbors[i, m]
            if j < 0:
                continue
            # Relative to the point itself, so that far from the origin nothing cancels.
            x = np.float64(xyz[j, 0]) - np.float64(xyz[i, 0])
            y = np.float64(xyz[j, 1]) - np.float64(xyz[i, 1])
            z = np.float64(xyz[j, 2]) - np.float64(xyz[i, 2])
            count += 1
            sx, sy, sz = sx + x, sy + y, sz + z
            xx, xy, xz = xx + x * x, xy + x * y, xz + x * z
            yy, yz, zz = yy + y * y, yz + y * z, zz + z * z
        if count < 3:
            continue
        xx, xy, xz = xx - sx * sx / count, xy - sx * sy / count, xz - sx * sz / count
        yy, yz, zz = yy - sy * sy / count, yz - sy * sz / count, zz - sz * sz / count
        trace = xx + yy + zz
        if not (trace > 0.0 and trace < np.inf):
            continue
        x, y, z = _flattest(xx / trace, xy / trace, xz / trace, yy / trace, yz / trace, zz / trace, a, v)
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
