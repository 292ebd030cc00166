"""Kernels of `hicl.pipeline.projection`."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel, lowest_bit, set_bits
from hicl.pipeline.kernels.vectors import AVX512, LANES, list_marked, marked

BLOCK = 64  # points a block: enough to fill vectors, few enough to be near each other


@kernel
def _spread(value):
    """The lowest 8 bits of `value`, two zeros between each and the next."""
    value = (value | (value << np.uint32(16))) & np.uint32(0x030000FF)
    value = (value | (value << np.uint32(8))) & np.uint32(0x0300F00F)
    value = (value | (value << np.uint32(4))) & np.uint32(0x030C30C3)
    return (value | (value << np.uint32(2))) & np.uint32(0x09249249)


@kernel
def curve_keys(xyz):
    """(keys u4 [M] that grow along a Z-order curve, on which near points are near, and whose they are i4 [M]). Points
    that aren't finite are left out: no camera sees them."""
    x0 = y0 = z0 = np.inf
    x1 = y1 = z1 = -np.inf
    finite, keys = np.empty(len(xyz), np.int32), np.empty(len(xyz), np.uint32)
    count = np.int64(0)
    for i in range(len(xyz)):
        x, y, z = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        if math.isfinite(x + y + z):
            finite[count] = i
            count += 1
            x0, y0, z0, x1, y1, z1 = min(x0, x), min(y0, y), min(z0, z), max(x1, x), max(y1, y), max(z1, z)
    scale = 255.0 / max(x1 - x0, y1 - y0, z1 - z0, 1e-30)
    for m in range(count):
        i = np.uint64(finite[m])
        x, y, z = (xyz[i, 0] - x0) * scale, (xyz[i, 1] - y0) * scale, (xyz[i, 2] - z0) * scale
        keys[m] = _spread(np.uint32(x)) | _spread(np.uint32(y)) << np.uint32(1) | _spread(np.uint32(z)) << np.uint32(2)
    return keys[:count], finite[:count]


@kernel
def blocks(xyz, order):
    """Points f4 [N, 3] in an order i4 [M], cut into blocks: coordinates f4 [3, blocks · BLOCK], padded with NaN, and
    box f4 [6, blocks], centre and half extent."""
    n_blocks = (len(order) + BLOCK - 1) // BLOCK
    placed = np.empty((3, n_blocks * BLOCK), np.float32)
    box = np.empty((6, n_blocks), np.float32)
    for b in range(n_blocks):
        for axis in range(3):
            low, high = np.inf, -np.inf
            for m in range(b * BLOCK, (b + 1) * BLOCK):
                if m < len(order):
                    value = np.float64(xyz[order[m], axis])
                    placed[axis, m] = value
                    low, high = min(low, value), max(high, value)
                else:
                    placed[axis, m] = np.nan
            box[axis, b], box[3 + axis, b] = (low + high) / 2, (high - low) / 2
    return placed, box


@kernel
def _farthest(depth):
    """The largest of f4 [h, w], or NaN; 0 if none is above. Floats from 0 up are in the order of their bits, and of
    comparing those the compiler makes vectors."""
    bits, most = depth.ravel().view(np.int32), np.int32(0)
    for i in range(len(bits)):
        most = max(most, bits[i])
    return np.float64(np.full(1, most).view(np.float32)[0])


@kernel
def _planes(frustum, to_camera, beyond):
    """The frustum's planes f8 [S, 4] in the world, the first `beyond` metres farther away."""
    planes = np.empty((len(frustum), 4))
    for s in range(len(frustum)):
        a, b, c, d = frustum[s]
        for k in range(4):
            planes[s, k] = a * to_camera[0, k] + b * to_camera[1, k] + c * to_camera[2, k]
        planes[s, 3] += d
    planes[0, 3] += beyond
    return planes


@kernel
def _outside(box, planes):
    """Which boxes lie wholly on the negative side of a plane a·p + d = 0, by more than rounding: of eight roundings to
    24 bits, that of the box among them, each is at most 6e-8 of the sizes that are added."""
    # Row by row: the compiler makes vectors of these, and not of rows that were unpacked together.
    x, y, z, across, along, up = box[0], box[1], box[2], box[3], box[4], box[5]
    outside, slack = np.zeros(box.shape[1], np.bool_), np.float32(-1e-6)
    for s in range(len(planes)):
        a, b, c = np.float32(planes[s, 0]), np.float32(planes[s, 1]), np.float32(planes[s, 2])
        d = np.float32(planes[s, 3])
        for m in range(len(outside)):
            middle = a * x[m] + b * y[m] + c * z[m] + d
            reach = abs(a) * across[m] + abs(b) * along[m] + abs(c) * up[m]
            size = abs(a * x[m]) + abs(b * y[m]) + abs(c * z[m]) + abs(d) + reach
            outside[m] |= middle + reach < slack * size
    return outside


@kernel
def project(order, placed, box, seen, at, frustum, to_camera, depth, depth_camera, color_camera, size, max_gap, growth):
    """order i4 [M]; placed, box of `blocks`; seen u1 [64 W], 64 W >= N, all 0 and left so; at u4 [64 W]: room, left
    with anything in it; frustum f8 [S, 4]: planes that enclose what the cameras can see, in their frame, the first but
    for the farthest depth; to_camera f8 [4, 4]; cameras f8 [4] = fx fy cx cy; size: (height, width) of the colour
    image. Returns point i4 [P], ascending, and pixel u2 [P, 2].

    A point may lie max_gap from the measured depth, or growth · depth² where that is more.

    A coordinate c falls on pixel floor(c + 0.5). Comparing c + 0.5 with the image's bounds before it becomes an integer
    keeps NaN and what would overflow out, and makes truncation the same as floor.

    No loop over points branches, and all but the scattered reads and writes become vectors: in a block that isn't
    outside, and of which anything is seen, most is seen, so that doing all for all of it is faster than choosing.
    """
    height, width = depth.shape
    farthest = _farthest(depth)
    outside = _outside(box, _planes(frustum, to_camera, farthest + max(max_gap, growth * farthest * farthest)))
    depth = depth.ravel()
    color_height, color_width = size
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    fx, fy, cx, cy = depth_camera
    gx, gy, hx, hy = color_camera
    xs, ys, zs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    kept, where, measured = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    pixel = np.empty(BLOCK, np.uint32)
    count = np.int64(0)
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
            inside = (z > 0.0) & (u >= 0.0) & (u < width) & (v >= 0.0) & (v < height)
            kept[i] = inside
            where[i] = np.int32(v if inside else 0.0) * np.int32(width) + np.int32(u if inside else 0.0)
        for i in range(BLOCK):
            measured[i] = depth[np.uint32(where[i])]
        for i in range(BLOCK):
            d = np.float64(measured[i])
            gap = abs(d - zs[i])
            kept[i] &= (d > 0.0) & ((gap <= max_gap) | (gap <= growth * d * d))
        if not marked(kept, 0):
            continue
        for i in range(BLOCK):
            u = gx * xs[i] / zs[i] + hx + 0.5
            v = gy * ys[i] / zs[i] + hy + 0.5
            shown = (u >= 0.0) & (u < color_width) & (v >= 0.0) & (v < color_height)
            kept[i] &= shown
            pixel[i] = np.uint32(v if shown else 0.0) | (np.uint32(u if shown else 0.0) << np.uint32(16))
        count += set_bits(marked(kept, 0))
        for i in range(min(BLOCK, len(order) - begin)):
            point = np.uint32(order[begin + i])
            at[point] = pixel[i]
            seen[point] = kept[i]
    return _listed(seen, at, count)


@kernel
def _listed_one_by_one(seen, at, count):
    """The `count` points that are marked in seen u1 [64 W], ascending, and their pixels; the marks are wiped."""
    point, pixel, eights = np.empty(count, np.int32), np.empty(count, np.uint32), seen.view(np.uint64)
    m = np.uint64(0)
    for begin in range(0, len(seen), 64):
        word = marked(seen, begin)
        if not word:
            continue
        for i in range(8):
            eights[begin // 8 + i] = 0
        while word:
            i = np.uint64(begin + lowest_bit(word))
            point[m], pixel[m] = i, at[i]
            m += np.uint64(1)
            word &= word - np.uint64(1)
    return point, pixel.view(np.uint16).reshape(count, 2)


@kernel
def _listed_by_lanes(seen, at, count):
    """What `_listed_one_by_one` gives; at u4 [64 W]. On a processor with AVX512 in half the time."""
    point, pixel = np.empty(count + LANES, np.int32), np.empty(count + LANES, np.uint32)
    eights, m = seen.view(np.uint64), np.int64(0)
    for begin in range(0, len(seen), 64):
        word = marked(seen, begin)
        if not word:
            continue
        for i in range(8):
            eights[begin // 8 + i] = 0
        for first in range(begin, begin + 64, LANES):
            list_marked(word, first, at, point, pixel, m)
            m += set_bits(word & np.uint64((1 << LANES) - 1))
            word >>= np.uint64(LANES)
    return point[:count], pixel[:count].view(np.uint16).reshape(count, 2)


_listed = _listed_by_lanes if AVX512 else _listed_one_by_one
