"""Kernel of the miniature's LiDAR: rays of a spinning sensor against solids that move."""

import numpy as np

from hicl.pipeline.kernels import kernel
from hicl.pipeline.kernels.raster import BOX, SHEET, ray_hit


@kernel
def _window(low, high, origin, margin):
    """Bearing's middle and half width, lowest and highest elevation, all radians, of what fills the box low..high."""
    nearest = 0.0
    for a in range(2):
        gap = max(low[a] - margin - origin[a], origin[a] - high[a] - margin, 0.0)
        nearest += gap * gap
    nearest = np.sqrt(nearest)
    furthest = 0.0
    middle = np.arctan2((low[1] + high[1]) / 2 - origin[1], (low[0] + high[0]) / 2 - origin[0])
    half = 0.0
    for q in range(4):
        x = (high[0] + margin if q & 1 else low[0] - margin) - origin[0]
        y = (high[1] + margin if q & 2 else low[1] - margin) - origin[1]
        furthest = max(furthest, np.sqrt(x * x + y * y))
        off = np.arctan2(y, x) - middle
        half = max(half, abs(off - 2 * np.pi * np.round(off / (2 * np.pi))))
    if nearest == 0.0:
        return middle, np.pi, -np.pi / 2, np.pi / 2
    up, down = high[2] + margin - origin[2], low[2] - margin - origin[2]
    top = np.arctan2(up, nearest if up > 0 else furthest)
    bottom = np.arctan2(down, furthest if down > 0 else nearest)
    return middle, half, bottom, top


@kernel
def scan(origin, turn, time, azimuth, elevation, kind, centre, axes, size, velocity, slack):
    """The nearest solid that each ray of one turn of a LiDAR meets, and how far away.

    origin: f8 [C, 3] and turn: f8 [C, 3, 3], the sensor's place and its axes in the world when column c is fired, at
    time f8 [C] (seconds) after the one that `centre` is for. azimuth: f8 [C], elevation: f8 [R], radians in the
    sensor's frame (x towards azimuth 0, z up). velocity: f8 [P, 3] metres a second, the solids'.
    slack: radians by which the sensor may lean, or turn while it spins.
    Returns index i4 [C, R], -1 where nothing is met, and distance f8 [C, R] metres (inf).
    """
    columns, rings = len(azimuth), len(elevation)
    index = np.full((columns, rings), -1, np.int32)
    distance = np.full((columns, rings), np.inf)
    middle = columns // 2
    step = azimuth[1] - azimuth[0]
    heading = np.arctan2(turn[middle, 1, 0], turn[middle, 0, 0])
    travelled = 0.0
    for a in range(3):
        travelled += (origin[columns - 1, a] - origin[0, a]) ** 2
    travelled = np.sqrt(travelled)
    seconds = max(abs(time[0]), abs(time[columns - 1]))
    low = np.empty(3)
    high = np.empty(3)
    half = np.empty(3)
    o = np.empty(3)
    d = np.empty(3)
    local = np.empty((3, 3))
    for p in range(len(kind)):
        s = size[p]
        half[0], half[1], half[2] = s[0], s[1] + (s[3] if kind[p] == SHEET else 0.0), s[2]
        speed = 0.0
        for a in range(3):
            reach = abs(axes[p, a, 0]) * half[0] + abs(axes[p, a, 1]) * half[1] + abs(axes[p, a, 2]) * half[2]
            low[a] = centre[p, a] - reach
            high[a] = centre[p, a] + reach
            speed += velocity[p, a] ** 2
        margin = travelled + np.sqrt(speed) * seconds
        bearing, width, bottom, top = _window(low, high, origin[middle], margin)
        if width > 3.0:
            first, count = 0, columns
        else:
            ahead = (bearing - heading - azimuth[0]) / step
            reach = (width + slack) / abs(step)
            first = int(np.floor(ahead - reach))
            count = min(columns, int(np.ceil(ahead + reach)) + 1 - first)
        lowest, highest = rings, 0
        for r in range(rings):
            if bottom - slack <= elevation[r] <= top + slack:
                lowest = min(lowest, r)
                highest = max(highest, r + 1)
        if lowest >= highest:
            continue
        sharp = kind[p] == BOX and s[3] == 0.0
        for i in range(count):
            c = (first + i) % columns
            for a in range(3):
                o[a] = 0.0
                for b in range(3):
                    o[a] += axes[p, b, a] * (origin[c, b] - centre[p, b] - velocity[p, b] * time[c])
                    local[a, b] = 0.0
                    for k in range(3):
                        local[a, b] += axes[p, k, a] * turn[c, k, b]
            cos_a, sin_a = np.cos(azimuth[c]), np.sin(azimuth[c])
            for r in range(lowest, highest):
                flat = np.cos(elevation[r])
                x, y, z = flat * cos_a, flat * sin_a, np.sin(elevation[r])
                for a in range(3):
                    d[a] = local[a, 0] * x + local[a, 1] * y + local[a, 2] * z
                t = ray_hit(kind[p], s, half, sharp, o, d, 1.0, distance[c, r])
                if t >= 0.0:
                    distance[c, r] = t
                    index[c, r] = p
    return index, distance
