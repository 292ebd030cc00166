"""Kernel of `hicl.pipeline.projection`."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def project(xyz, to_camera, depth, depth_camera, color_camera, color_height, color_width, max_gap):
    """xyz f4 [N, 3]; to_camera f8 [3, 4]; cameras f8 [4] = fx fy cx cy. Returns point i4 [P] and pixel u2 [P, 2].

    A coordinate c falls on pixel floor(c + 0.5). Comparing c + 0.5 with the image's bounds before it becomes an integer
    keeps NaN and what would overflow out, and makes truncation the same as floor.
    """
    n = xyz.shape[0]
    point = np.empty(n, np.int32)
    pixel = np.empty((n, 2), np.uint16)
    height, width = depth.shape
    r00, r01, r02, t0 = to_camera[0]
    r10, r11, r12, t1 = to_camera[1]
    r20, r21, r22, t2 = to_camera[2]
    fx, fy, cx, cy = depth_camera
    gx, gy, hx, hy = color_camera
    count = 0
    for i in range(n):
        wx = np.float64(xyz[i, 0])
        wy = np.float64(xyz[i, 1])
        wz = np.float64(xyz[i, 2])
        z = r20 * wx + r21 * wy + r22 * wz + t2
        if not z > 0.0:
            continue
        x = r00 * wx + r01 * wy + r02 * wz + t0
        u = fx * x / z + cx + 0.5
        if not (u >= 0.0 and u < width):
            continue
        y = r10 * wx + r11 * wy + r12 * wz + t1
        v = fy * y / z + cy + 0.5
        if not (v >= 0.0 and v < height):
            continue
        measured = np.float64(depth[np.int64(v), np.int64(u)])
        if not (measured > 0.0 and abs(measured - z) <= max_gap):
            continue
        u = gx * x / z + hx + 0.5
        v = gy * y / z + hy + 0.5
        if not (u >= 0.0 and u < color_width and v >= 0.0 and v < color_height):
            continue
        point[count] = i
        pixel[count, 0] = np.uint16(v)
        pixel[count, 1] = np.uint16(u)
        count += 1
    return point[:count].copy(), pixel[:count].copy()
