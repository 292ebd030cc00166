"""Kernels of `hicl.pipeline.doctor`: what frames say of each other's measurements.

depth f4 [F, h, w], 0 = nothing measured; keep b1 [F, h, w]: pixels to compare; to_world, to_camera f8 [F, 4, 4];
pinhole f8 [F, 4] = fx fy cx cy; step: only every so manyth pixel, across and down; share: of its depth that a pixel may
be off.
"""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def _carry(depth, keep, relative, pinhole, other, its_pinhole, step, share, at, there):
    """A frame's pixels, carried into another by relative f8 [4, 4]: (pixels for which that one has the same depth; that
    lie before what it measured, which thus saw through them; and behind it, hidden). at, there f8 [h · w, 2]: of the
    first of them, x / z and y / z in both cameras."""
    height, width = depth.shape
    fx, fy, cx, cy = pinhole
    gx, gy, hx, hy = its_pinhole
    same = through = hidden = 0
    for row in range(step // 2, height, step):
        for column in range(step // 2, width, step):
            if not keep[row, column]:
                continue
            z = np.float64(depth[row, column])
            x, y = (column - cx) * z / fx, (row - cy) * z / fy
            far = relative[2, 0] * x + relative[2, 1] * y + relative[2, 2] * z + relative[2, 3]
            if not far > 0.0:
                continue
            right = (relative[0, 0] * x + relative[0, 1] * y + relative[0, 2] * z + relative[0, 3]) / far
            down = (relative[1, 0] * x + relative[1, 1] * y + relative[1, 2] * z + relative[1, 3]) / far
            u, v = gx * right + hx + 0.5, gy * down + hy + 0.5
            if not (u >= 0.0 and v >= 0.0 and u < width and v < height):
                continue
            measured = np.float64(other[np.int64(v), np.int64(u)])
            if not measured > 0.0:
                continue
            if abs(measured - far) <= share * measured:
                at[same, 0], at[same, 1] = x / z, y / z
                there[same, 0], there[same, 1] = right, down
                same += 1
            elif measured > far:
                through += 1
            else:
                hidden += 1
    return same, through, hidden


@kernel
def compare(depth, keep, to_world, to_camera, pinhole, step, share):
    """How the pixels of each frame i fare in each other frame j: i8 [F, F, 3], those that j has the same depth for,
    that it saw through, and that are hidden from it."""
    n = len(depth)
    counts = np.zeros((n, n, 3), np.int64)
    at, there = np.empty((depth[0].size, 2)), np.empty((depth[0].size, 2))
    for i in range(n):
        for j in range(n):
            if i != j:
                relative = to_camera[j] @ to_world[i]
                views = depth[i], keep[i], relative, pinhole[i], depth[j], pinhole[j]
                counts[i, j, 0], counts[i, j, 1], counts[i, j, 2] = _carry(*views, step, share, at, there)
    return counts


@kernel
def _grey(image, turn, x, y):
    """What belongs to (x, y) of the square that an image is taken for; see `likeness`."""
    height, width = image.shape
    column = np.int64((turn[0, 0] * x + turn[0, 1] * y + turn[0, 2]) * width)
    row = np.int64((turn[1, 0] * x + turn[1, 1] * y + turn[1, 2]) * height)
    return image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]


@kernel
def likeness(depth, keep, to_world, to_camera, pinhole, grey, lens, turns, step, share, least):
    """How alike the colours are of what two frames have the same depth for: f8 [T, 2], for each turn of the colour
    images the sum over pairs of frames of (pixels · correlation of their greys), and of pixels.

    grey f4 [F, H, W]; lens f8 [F, 4]: the colour camera's fx fy cx cy as shares of its image's sides, with corners at 0
    and 1; turns f8 [T, 2, 3]: where in a stored image to find what belongs to (x, y) of that square. least: pixels that
    a pair of frames must share.
    """
    n = len(depth)
    found = np.zeros((len(turns), 2))
    at, there = np.empty((depth[0].size, 2)), np.empty((depth[0].size, 2))
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            relative = to_camera[j] @ to_world[i]
            views = depth[i], keep[i], relative, pinhole[i], depth[j], pinhole[j]
            same, _, _ = _carry(*views, step, share, at, there)
            one_lens, other_lens = lens[i], lens[j]
            count = 0
            for m in range(same):
                a, b = one_lens[0] * at[m, 0] + one_lens[2], one_lens[1] * at[m, 1] + one_lens[3]
                c, d = other_lens[0] * there[m, 0] + other_lens[2], other_lens[1] * there[m, 1] + other_lens[3]
                at[count, 0], at[count, 1], there[count, 0], there[count, 1] = a, b, c, d
                count += np.int64(min(min(a, b), min(c, d)) >= 0.0 and max(max(a, b), max(c, d)) < 1.0)
            if count < least:
                continue
            for t in range(len(turns)):
                one = other = ones = others = both = 0.0
                for m in range(count):
                    p = np.float64(_grey(grey[i], turns[t], at[m, 0], at[m, 1]))
                    q = np.float64(_grey(grey[j], turns[t], there[m, 0], there[m, 1]))
                    one, other, ones, others, both = one + p, other + q, ones + p * p, others + q * q, both + p * q
                spread = np.sqrt(max(ones - one * one / count, 0.0) * max(others - other * other / count, 0.0))
                if spread > 0.0:
                    found[t, 0] += count * (both - one * other / count) / spread
                    found[t, 1] += count
    return found
