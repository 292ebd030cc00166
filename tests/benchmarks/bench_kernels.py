"""Time the geometric kernels on a synthetic scene, beside what people use instead.

    python tests/benchmarks/bench_kernels.py [--vertices 150000] [--runs 5]

Each row is the median of several runs after a first one that compiles. "Instead" is vectorised NumPy, SciPy or torch
where that is how it is done elsewhere, and plain Python (on a part of the scene, scaled up) where there is no way to
vectorise it.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import reference

from hicl.pipeline import fusion, normals, partition, projection, refine, sampling
from hicl.pipeline.datasets.scene import Camera

DEPTH = Camera(fx=577, fy=578, cx=319, cy=239, height=480, width=640)
COLOR = Camera(fx=1169, fy=1167, cx=646, cy=490, height=968, width=1296)
CLASSES = 20


def median_ms(function, runs):
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def numpy_pca(xyz, index):
    near = xyz[index].astype(np.float64)
    near -= near.mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]


def torch_labels(scores, pixel, size):
    import torch

    dense = torch.nn.functional.interpolate(
        torch.from_numpy(scores).permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False
    )
    return dense[0].argmax(dim=0).numpy()[pixel[:, 0], pixel[:, 1]]


def numpy_vote(labels, point, indptr, set_id):
    """One dense table of counts an image."""
    out = labels.copy()
    n_sets = int(set_id.max()) + 1
    for a, b in zip(indptr[:-1], indptr[1:], strict=True):
        sets = set_id[point[a:b]]
        table = np.bincount(sets * CLASSES + labels[a:b].astype(np.int64), minlength=n_sets * CLASSES)
        out[a:b] = table.reshape(n_sets, CLASSES).argmax(axis=1)[sets]
    return out


def rows(n_vertices):
    """(name, what it is timed on, ours, name of the other, the other, factor to scale the other's time by)"""
    side = round((n_vertices / 2) ** 0.5)
    xyz, faces = reference.bumpy_mesh(side, 2 * side, noise=0.1)
    n = len(xyz)
    rng = np.random.default_rng(0)
    part_xyz, part_faces = reference.bumpy_mesh(40, 80, noise=0.1)
    part = n / len(part_xyz)

    pose = np.eye(4)
    pose[:3, 3] = xyz.mean(axis=0) - (0, 0, 4)
    depth = np.full((480, 640), 0, np.float32)
    pixel_z = reference.project(xyz, pose, np.full((480, 640), 4, np.float32), DEPTH, DEPTH, 100)
    depth[pixel_z[1][:, 0], pixel_z[1][:, 1]] = (xyz[pixel_z[0]] - pose[:3, 3])[:, 2]
    view = (xyz, pose, depth, DEPTH, COLOR)
    yield "project", f"{n} points", lambda: projection.project(*view), "NumPy", lambda: reference.project(*view), 1

    mesh = normals.mesh_normals(xyz, faces)
    yield (
        "mesh_normals",
        f"{len(faces)} faces",
        lambda: normals.mesh_normals(xyz, faces),
        "Python",
        lambda: reference.mesh_normals(part_xyz, part_faces),
        part,
    )
    index, _ = normals.neighbors(xyz, 16)
    yield "neighbors k=16", f"{n} points", lambda: normals.neighbors(xyz, 16), "", None, 1
    yield (
        "pca_normals k=16",
        f"{n} points",
        lambda: normals.pca_normals(xyz, index),
        "NumPy eigh",
        lambda: numpy_pca(xyz, index),
        1,
    )

    edges = partition.mesh_edges(faces)
    part_edges = partition.mesh_edges(part_faces)
    part_mesh = normals.mesh_normals(part_xyz, part_faces)
    weights = partition.edge_weights(xyz, mesh, edges)
    part_weights = partition.edge_weights(part_xyz, part_mesh, part_edges)
    yield (
        "edge_weights",
        f"{len(edges)} edges",
        lambda: partition.edge_weights(xyz, mesh, edges),
        "Python",
        lambda: reference.edge_weights(part_xyz, part_mesh, part_edges),
        part,
    )
    yield (
        "felzenszwalb",
        f"{len(edges)} edges",
        lambda: partition.felzenszwalb(n, edges, weights),
        "Python",
        lambda: reference.felzenszwalb(len(part_xyz), part_edges, part_weights),
        part,
    )
    yield "mesh_sets", f"{n} vertices", lambda: partition.mesh_sets(xyz, faces), "", None, 1
    yield "knn_sets", f"{n} points", lambda: partition.knn_sets(xyz, toward=mesh), "", None, 1

    n_views, per_view = 100, 30_000
    point = np.sort(rng.integers(0, n, (n_views, per_view)), axis=1).ravel().astype(np.int32)
    labels = rng.integers(0, CLASSES, len(point)).astype(np.uint8)
    indptr = np.arange(n_views + 1) * per_view
    set_id = partition.mesh_sets(xyz, faces)
    ballot = (labels, point, indptr, set_id)
    yield "vote", f"{len(point)} pairs", lambda: refine.vote(*ballot), "NumPy", lambda: numpy_vote(*ballot), 1

    scores = rng.standard_normal((30, 40, CLASSES)).astype(np.float32)
    pixel = np.stack([rng.integers(0, 968, per_view), rng.integers(0, 1296, per_view)], axis=1).astype(np.uint16)
    sample = (scores, pixel, (968, 1296))
    yield (
        "label_pixels",
        f"{per_view} pixels",
        lambda: sampling.label_pixels(*sample),
        "torch, dense",
        lambda: torch_labels(*sample),
        1,
    )

    wall = 2 + 0.01 * rng.standard_normal((480, 640)).astype(np.float32)
    frame = (np.zeros((968, 1296, 3), np.uint8), wall, np.eye(4))
    yield (
        "fuse_depth, 10 frames, raw",
        "10 x 640x480",
        lambda: fusion.fuse_depth([frame] * 10, DEPTH, COLOR, max_jump=1, smooth=0),
        "",
        None,
        1,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vertices", type=int, default=150_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{'kernel':<28}{'on':<18}{'ms':>9}   {'instead':<14}{'ms':>10}{'times':>8}")
    for name, on, ours, other, theirs, factor in rows(options.vertices):
        ms = median_ms(ours, options.runs)
        line = f"{name:<28}{on:<18}{ms:>9.2f}   {other:<14}"
        if theirs:
            slow = factor * median_ms(theirs, min(options.runs, 3))
            line += f"{slow:>10.1f}{slow / ms:>8.0f}"
        print(line.rstrip(), flush=True)


if __name__ == "__main__":
    main()
