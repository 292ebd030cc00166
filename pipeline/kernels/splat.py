"""Kernel of `hicl.pipeline.picture`."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def splat(image, row, column, depth, rgb, radius):
    """Draw points as squares of 2·radius - 1 pixels, the nearest in front: image u1 [H, W, 3] in place; row, column and
    depth f8 [N]; rgb u1 [N, 3]. A pixel off the point's centre counts as a little behind it."""
    height, width = image.shape[0], image.shape[1]
    nearest = np.full((height, width), np.inf)
    for i in range(len(row)):
        centre_y, centre_x = int(row[i]), int(column[i])
        for y in range(max(0, centre_y - radius + 1), min(height, centre_y + radius)):
            for x in range(max(0, centre_x - radius + 1), min(width, centre_x + radius)):
                behind = depth[i] + 0.01 * (abs(y - centre_y) + abs(x - centre_x))
                if behind < nearest[y, x]:
                    nearest[y, x] = behind
                    for c in range(3):
                        image[y, x, c] = rgb[i, c]
