"""Kernels of `hicl.pipeline.tsdf`: signed distances on blocks of voxels, of which only those near a surface are kept.

A block is SIDE voxels a side; blocks are rows, found by a hash table of their places (`kernels.fuse`). Voxel (i, j, k)
of a block is number (i * SIDE + j) * SIDE + k, and stands at the place of its number times the voxel's size.
"""

import math

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.fuse import BITS, OFFSET, slot_of

SIDE = 8
VOXELS = SIDE**3
# Of a voxel's row of sums: weight, weight · distance, weight of colours, weight · colour.
WEIGHT, DISTANCE, COLOR_WEIGHT, RED, SUMS = 0, 1, 2, 3, 6
_STRIDE = 2  # pixels between rays that look for blocks: at 4 m they are 1.4 cm apart, a block has 16


@kernel
def touch(depth, keep, to_world, camera, block, truncation, slots, keys, last, at, touched):
    """Give a row to each block that a pixel's surface lies in, or the stretch of `truncation` before and behind it.

    block: metres a side. last i4 [.] = the frame that touched a row last; at i8 [2] = rows in use, number of this
    frame. The rows that this frame touches go into touched i4 [.]. Returns how many, or -1 where it or the rows run
    out; then nothing is lost by doing it again with more room.
    """
    fx, fy, cx, cy = camera
    count, before = 0, np.int64(-1)
    for r in range(0, depth.shape[0], _STRIDE):
        for c in range(0, depth.shape[1], _STRIDE):
            if not keep[r, c]:
                continue
            for step in range(-1, 2):
                z = np.float64(depth[r, c]) + step * truncation
                x, y = (c - cx) * z / fx, (r - cy) * z / fy
                key = np.int64(0)
                for axis in range(3):
                    place = (
                        to_world[axis, 0] * x + to_world[axis, 1] * y + to_world[axis, 2] * z + to_world[axis, 3]
                    ) / block
                    number = np.int64(math.floor(place)) + OFFSET
                    key = (key << BITS) | min(max(number, 0), 2 * OFFSET - 1)
                if key == before:
                    continue
                before = key
                slot = slot_of(slots, keys, key)
                row = slots[slot]
                if row < 0:
                    if at[0] == len(keys):
                        return -1
                    row = at[0]
                    at[0] += 1
                    slots[slot] = row
                    keys[row] = key
                    last[row] = -1
                if last[row] != at[1]:
                    if count == len(touched):
                        return -1
                    last[row] = at[1]
                    touched[count] = row
                    count += 1
    return count


@kernel
def corner_of(key):
    """Number of a block's first voxel along each axis, from the block's key."""
    mask = np.int64(2 * OFFSET - 1)
    return (
        ((key >> (2 * BITS)) - OFFSET) * SIDE,
        (((key >> BITS) & mask) - OFFSET) * SIDE,
        ((key & mask) - OFFSET) * SIDE,
    )


@kernel
def integrate(color, depth, keep, to_camera, depth_camera, color_camera, voxel, truncation, rows, keys, sums, hits):
    """Add a frame to the voxels of some blocks: sums f4 [., VOXELS, SUMS], hits u2 [., VOXELS].

    A voxel's distance is how far before the measured depth it lies along z, at most `truncation`; those farther behind
    it are hidden. A sample weighs 1 / z^4, as in `kernels.fuse`. Colours count within two voxels of the surface.
    """
    fx, fy, cx, cy = depth_camera
    gx, gy, hx, hy = color_camera
    height, width = depth.shape
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    near = 2 * voxel
    for row in rows:
        a, b, c = corner_of(keys[row])
        for i in range(SIDE):
            for j in range(SIDE):
                px, py, pz = (a + i) * voxel, (b + j) * voxel, c * voxel
                x = r00 * px + r01 * py + r02 * pz + t0
                y = r10 * px + r11 * py + r12 * pz + t1
                z = r20 * px + r21 * py + r22 * pz + t2
                for k in range(SIDE):
                    vx, vy, vz = x + k * voxel * r02, y + k * voxel * r12, z + k * voxel * r22
                    if vz <= 0.0:
                        continue
                    across, down = vx / vz, vy / vz
                    u, v = fx * across + cx + 0.5, fy * down + cy + 0.5
                    if not (u >= 0.0 and v >= 0.0 and u < width and v < height):
                        continue
                    m, n = np.int64(v), np.int64(u)
                    if not keep[m, n]:
                        continue
                    measured = np.float64(depth[m, n])
                    distance = measured - vz
                    if distance < -truncation:
                        continue
                    squared = measured * measured
                    weight = 1.0 / (squared * squared)
                    cell = (i * SIDE + j) * SIDE + k
                    own = sums[row, cell]
                    own[WEIGHT] += weight
                    own[DISTANCE] += weight * min(distance, truncation)
                    if hits[row, cell] < 65535:
                        hits[row, cell] += 1
                    if abs(distance) > near:
                        continue
                    u, v = gx * across + hx + 0.5, gy * down + hy + 0.5
                    if u >= 0.0 and v >= 0.0 and u < color.shape[1] and v < color.shape[0]:
                        m, n = np.int64(v), np.int64(u)
                        own[COLOR_WEIGHT] += weight
                        for channel in range(3):
                            own[RED + channel] += weight * color[m, n, channel]
