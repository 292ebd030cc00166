"""Geometric consistency sets: over-segmentation of a mesh or a cloud by its normals (HICL section 3.2)."""

import numpy as np

from hicl.pipeline import normals as normals_
from hicl.pipeline.kernels import segment as kernels
from hicl.pipeline.kernels.sort import radix_order

_FEW = 20_000  # edges that are sorted at once
_SAMPLE = 501  # of their weights, for a pivot


def mesh_edges(faces: np.ndarray) -> np.ndarray:
    """faces int [T, 3] -> int32 [3T, 2]: (i1, i2), (i1, i3), (i3, i2) of each face.

    An edge inside the mesh comes twice, and its two copies may weigh differently: see `edge_weights`.
    Source: ScanNet/ScanNet 3830fce, Segmentator/segmentator.cpp:197-200.
    """
    return kernels.mesh_edges(np.ascontiguousarray(faces, np.int32))


def knn_edges(neighbors: np.ndarray, k: int | None = None) -> np.ndarray:
    """neighbors int32 [N, K], -1 = none -> int32 [E, 2]: each pair of neighbours once, lower index first, no loops.

    k: only the first so many neighbours of each.
    """
    neighbors = np.ascontiguousarray(neighbors, np.int32)
    return kernels.knn_edges(neighbors, neighbors.shape[1] if k is None else min(k, neighbors.shape[1]))


def edge_weights(xyz: np.ndarray, normals: np.ndarray, edges: np.ndarray, oriented: bool = True) -> np.ndarray:
    """How different the two ends of each edge are; low inside a smooth surface.

    xyz, normals: float32 [N, 3]. edges: int32 [E, 2]. Returns float32 [E].
    oriented: w = 1 - n1·n2, squared where the surface is convex, (p2 - p1)·n2 > 0, so that the outer edges of an object
    cut less than its crease with the wall behind. Otherwise, for normals of unknown sign, w = 1 - |n1·n2|.
    An edge of length 0 isn't tested for convexity; a weight that isn't a number becomes inf: a boundary.

    Source: segmentator.cpp:222-228. There, NaN weights go into std::sort, which is undefined.
    """
    xyz = np.ascontiguousarray(xyz, np.float32)
    edges = _checked_edges(edges, len(xyz))
    return kernels.edge_weights(xyz, np.ascontiguousarray(normals, np.float32), edges, bool(oriented))


def felzenszwalb(
    n_points: int, edges: np.ndarray, weights: np.ndarray, k_threshold: float = 0.01, min_size: int = 20
) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's graph segmentation. Returns int32 [n_points]: sets 0..K-1 by first appearance.

    edges: int32 [E, 2]. weights: float32 [E]; NaN counts as inf, a boundary.
    In ascending order of weight, an edge joins two sets if w <= their thresholds; a set's threshold is the weight that
    joined it last plus k_threshold / its size. In a second pass in the same order, sets of fewer than `min_size` points
    are joined with what they touch, over boundaries too if nothing else is left. So a set is smaller only if its whole
    connected component is; a point without edges stays alone.

    Source: Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004; constants and order of
    operations from segmentator.cpp:71-92, 236-243, 270-275. Where we differ: the sort is stable (std::sort isn't),
    so equal weights are taken in the order of the edges; ids are gapless.
    """
    edges = _checked_edges(edges, n_points)
    weights = np.ascontiguousarray(weights, np.float32)
    if weights.shape != (len(edges),):
        raise ValueError(f"weights: expected shape [{len(edges)}], one an edge, found {list(weights.shape)}")
    unknown = np.isnan(weights)
    if unknown.any():
        weights = np.where(unknown, np.float32(np.inf), weights)
    return kernels.number_by_appearance(_joined(n_points, edges, weights, np.float32(k_threshold), min_size), n_points)


def _joined(n_points: int, edges: np.ndarray, weights: np.ndarray, k: np.float32, min_size: int) -> np.ndarray:
    """int64 [n_points]: one point of each set for all of its points.

    A forest int32 [n_points]: below 0, a root, and how many points its set has; else the node above. Both passes take
    the edges lightest first, but sort them part by part, and drop from the heavier rest, before it is sorted, those
    whose ends have come together meanwhile (filter-Kruskal: Osipov, Sanders and Singler, ALENEX 2009).
    """
    parent, threshold = np.full(n_points, -1, np.int32), np.full(n_points, k, np.float32)
    # No set's threshold ever reaches 2 k: that of two sets joined is at most the smaller one's plus k / their size,
    # which is k + k/2 + k/4 + ... at worst. So edges beyond it take no part in the first pass.
    below, above = kernels.split(np.arange(len(weights), dtype=np.int32), weights, np.float32(2.001) * k)
    left, n_left = np.empty((len(below), 2), np.int32), 0
    while len(below):
        light, below = _light_part(below, weights)
        ends, ordered = kernels.fetched(edges, weights, ascending(light, weights))
        n_left = kernels.join_below(parent, threshold, ends, ordered, k, left, n_left)
        below = kernels.between(parent, edges, below, n_points + 1)
    kernels.join_small(parent, left[:n_left], min_size)
    above = kernels.between(parent, edges, above, min_size)
    while len(above):
        light, above = _light_part(above, weights)
        ends, _ = kernels.fetched(edges, weights, ascending(light, weights))
        kernels.join_small(parent, ends, min_size)
        above = kernels.between(parent, edges, above, min_size)
    return kernels.roots(parent)


def ascending(edges: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The given edges int32 [M], themselves ascending, in stable ascending order of weight; none of them NaN."""
    return edges[radix_order(kernels.weight_keys(edges, weights))]


def _light_part(edges: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`split` at a pivot, found from a sample, that about three fifths of many edges don't exceed; all of few."""
    if len(edges) <= _FEW:
        return edges, edges[:0]
    sample = np.sort(weights[edges[: _SAMPLE * (len(edges) // _SAMPLE) : len(edges) // _SAMPLE]])
    return kernels.split(edges, weights, sample[3 * _SAMPLE // 5])


def mesh_sets(xyz: np.ndarray, faces: np.ndarray, k_threshold: float = 0.01, min_size: int = 20) -> np.ndarray:
    """The ScanNet Segmentator: xyz float32 [N, 3], faces int [T, 3] -> int32 [N], sets 0..K-1 by first appearance.

    Raises `HiclError` for a face with a vertex that isn't there.
    """
    faces = normals_.checked_faces(faces, len(xyz))
    normals = normals_.mesh_normals(xyz, faces)
    edges = mesh_edges(faces)
    return felzenszwalb(len(xyz), edges, edge_weights(xyz, normals, edges), k_threshold, min_size)


def knn_sets(
    xyz: np.ndarray,
    normals: np.ndarray | None = None,
    toward: np.ndarray | None = None,
    k: int = 16,
    k_edges: int = 8,
    radius: float = 0.1,
    k_threshold: float = 0.01,
    min_size: int = 20,
    flat: float = np.inf,
) -> np.ndarray:
    """The same on a cloud without a mesh: xyz float32 [N, 3] -> int32 [N], sets 0..K-1 by first appearance.

    normals: float32 [N, 3] of unit length, oriented outwards, if the source has them; otherwise they are estimated from
    the k nearest points within `radius` metres (a point counts as its own nearest) and turned `toward` the sensor,
    float32 [N, 3]. With neither, the convexity rule is left out. Edges join the k_edges nearest of them. `radius` suits
    rooms at a few centimetres; LiDAR sweeps need about 1 m. flat: metres within which a surface counts as a plane:
    normals are estimated from the neighbours up to there only.

    The Segmentator's constants fit a cloud whose graph is like a mesh's, with some six neighbours a point, and whose
    surfaces are one layer thick, as `fuse_depth` makes them. On a fused Kinect scene of 7-Scenes, normals of 16 and
    edges of 8 gave 463 sets that follow walls, desk tops, chairs and the larger things on them. Normals of 8 broke desk
    tops up; edges of 16 joined small things with what they lie on (384 sets) and, with a k_threshold of 0.03, a fifth
    of the room.
    """
    index, distance = normals_.neighbors(xyz, k, radius)
    oriented = normals is not None or toward is not None
    if normals is None:
        near = index if flat >= radius else np.where(distance < flat, index, np.int32(-1))
        normals = normals_.pca_normals(xyz, near, toward)
        del near
    edges = knn_edges(index, k_edges)
    weights = edge_weights(xyz, normals, edges, oriented)
    del index, distance, normals  # before the sets need as much
    return felzenszwalb(len(xyz), edges, weights, k_threshold, min_size)


def cloud_sets(
    xyz: np.ndarray,
    normals: np.ndarray | None = None,
    toward: np.ndarray | None = None,
    k_threshold: float = 0.01,
    min_size: int = 20,
) -> np.ndarray:
    """The same on a room's cloud, as like as can be to what its mesh would have; arguments as of `knn_sets`.

    With normals, or something to turn them `toward`, the convexity rule holds, and then 0.3 k_threshold: what is convex
    has squared weights, by which the short cuts of a graph of neighbours else join a thing to the next. A surface
    counts as a plane for 7 cm: where points lie 4 cm apart, the sixteen nearest reach round edges.

    `tests/benchmarks/bench_labels.py` compares them with the meshes' own sets.
    """
    if normals is None and toward is None:
        return knn_sets(xyz, k_threshold=k_threshold, min_size=min_size)
    return knn_sets(xyz, normals, toward, k_threshold=0.3 * k_threshold, min_size=min_size, flat=0.07)


def sweep_sets(xyz: np.ndarray, toward: np.ndarray, k_threshold: float = 0.01, min_size: int = 20) -> np.ndarray:
    """The same on a sweep of a LiDAR that turns: xyz float32 [N, 3] metres, without the car's own points -> int32 [N].

    toward: float32 [N, 3], from each point to the sensor. Neighbours up to 2 m away, as rings lie metres apart on the
    ground; normals of 32 of them and edges to 16, so that many points have neighbours on another ring than their own.
    On 25 labelled frames of nuScenes these sets voted best of nine kinds: 393 a frame, and labels of 66.0 % voted to
    86.0 % (sets of rooms' radius: 7,742 and 74.4 %). 40 and 20 let the road run over the sidewalk.
    """
    return knn_sets(xyz, toward=toward, k=32, k_edges=16, radius=2.0, k_threshold=k_threshold, min_size=min_size)


def has_wide_gaps(ids: np.ndarray) -> bool:
    """Whether a table with a row for each number up to the largest id would be mostly empty."""
    return ids.size > 0 and int(ids.max()) >= 4 * ids.size + 1024


def compact_ids(ids: np.ndarray) -> np.ndarray:
    """Any integer ids [N], with gaps and however large -> int32 [N], 0..K-1 by first appearance. Negative -> -1."""
    ids = np.asarray(ids)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids: expected integers, found {ids.dtype}")
    if has_wide_gaps(ids):
        negative = ids < 0
        _, ids = np.unique(ids, return_inverse=True)
        ids[negative] = -1
    ids = np.ascontiguousarray(ids, np.int64)
    return kernels.number_by_appearance(ids, int(ids.max(initial=-1)) + 1)


def _checked_edges(edges: np.ndarray, n_points: int) -> np.ndarray:
    edges = np.asarray(edges)
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(f"edges: expected shape [E, 2], found {list(edges.shape)}")
    if edges.size and (edges.min() < 0 or edges.max() >= n_points):
        raise ValueError(f"edges: expected points 0 to {n_points - 1}, found {edges.min()} to {edges.max()}")
    return np.ascontiguousarray(edges, np.int32)
