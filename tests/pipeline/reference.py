"""Plain twins of the kernels, written from the definitions and for reading, not for speed."""

import math
from collections import Counter, defaultdict

import numpy as np

f4 = np.float32


def project(xyz, pose, depth, depth_camera, color_camera, max_gap=0.05, growth=0.0):
    x, y, z = np.linalg.inv(pose)[:3] @ np.vstack([xyz.astype(np.float64).T, np.ones(len(xyz))])

    def nearest(camera):
        with np.errstate(divide="ignore", invalid="ignore"):
            column = np.floor(camera.fx * x / z + camera.cx + 0.5)
            row = np.floor(camera.fy * y / z + camera.cy + 0.5)
        inside = (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width)
        return np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int), inside

    row, column, inside = nearest(depth_camera)
    measured = depth[row, column].astype(np.float64)
    seen = (z > 0) & inside & (measured > 0) & (np.abs(measured - z) <= np.maximum(max_gap, growth * measured**2))
    row, column, inside = nearest(color_camera)
    point = np.flatnonzero(seen & inside)
    return point.astype(np.int32), np.stack([row, column], axis=1)[point].astype(np.uint16)


def mesh_normals(xyz, faces):
    normals = np.zeros((len(xyz), 3), f4)
    counts = [0] * len(xyz)
    for face in faces:
        p1, p2, p3 = xyz[face]
        (ax, ay, az), (bx, by, bz) = p2 - p1, p3 - p1
        cross = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], f4)
        length = np.sqrt(cross[0] * cross[0] + cross[1] * cross[1] + cross[2] * cross[2])
        if length == 0:
            continue
        for v in face:
            t = f4(1) / f4(counts[v] + 1)
            normals[v] = t * (cross / length) + (f4(1) - t) * normals[v]
            counts[v] += 1
    return normals


def pca_normal(points):
    """The eigenvector of the smallest eigenvalue, and all three eigenvalues."""
    values, vectors = np.linalg.eigh(np.cov(points.astype(np.float64).T, bias=True))
    return vectors[:, 0], values


def edge_weights(xyz, normals, edges, oriented=True):
    weights = []
    for a, b in edges:
        n1, n2 = normals[a], normals[b]
        dot = n1[0] * n2[0] + n1[1] * n2[1] + n1[2] * n2[2]
        if oriented:
            w = f4(1) - dot
            d = xyz[b] - xyz[a]
            length = np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
            if length > 0:
                d = d / length
                if n2[0] * d[0] + n2[1] * d[1] + n2[2] * d[2] > 0:
                    w = w * w
        else:
            w = f4(1) - abs(dot)
        weights.append(math.inf if math.isnan(w) else w)
    return np.array(weights, f4)


def felzenszwalb(n_points, edges, weights, k_threshold=0.01, min_size=20):
    """Sets as lists of members, merged by moving them one by one."""
    k = f4(k_threshold)
    members = {i: [i] for i in range(n_points)}
    home = list(range(n_points))
    threshold = {i: k for i in range(n_points)}

    def merge(a, b):
        for i in members.pop(b):
            home[i] = a
            members[a].append(i)

    order = sorted(range(len(edges)), key=lambda e: math.inf if math.isnan(weights[e]) else weights[e])
    for e in order:
        a, b = home[edges[e][0]], home[edges[e][1]]
        if a != b and weights[e] <= threshold[a] and weights[e] <= threshold[b]:
            merge(a, b)
            threshold[a] = weights[e] + k / f4(len(members[a]))
    for e in order:
        a, b = home[edges[e][0]], home[edges[e][1]]
        if a != b and min(len(members[a]), len(members[b])) < min_size:
            merge(a, b)
    number = {}
    return np.array([number.setdefault(h, len(number)) for h in home], np.int32)


def most_frequent(labels):
    counts = Counter(label for label in labels if label != 255)
    return min(counts, key=lambda label: (-counts[label], label)) if counts else 255


def vote(labels, point, indptr, set_id, scope="image"):
    ballots = defaultdict(list)
    view = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) if scope == "image" else np.zeros(len(point), int)
    keys = [(int(v), int(set_id[i])) for v, i in zip(view, point, strict=True)]
    for key, label in zip(keys, labels.tolist(), strict=True):
        ballots[key].append(label)
    winner = {key: most_frequent(cast) for key, cast in ballots.items()}
    return np.array(
        [label if key[1] < 0 else winner[key] for key, label in zip(keys, labels.tolist(), strict=True)], np.uint8
    )


def fuse(frames, camera, voxel):
    """Plain mean by voxel, weight 1 / z^4, nothing left out: {voxel: (xyz, rgb, hits)}."""
    cells = defaultdict(list)
    for color, depth, pose in frames:
        for r, c in zip(*np.nonzero(depth), strict=True):
            z = float(depth[r, c])
            p = np.array([(c - camera.cx) * z / camera.fx, (r - camera.cy) * z / camera.fy, z])
            world = pose[:3, :3] @ p + pose[:3, 3]
            cells[tuple(np.floor(world / voxel).astype(int))].append((z**-4, *world, *color[r, c].astype(float)))
    out = {}
    for cell, samples in cells.items():
        samples = np.array(samples)
        mean = (samples[:, :1] * samples[:, 1:]).sum(axis=0) / samples[:, 0].sum()
        out[cell] = (mean[:3], mean[3:], len(samples))
    return out


def same_partition(a, b):
    """Whether two maps of ids are the same sets under other names."""
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def bumpy_mesh(rows, columns, noise=0.1, seed=0):
    """A grid folded at a right angle, with noise that leaves no two edge weights equal. xyz f4 [N, 3], faces i4."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[:rows, :columns].astype(np.float64)
    fold = columns / 2
    xyz = np.stack([np.minimum(c, fold), r, np.maximum(c - fold, 0)], axis=-1).reshape(-1, 3)
    xyz = (0.02 * (xyz + noise * rng.standard_normal(xyz.shape))).astype(np.float32)
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.stack([i, i + 1, i + columns], axis=1)
    upper = np.stack([i + 1, i + columns + 1, i + columns], axis=1)
    return xyz, np.stack([lower, upper], axis=1).reshape(-1, 3).astype(np.int32)
