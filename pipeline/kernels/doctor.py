"""Kernels of `hicl.pipeline.doctor`: what frames say of each other's measurements."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def compare(depth, keep, to_world, to_camera, pinhole, step, share):
    """What frame j measured where it should see what frame i did: i8 [F, F, 3] pixels of i on a grid of `step` that j
    has the same depth for, within a share of it; that lie before what j measured, which thus saw through them; and
    behind it, hidden.

    depth f4 [F, h, w], 0 = nothing measured; keep b1 [F, h, w]: pixels to compare, of i; to_world, to_camera
    f8 [F, 4, 4]; pinhole f8 [4] = fx fy cx cy.
    """
    n, height, width = depth.shape
    fx, fy, cx, cy = pinhole
    counts = np.zeros((n, n, 3), np.int64)
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            relative = to_camera[j] @ to_world[i]
            for row in range(step // 2, height, step):
                for column in range(step // 2, width, step):
                    if not keep[i, row, column]:
                        continue
                    z = np.float64(depth[i, row, column])
                    x, y = (column - cx) * z / fx, (row - cy) * z / fy
                    far = relative[2, 0] * x + relative[2, 1] * y + relative[2, 2] * z + relative[2, 3]
                    if not far > 0.0:
                        continue
                    right = relative[0, 0] * x + relative[0, 1] * y + relative[0, 2] * z + relative[0, 3]
                    down = relative[1, 0] * x + relative[1, 1] * y + relative[1, 2] * z + relative[1, 3]
                    u, v = fx * right / far + cx + 0.5, fy * down / far + cy + 0.5
                    if not (u >= 0.0 and v >= 0.0 and u < width and v < height):
                        continue
                    measured = np.float64(depth[j, np.int64(v), np.int64(u)])
                    if not measured > 0.0:
                        continue
                    if abs(measured - far) <= share * measured:
                        counts[i, j, 0] += 1
                    elif measured > far:
                        counts[i, j, 1] += 1
                    else:
                        counts[i, j, 2] += 1
    return counts


@kernel
def likeness(depth, keep, to_world, to_camera, pinhole, grey, lens, turns, step, share):
    """How alike the colours are of what two frames both measured: f8 [T, 2], for each turn of the colour images the
    sum over pairs of frames of (pixels · correlation of their greys) and of pixels.

    As `compare`; grey f4 [F, H, W]; lens f8 [4]: the colour camera's fx fy cx cy as shares of its image's sides, with
    corners at 0 and 1; turns f8 [T, 2, 3]: where in a stored image what belongs to (x, y) of that square is.
    """
    n, height, width = depth.shape
    tall, wide = grey.shape[1], grey.shape[2]
    fx, fy, cx, cy = pinhole
    found = np.zeros((len(turns), 2))
    a, b = np.empty((height * width, 2)), np.empty((height * width, 2))
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            relative = to_camera[j] @ to_world[i]
            count = 0
            for row in range(step // 2, height, step):
                for column in range(step // 2, width, step):
                    if not keep[i, row, column]:
                        continue
                    z = np.float64(depth[i, row, column])
                    x, y = (column - cx) * z / fx, (row - cy) * z / fy
                    far = relative[2, 0] * x + relative[2, 1] * y + relative[2, 2] * z + relative[2, 3]
                    if not far > 0.0:
                        continue
                    right = relative[0, 0] * x + relative[0, 1] * y + relative[0, 2] * z + relative[0, 3]
                    down = relative[1, 0] * x + relative[1, 1] * y + relative[1, 2] * z + relative[1, 3]
                    u, v = fx * right / far + cx + 0.5, fy * down / far + cy + 0.5
                    if not (u >= 0.0 and v >= 0.0 and u < width and v < height):
                        continue
                    measured = np.float64(depth[j, np.int64(v), np.int64(u)])
                    if not (measured > 0.0 and abs(measured - far) <= share * measured):
                        continue
                    a[count, 0], a[count, 1] = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
                    b[count, 0], b[count, 1] = lens[0] * right / far + lens[2], lens[1] * down / far + lens[3]
                    inside = min(min(a[count, 0], a[count, 1]), min(b[count, 0], b[count, 1])) >= 0.0
                    inside &= max(max(a[count, 0], a[count, 1]), max(b[count, 0], b[count, 1])) < 1.0
                    count += np.int64(inside)
            if count < 50:
                continue
            for t in range(len(turns)):
                turn = turns[t]
                s = p = q = pp = qq = pq = 0.0
                for m in range(count):
                    one = grey[
                        i,
                        np.int64((turn[1, 0] * a[m, 0] + turn[1, 1] * a[m, 1] + turn[1, 2]) * tall * 0.999999),
                        np.int64((turn[0, 0] * a[m, 0] + turn[0, 1] * a[m, 1] + turn[0, 2]) * wide * 0.999999),
                    ]
                    other = grey[
                        j,
                        np.int64((turn[1, 0] * b[m, 0] + turn[1, 1] * b[m, 1] + turn[1, 2]) * tall * 0.999999),
                        np.int64((turn[0, 0] * b[m, 0] + turn[0, 1] * b[m, 1] + turn[0, 2]) * wide * 0.999999),
                    ]
                    p += one
                    q += other
                    pp += one * one
                    qq += other * other
                    pq += one * other
                spread = np.sqrt(max(pp - p * p / count, 0.0) * max(qq - q * q / count, 0.0))
                if spread > 0:
                    found[t, 0] += count * (pq - p * q / count) / spread
                    found[t, 1] += count
    return found
