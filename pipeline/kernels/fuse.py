"""Kernels of `hicl.pipeline.fusion`: a hash table from voxels to rows, and what is summed up in each row."""

import math

import numpy as np

from hicl.pipeline.kernels import kernel

EMPTY = -1
# 21 bits an axis: 2 million voxels, or 42 km at 2 cm.
BITS = 21
OFFSET = 1 << (BITS - 1)


@kernel
def slot_of(slots, keys, key):
    """The slot that holds `key`'s row, or the empty one where it belongs. slots i4 [2^m] = rows, -1 = empty."""
    mask = slots.shape[0] - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(32)) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@kernel
def rehash(slots, keys, count):
    slots[:] = EMPTY
    for row in range(count):
        slots[slot_of(slots, keys, keys[row])] = row


@kernel
def sound(depth, near, far, max_jump):
    """Which pixels lie on a surface: bool [h, w].

    A time-of-flight or structured-light pixel on an outline mixes what is before and behind it into a depth that flies
    between the two. It differs from one of its eight neighbours by more than `max_jump` of its own depth.
    """
    height, width = depth.shape
    keep = np.zeros((height, width), np.bool_)
    for r in range(height):
        for c in range(width):
            z = depth[r, c]
            if not (z > near and z <= far):
                continue
            flying = False
            for i in range(max(r - 1, 0), min(r + 2, height)):
                for j in range(max(c - 1, 0), min(c + 2, width)):
                    if depth[i, j] > 0 and abs(depth[i, j] - z) > max_jump * z:
                        flying = True
            keep[r, c] = not flying
    return keep


@kernel
def integrate(
    color, depth, keep, to_world, depth_camera, color_camera, voxel, slots, keys, sums, hits, views, last, at
):
    """Add one frame's pixels. at i8 [2] = rows in use, number of this frame; sums f8 [., 10] = weight, xyz, rgb, sight;
    last i4 [.] = the frame that touched the row last. The caller has made room for a row a pixel."""
    fx, fy, cx, cy = depth_camera
    gx, gy, hx, hy = color_camera
    height, width = depth.shape
    frame = at[1]
    for r in range(height):
        for c in range(width):
            if not keep[r, c]:
                continue
            z = np.float64(depth[r, c])
            x = (c - cx) * z / fx
            y = (r - cy) * z / fy
            u = gx * x / z + hx + 0.5
            v = gy * y / z + hy + 0.5
            if not (u >= 0 and u < color.shape[1] and v >= 0 and v < color.shape[0]):
                continue
            wx = to_world[0, 0] * x + to_world[0, 1] * y + to_world[0, 2] * z + to_world[0, 3]
            wy = to_world[1, 0] * x + to_world[1, 1] * y + to_world[1, 2] * z + to_world[1, 3]
            wz = to_world[2, 0] * x + to_world[2, 1] * y + to_world[2, 2] * z + to_world[2, 3]
            i = np.int64(math.floor(wx / voxel)) + OFFSET
            j = np.int64(math.floor(wy / voxel)) + OFFSET
            k = np.int64(math.floor(wz / voxel)) + OFFSET
            if min(i, j, k) < 0 or max(i, j, k) >= 2 * OFFSET:
                continue
            key = (((i << BITS) | j) << BITS) | k
            slot = slot_of(slots, keys, key)
            row = slots[slot]
            if row < 0:
                row = at[0]
                at[0] += 1
                slots[slot] = row
                keys[row] = key
                last[row] = -1
            # The depth's standard deviation grows with its square, so a sample counts by the fourth power.
            weight = 1.0 / (z * z * z * z)
            sums[row, 0] += weight
            sums[row, 1] += weight * wx
            sums[row, 2] += weight * wy
            sums[row, 3] += weight * wz
            for m in range(3):
                sums[row, 4 + m] += weight * color[np.int64(v), np.int64(u), m]
            sight = weight / math.sqrt(x * x + y * y + z * z)
            sums[row, 7] += sight * (to_world[0, 3] - wx)
            sums[row, 8] += sight * (to_world[1, 3] - wy)
            sums[row, 9] += sight * (to_world[2, 3] - wz)
            hits[row] += 1
            if last[row] != frame:
                last[row] = frame
                views[row] += 1
    at[1] += 1


@kernel
def same_side(neighbors, sight):
    """Strike out, in place, the neighbours that were seen from the other side: the back of a thin wall."""
    for i in range(neighbors.shape[0]):
        for m in range(neighbors.shape[1]):
            j = neighbors[i, m]
            if j >= 0 and not (sight[i, 0] * sight[j, 0] + sight[i, 1] * sight[j, 1] + sight[i, 2] * sight[j, 2] > 0.0):
                neighbors[i, m] = -1


@kernel
def flatten(xyz, normals, neighbors, distance, sigma):
    """Each point moves along its normal onto the weighted mean plane of its neighbours. Returns f4 [N, 3]."""
    out = xyz.copy()
    for i in range(xyz.shape[0]):
        shift = 0.0
        total = 0.0
        for m in range(neighbors.shape[1]):
            j = neighbors[i, m]
            if j < 0:
                continue
            away = distance[i, m] / sigma
            weight = math.exp(-away * away)
            height = 0.0
            for axis in range(3):
                height += (np.float64(xyz[j, axis]) - np.float64(xyz[i, axis])) * normals[i, axis]
            shift += weight * height
            total += weight
        if total > 0.0:
            for axis in range(3):
                out[i, axis] += shift / total * normals[i, axis]
    return out
