"""Kernels of `hicl.pipeline.projection`."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.sort import radix_order

_PLACE = np.zeros(64, np.int64)
_PLACE[[(0x03F79D71B4CB0A89 << bit & 0xFFFFFFFFFFFFFFFF) >> 58 for bit in range(64)]] = np.arange(64)

BLOCK = 64  # points a block: enough to fill vectors, few enough to be near each other


@kernel
def _spread(value):
    """The lowest 10 bits of `value`, two zeros between each and the next."""
    value = (value | (value << np.uint32(16))) & np.uint32(0x030000FF)
    value = (value | (value << np.uint32(8))) & np.uint32(0x0300F00F)
    value = (value | (value << np.uint32(4))) & np.uint32(0x030C30C3)
    return (value | (value << np.uint32(2))) & np.uint32(0x09249249)


@kernel
def _curve_order(xyz):
    """The finite points along a Z-order curve, i4 [M]: what is near on it is near in space."""
    n = xyz.shape[0]
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    finite = np.empty(n, np.int32)
    count = 0
    for i in range(n):
        if math.isfinite(xyz[i, 0]) and math.isfinite(xyz[i, 1]) and math.isfinite(xyz[i, 2]):
            finite[count] = i
            count += 1
            for axis in range(3):
                low[axis] = min(low[axis], xyz[i, axis])
                high[axis] = max(high[axis], xyz[i, axis])
    finite = finite[:count]
    scale = 1023.0 / max(high[0] - low[0], high[1] - low[1], high[2] - low[2], 1e-30)
    keys = np.empty(count, np.uint32)
    for m in range(count):
        i = finite[m]
        keys[m] = 0
        for axis in range(3):
            cell = np.uint32((xyz[i, axis] - low[axis]) * scale)
            keys[m] |= _spread(cell) << np.uint32(axis)
    order = radix_order(keys)
    return finite[order]


@kernel
def blocks(xyz):
    """Points f4 [N, 3] in blocks of neighbours: (their numbers i4 [M], coordinates f4 [3, blocks · BLOCK], padded with
    NaN, and box f8 [6, blocks], centre and half extent). Points that aren't finite are left out: no camera sees them.
    """
    order = _curve_order(xyz)
    n_blocks = (len(order) + BLOCK - 1) // BLOCK
    placed = np.full((3, n_blocks * BLOCK), np.nan, np.float32)
    box = np.empty((6, n_blocks))
    for b in range(n_blocks):
        members = order[b * BLOCK : (b + 1) * BLOCK]
        for axis in range(3):
            low, high = np.inf, -np.inf
            for m in range(len(members)):
                value = xyz[members[m], axis]
                placed[axis, b * BLOCK + m] = value
                low, high = min(low, value), max(high, value)
            box[axis, b], box[3 + axis, b] = (low + high) / 2, (high - low) / 2
    return order, placed, box


@kernel
def _outside(box, planes):
    """Which boxes lie wholly on the negative side of a plane a·p + d = 0, by more than rounding."""
    # Row by row: the compiler makes vectors of these, and not of rows that were unpacked together.
    x, y, z, across, along, up = box[0], box[1], box[2], box[3], box[4], box[5]
    outside = np.zeros(box.shape[1], np.bool_)
    for s in range(len(planes)):
        a, b, c, d = planes[s]
        for m in range(len(outside)):
            middle = a * x[m] + b * y[m] + c * z[m] + d
            reach = abs(a) * across[m] + abs(b) * along[m] + abs(c) * up[m]
            size = abs(a * x[m]) + abs(b * y[m]) + abs(c * z[m]) + abs(d) + reach
            outside[m] |= middle + reach < -1e-9 * size
    return outside


@kernel
def project(
    order, placed, box, at, planes, to_camera, depth, depth_camera, color_camera, color_height, color_width, max_gap
):
    """order, placed, box of `blocks`; at u4 [N]: room, left with anything in it; planes f8 [S, 4] that enclose what the
    cameras can see; to_camera f8 [3, 4]; cameras f8 [4] = fx fy cx cy. Returns point i4 [P], ascending, and pixel
    u2 [P, 2].

    A coordinate c falls on pixel floor(c + 0.5). Comparing c + 0.5 with the image's bounds before it becomes an integer
    keeps NaN and what would overflow out, and makes truncation the same as floor.

    No loop over points branches: the first becomes vectors, and the second keeps what passes its test by writing every
    candidate and moving on only past those that do. Branches would be guessed wrong too often.
    """
    seen = np.zeros((len(at) + 63) // 64, np.uint64)
    height, width = depth.shape
    depth = depth.ravel()
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    fx, fy, cx, cy = depth_camera
    gx, gy, hx, hy = color_camera
    xs, ys, zs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    inside, where, near = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    count = 0
    outside = _outside(box, planes)
    for b in range(len(outside)):
        if outside[b]:
            continue
        begin = b * BLOCK
        wx, wy, wz = (
            placed[0, begin : begin + BLOCK],
            placed[1, begin : begin + BLOCK],
            placed[2, begin : begin + BLOCK],
        )
        for i in range(BLOCK):
            px, py, pz = np.float64(wx[i]), np.float64(wy[i]), np.float64(wz[i])
            x = r00 * px + r01 * py + r02 * pz + t0
            y = r10 * px + r11 * py + r12 * pz + t1
            z = r20 * px + r21 * py + r22 * pz + t2
            xs[i], ys[i], zs[i] = x, y, z
            u = fx * x / z + cx + 0.5
            v = fy * y / z + cy + 0.5
            inside[i] = (z > 0.0) & (u >= 0.0) & (u < width) & (v >= 0.0) & (v < height)
            where[i] = np.int64(v if inside[i] else 0.0) * width + np.int64(u if inside[i] else 0.0)
        n_near = 0
        for i in range(BLOCK):
            measured = np.float64(depth[np.uint64(where[i])])
            near[n_near] = i
            n_near += inside[i] & (measured > 0.0) & (abs(measured - zs[i]) <= max_gap)
        for m in range(n_near):
            i = near[m]
            u = gx * xs[i] / zs[i] + hx + 0.5
            v = gy * ys[i] / zs[i] + hy + 0.5
            shown = (u >= 0.0) & (u < color_width) & (v >= 0.0) & (v < color_height)
            point = order[begin + i]
            at[point] = (np.uint32(v) << np.uint32(16)) | np.uint32(u)
            seen[point >> 6] |= np.uint64(shown) << np.uint64(point & 63)
            count += shown
    return _listed(seen, at, count)


@kernel
def _listed(seen, at, count):
    """The points whose bits are set, ascending, and their pixels, unpacked."""
    point, pixel = np.empty(count, np.int32), np.empty((count, 2), np.uint16)
    m = 0
    for w in range(len(seen)):
        word = seen[w]
        while word:
            lowest = word & (~word + np.uint64(1))
            # Multiplied by this constant, each power of two has other leading six bits (a de Bruijn sequence).
            i = 64 * w + _PLACE[(lowest * np.uint64(0x03F79D71B4CB0A89)) >> np.uint64(58)]
            point[m] = i
            pixel[m, 0], pixel[m, 1] = at[i] >> np.uint32(16), at[i] & np.uint32(0xFFFF)
            m += 1
            word ^= lowest
    return point, pixel
