"""Kernels of the miniature's solids: signed distance, nearest solid, and a z-buffer renderer that traces solids.

A room is P solids in struct-of-arrays form: `kind` i4 [P], `centre` f8 [P, 3], `axes` f8 [P, 3, 3] (columns are the
local axes in the world), `size` f8 [P, 5] = half extents along the local axes, then two shape parameters:

kind 0 box       size[3] = radius of the rounded edges
kind 1 cylinder  along local z, elliptic; size[3] = radius of the rounded rims
kind 2 ellipsoid
kind 3 sheet     a box bent along local x: y is displaced by size[3]·sin(2π x / size[4])
kind 4 basin     a box open at the top with walls size[3] thick and rounded corners inside

Mesh and images come from the same distance, so that what the cameras see is where the surface is. Distances are lower
bounds of the true ones (exact for boxes), which is what sphere tracing needs.
"""

import numpy as np

from . import kernel

BOX, CYLINDER, ELLIPSOID, SHEET, BASIN = range(5)

_NEAR = 0.05
_HIT = 5e-4


@kernel
def _rounded_box(x, y, z, hx, hy, hz, radius):
    qx = abs(x) - hx + radius
    qy = abs(y) - hy + radius
    qz = abs(z) - hz + radius
    ox = max(qx, 0.0)
    oy = max(qy, 0.0)
    oz = max(qz, 0.0)
    return np.sqrt(ox * ox + oy * oy + oz * oz) + min(max(qx, max(qy, qz)), 0.0) - radius


@kernel
def solid_distance(kind, x, y, z, s):
    """Signed distance (metres, negative inside) of one local point from the solid with the sizes `s` f8 [5]."""
    if kind == BOX:
        return _rounded_box(x, y, z, s[0], s[1], s[2], s[3])
    if kind == CYLINDER:
        radial = (np.sqrt((x / s[0]) ** 2 + (y / s[1]) ** 2) - 1.0) * min(s[0], s[1]) + s[3]
        axial = abs(z) - s[2] + s[3]
        outer = np.sqrt(max(radial, 0.0) ** 2 + max(axial, 0.0) ** 2)
        return outer + min(max(radial, axial), 0.0) - s[3]
    if kind == ELLIPSOID:
        return (np.sqrt((x / s[0]) ** 2 + (y / s[1]) ** 2 + (z / s[2]) ** 2) - 1.0) * min(s[0], min(s[1], s[2]))
    if kind == SHEET:
        k = 2.0 * np.pi / s[4]
        bent = y - s[3] * np.sin(k * x)
        # The bend stretches distances by at most its slope.
        return _rounded_box(x, bent, z, s[0], s[1], s[2], 0.0) / np.sqrt(1.0 + (s[3] * k) ** 2)
    wall = s[3]
    hollow = _rounded_box(x, y, z - wall, s[0] - wall, s[1] - wall, s[2], 0.6 * min(s[0], s[1]) - wall * 0.5)
    # Above the rim the hollow goes on upwards: only its floor and walls cut.
    if z - wall > 0.0:
        hollow = _rounded_box(x, y, 0.0, s[0] - wall, s[1] - wall, s[2], 0.6 * min(s[0], s[1]) - wall * 0.5)
    return max(_rounded_box(x, y, z, s[0], s[1], s[2], min(0.03, wall * 0.4)), -hollow)


@kernel
def _reach(kind, s):
    """Half extents of the local bounding box."""
    return s[0], s[1] + (s[3] if kind == SHEET else 0.0), s[2]


@kernel
def distance_grid(origin, cell, grid, kind, centre, axes, size, band):
    """Lower `grid` f4 [nx, ny, nz] to the union's signed distance, in a band of `band` metres round every solid.

    Node (i, j, k) lies at origin + cell·(i, j, k). The caller fills `grid` with `band` beforehand.
    """
    for p in range(len(kind)):
        s = size[p]
        hx, hy, hz = _reach(kind[p], s)
        low = np.empty(3, np.int64)
        high = np.empty(3, np.int64)
        for a in range(3):
            half = abs(axes[p, a, 0]) * hx + abs(axes[p, a, 1]) * hy + abs(axes[p, a, 2]) * hz + band
            low[a] = max(0, int(np.floor((centre[p, a] - half - origin[a]) / cell)))
            high[a] = min(grid.shape[a], int(np.ceil((centre[p, a] + half - origin[a]) / cell)) + 1)
        for i in range(low[0], high[0]):
            dx = origin[0] + i * cell - centre[p, 0]
            for j in range(low[1], high[1]):
                dy = origin[1] + j * cell - centre[p, 1]
                for k in range(low[2], high[2]):
                    dz = origin[2] + k * cell - centre[p, 2]
                    x = axes[p, 0, 0] * dx + axes[p, 1, 0] * dy + axes[p, 2, 0] * dz
                    y = axes[p, 0, 1] * dx + axes[p, 1, 1] * dy + axes[p, 2, 1] * dz
                    z = axes[p, 0, 2] * dx + axes[p, 1, 2] * dy + axes[p, 2, 2] * dz
                    d = solid_distance(kind[p], x, y, z, s)
                    if d < grid[i, j, k]:
                        grid[i, j, k] = d


@kernel
def nearest_solid(points, kind, centre, axes, size):
    """Index i4 [N] of the solid with the smallest signed distance to each of `points` f8 [N, 3], and that distance."""
    n = len(points)
    best = np.zeros(n, np.int32)
    distance = np.full(n, np.inf)
    for m in range(n):
        for p in range(len(kind)):
            dx = points[m, 0] - centre[p, 0]
            dy = points[m, 1] - centre[p, 1]
            dz = points[m, 2] - centre[p, 2]
            x = axes[p, 0, 0] * dx + axes[p, 1, 0] * dy + axes[p, 2, 0] * dz
            y = axes[p, 0, 1] * dx + axes[p, 1, 1] * dy + axes[p, 2, 1] * dz
            z = axes[p, 0, 2] * dx + axes[p, 1, 2] * dy + axes[p, 2, 2] * dz
            d = solid_distance(kind[p], x, y, z, size[p])
            if d < distance[m]:
                distance[m] = d
                best[m] = p
    return best, distance


@kernel
def _screen_box(corner, pose, fx, fy, cx, cy, height, width):
    """Rows and columns that eight world corners f8 [8, 3] can touch; the whole image where one is near the lens."""
    top, left, bottom, right = float(height), float(width), -1.0, -1.0
    ahead = 0
    for q in range(8):
        dx = corner[q, 0] - pose[0, 3]
        dy = corner[q, 1] - pose[1, 3]
        dz = corner[q, 2] - pose[2, 3]
        z = pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz
        if z <= _NEAR:
            continue
        ahead += 1
        u = fx * (pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz) / z + cx
        v = fy * (pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz) / z + cy
        top = min(top, v)
        bottom = max(bottom, v)
        left = min(left, u)
        right = max(right, u)
    if ahead == 0:
        return 0, 0, 0, 0
    if ahead < 8:
        return 0, height, 0, width
    return (
        max(0, int(np.floor(top))),
        min(height, int(np.ceil(bottom)) + 1),
        max(0, int(np.floor(left))),
        min(width, int(np.ceil(right)) + 1),
    )


@kernel
def ray_hit(kind, s, half, sharp, o, d, rate, far):
    """Where the local ray o + t·d (f8 [3] each) enters a solid, as t in (near, far), or -1.

    kind, s: the solid's. half: f8 [3], half extents of its box. sharp: it is that box. rate: the length of d.
    """
    enter = _NEAR
    leave = far
    for a in range(3):
        if abs(d[a]) < 1e-12:
            if abs(o[a]) > half[a]:
                return -1.0
            continue
        t0 = (-half[a] - o[a]) / d[a]
        t1 = (half[a] - o[a]) / d[a]
        enter = max(enter, min(t0, t1))
        leave = min(leave, max(t0, t1))
    if enter >= leave:
        return -1.0
    if sharp:
        return enter
    t = enter
    for _ in range(64):
        gap = solid_distance(kind, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2], s)
        if gap < _HIT:
            return t
        t += gap / rate
        if t >= leave:
            break
    return -1.0


@kernel
def render(pose, fx, fy, cx, cy, height, width, kind, centre, axes, size):
    """Nearest solid and its depth at each pixel's centre.

    pose: f8 [4, 4] camera to world (x right, y down, z forward); the other camera numbers as in `Camera`.
    Returns index i4 [height, width], -1 where nothing is hit, and depth f8 [height, width], metres along z (inf).
    """
    index = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf)
    corner = np.empty((8, 3))
    o = np.empty(3)
    d = np.empty(3)
    half = np.empty(3)
    for p in range(len(kind)):
        s = size[p]
        half[0], half[1], half[2] = _reach(kind[p], s)
        for q in range(8):
            for a in range(3):
                corner[q, a] = centre[p, a]
                for b in range(3):
                    corner[q, a] += axes[p, a, b] * (half[b] if (q >> b) & 1 else -half[b])
        r0, r1, c0, c1 = _screen_box(corner, pose, fx, fy, cx, cy, height, width)
        if r0 >= r1 or c0 >= c1:
            continue
        # Camera to local: one rotation for all rays of this solid.
        turn = np.zeros((3, 3))
        for a in range(3):
            o[a] = 0.0
            for b in range(3):
                o[a] += axes[p, b, a] * (pose[b, 3] - centre[p, b])
                for c in range(3):
                    turn[a, c] += axes[p, b, a] * pose[b, c]
        sharp = kind[p] == BOX and s[3] == 0.0
        for r in range(r0, r1):
            yc = (r - cy) / fy
            for c in range(c0, c1):
                xc = (c - cx) / fx
                for a in range(3):
                    d[a] = turn[a, 0] * xc + turn[a, 1] * yc + turn[a, 2]
                rate = np.sqrt(xc * xc + yc * yc + 1.0)
                enter = ray_hit(kind[p], s, half, sharp, o, d, rate, depth[r, c])
                if enter < 0.0:
                    continue
                depth[r, c] = enter
                index[r, c] = p
    return index, depth


@kernel
def local_frames(points, index, kind, centre, axes, size):
    """Local coordinates f8 [N, 3] and local unit normals f8 [N, 3] of surface points f8 [N, 3] on solids `index`."""
    local = np.empty((len(points), 3))
    normal = np.empty((len(points), 3))
    h = 1e-3
    for m in range(len(points)):
        p = index[m]
        for a in range(3):
            local[m, a] = 0.0
            for b in range(3):
                local[m, a] += axes[p, b, a] * (points[m, b] - centre[p, b])
        x, y, z = local[m, 0], local[m, 1], local[m, 2]
        s = size[p]
        k = kind[p]
        gx = solid_distance(k, x + h, y, z, s) - solid_distance(k, x - h, y, z, s)
        gy = solid_distance(k, x, y + h, z, s) - solid_distance(k, x, y - h, z, s)
        gz = solid_distance(k, x, y, z + h, s) - solid_distance(k, x, y, z - h, s)
        length = max(np.sqrt(gx * gx + gy * gy + gz * gz), 1e-12)
        normal[m, 0], normal[m, 1], normal[m, 2] = gx / length, gy / length, gz / length
    return local, normal
