"""Kernel of the miniature's procedural textures: a colour from a solid's local coordinates.

Textures are functions of the place and not of the view, so that the mesh and every image agree on them.
"""

import numpy as np

from . import kernel

PLAIN, GRAIN, STRIPES, MOTTLE, TILES, CHECKER, BOOKS, ART, GLASS, PANELS, DOTS, PLANKS, WEAVE, SLATS = range(14)
ROAD, FACADE, LEAVES, HAZARD, BAND, HOOPS = range(14, 20)  # out of doors


@kernel
def _hash(i, j, seed):
    """A number in [0, 1) from two integers: a few rounds of integer mixing, the same on every machine."""
    h = np.uint32(i * 374761393 + j * 668265263 + seed * 1442695041)
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1274126177))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(2246822519))
    h = h ^ (h >> np.uint32(15))
    return np.float64(h & np.uint32(0xFFFFFF)) / 16777216.0


@kernel
def _noise(u, v, seed):
    """Smooth value noise in [0, 1] with one bump a unit."""
    i = int(np.floor(u))
    j = int(np.floor(v))
    fu = u - i
    fv = v - j
    fu = fu * fu * (3.0 - 2.0 * fu)
    fv = fv * fv * (3.0 - 2.0 * fv)
    a = _hash(i, j, seed) * (1.0 - fu) + _hash(i + 1, j, seed) * fu
    b = _hash(i, j + 1, seed) * (1.0 - fu) + _hash(i + 1, j + 1, seed) * fu
    return a * (1.0 - fv) + b * fv


@kernel
def _texture(kind, u, v, scale, seed, hu, hv, out):
    """Blend weight of the second colour; patterns with colours of their own add them to `out` f8 [3] (an offset)."""
    out[0] = out[1] = out[2] = 0.0
    su = u / scale
    sv = v / scale
    iu = int(np.floor(su))
    iv = int(np.floor(sv))
    fu = su - iu
    fv = sv - iv
    if kind == PLAIN:
        return 0.12 * _noise(su * 3.0, sv * 3.0, seed)
    if kind == GRAIN:
        return 0.65 * _noise(su * 1.2, sv * 14.0, seed) + 0.35 * _noise(su * 3.0, sv * 45.0, seed + 1)
    if kind == STRIPES:
        return 1.0 if fu < 0.5 else 0.0
    if kind == MOTTLE:
        return 0.6 * _noise(su * 2.0, sv * 2.0, seed) + 0.4 * _noise(su * 6.0, sv * 6.0, seed + 1)
    if kind == TILES:
        if fu < 0.06 or fv < 0.06:
            return 1.0
        return 0.18 * _hash(iu, iv, seed)
    if kind == CHECKER:
        return 1.0 if (iu + iv) % 2 == 0 else 0.0
    if kind == BOOKS:
        lean = _hash(iu, 7, seed)
        out[0] = 0.75 * (_hash(iu, 1, seed) - 0.5)
        out[1] = 0.75 * (_hash(iu, 2, seed) - 0.5)
        out[2] = 0.75 * (_hash(iu, 3, seed) - 0.5)
        if fu < 0.1 or v > hv * (0.45 + 0.5 * lean):
            out[0] = out[1] = out[2] = -0.45
        return 0.0
    if kind == ART:
        q = _noise(su, sv, seed)
        w = _noise(su * 2.3, sv * 2.3, seed + 5)
        level = int(q * 5.0)
        out[0] = 1.1 * (_hash(level, 1, seed) - 0.5)
        out[1] = 1.1 * (_hash(level, 2, seed) - 0.5)
        out[2] = 1.1 * (_hash(level, 3, seed) - 0.5)
        return 1.0 if w > 0.62 else 0.0
    if kind == GLASS:
        # Frame, a cross of bars, and behind it sky over something green.
        if abs(u) > hu - 0.06 or abs(v) > hv - 0.06 or abs(u) < 0.025 or abs(v - 0.15 * hv) < 0.02:
            return 1.0
        trees = _noise(u * 5.0, v * 5.0, seed) * 0.5 - v / max(hv, 0.1) * 0.6
        if trees > 0.25:
            out[0], out[1], out[2] = -0.45, -0.3, -0.5
        elif v > 0.0:
            out[2] = 0.1
        return 0.0
    if kind == PANELS:
        # Cupboard doors: a dark joint round every door, a bevel inside it, a knob.
        eu = min(fu, 1.0 - fu) * scale
        w = 2.0 * hv / max(1.0, np.floor(2.0 * hv / (scale * 1.6) + 0.5))
        kv = (v + hv) / w
        gv = kv - np.floor(kv)
        ev = min(gv, 1.0 - gv) * w
        e = min(eu, ev)
        if e < 0.014:
            return 1.0
        if 0.05 < e < 0.065:
            return 0.5
        if abs(fu * scale - 0.06) < 0.02 and abs(ev - 0.5 * w) < 0.05:
            return 0.9
        return 0.1 * _noise(su * 3.0, sv * 12.0, seed)
    if kind == DOTS:
        return 1.0 if (fu - 0.5) ** 2 + (fv - 0.5) ** 2 < 0.06 else 0.0
    if kind == PLANKS:
        row = int(np.floor(v / (0.35 * scale)))
        shift = su * 0.3 + _hash(row, 3, seed)
        joint = shift - np.floor(shift)
        edge = v / (0.35 * scale) - row
        if edge < 0.05 or joint < 0.008:
            return 1.0
        tint = 0.5 * _hash(row, int(np.floor(shift)), seed)
        return tint + 0.25 * _noise(su * 2.0, sv * 30.0, seed)
    if kind == WEAVE:
        rough = _noise(su * 9.0, sv * 9.0, seed)
        return 0.35 + 0.3 * np.sin(su * 25.0) * np.sin(sv * 25.0) + 0.3 * rough
    if kind == SLATS:
        return 1.0 if fv < 0.25 else 0.1
    if kind == ROAD:
        # Asphalt, patched here and there; lane lines `scale` apart, counted from the middle, and lines at both edges.
        worn = 0.1 * (_noise(u * 0.25, v * 0.25, seed) - 0.5) + 0.08 * (_noise(u * 6.0, v * 6.0, seed + 1) - 0.5)
        out[0] = out[1] = out[2] = worn
        lane = np.floor(sv + 0.5)
        along = u / 7.0 - np.floor(u / 7.0)
        inner = abs(v - lane * scale) < 0.08 and (along < 0.45 or lane == 0.0) and abs(v) < hv - 1.0
        return 0.9 if inner or abs(abs(v) - hv + 0.35) < 0.07 else 0.0
    if kind == FACADE:
        # Windows a storey `scale` high, some with their blinds down, between courses of stone.
        fv = (v + hv) / scale
        storey = int(np.floor(fv))
        fv -= storey
        wide = 0.2 < fu < 0.8
        if wide and 0.28 < fv < 0.8:
            blind = _hash(iu, storey, seed)
            return 1.0 if blind < 0.75 or fv < 0.55 else 0.45
        if fv < 0.06 or (wide and 0.24 < fv < 0.28):
            out[0] = out[1] = out[2] = 0.1
        return 0.12 * _noise(u * 2.0, v * 2.0, seed)
    if kind == LEAVES:
        clump = _noise(su, sv, seed)
        leaf = _noise(su * 5.0, sv * 5.0, seed + 1)
        return 0.6 * clump + 0.6 * leaf * leaf
    if kind == HAZARD:
        stripe = su + sv
        return 1.0 if stripe - np.floor(stripe) < 0.5 else 0.0
    if kind == BAND:
        # A row of windows in the upper half of a side, with posts between them.
        return 1.0 if 0.05 * hv < v < 0.7 * hv and 0.05 < fu < 0.95 else 0.0
    return 1.0 if fv < 0.5 else 0.0  # HOOPS


@kernel
def paint(local, normal, index, size, texture, color, detail):
    """Colour f4 [N, 3] in [0, 1] of surface points.

    local, normal: f8 [N, 3] in the frame of solid index i4 [N]. size: f8 [P, 5]. texture: i4 [P]. color: f8 [P, 2, 3].
    detail: f8 [P, 2] = scale in metres, seed.
    """
    out = np.empty((len(local), 3), np.float32)
    extra = np.empty(3)
    for m in range(len(local)):
        p = index[m]
        nx, ny, nz = abs(normal[m, 0]), abs(normal[m, 1]), abs(normal[m, 2])
        if nz >= nx and nz >= ny:
            u, v, hu, hv = local[m, 0], local[m, 1], size[p, 0], size[p, 1]
        elif nx >= ny:
            u, v, hu, hv = local[m, 1], local[m, 2], size[p, 1], size[p, 2]
        else:
            u, v, hu, hv = local[m, 0], local[m, 2], size[p, 0], size[p, 2]
        w = _texture(texture[p], u, v, detail[p, 0], int(detail[p, 1]), hu, hv, extra)
        w = min(max(w, 0.0), 1.0)
        for c in range(3):
            value = color[p, 0, c] * (1.0 - w) + color[p, 1, c] * w + extra[c]
            out[m, c] = min(max(value, 0.0), 1.0)
    return out
