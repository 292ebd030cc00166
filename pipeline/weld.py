"""Points at one place as one: triangle soups and meshes cut along texture seams share no vertices where they should."""

from dataclasses import replace

import numpy as np

from hicl.pipeline.datasets.scene import Points
from hicl.pipeline.kernels import weld as kernels
from hicl.pipeline.normals import unit


def number_places(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place int32 [N] of each point, first point int32 [M] of each place), both by appearance.

    xyz: float32 [N, 3]. Points are at one place if their coordinates are equal; -0 equals 0.
    """
    positive = np.ascontiguousarray(xyz, np.float32) + np.float32(0)
    return kernels.number_places(positive.view(np.uint32))


def weld(points: Points) -> tuple[Points, np.ndarray | None]:
    """The points with each place once, as a surface for sets and normals, and the place of each point int32 [N].

    Normals and sights of the points at one place are averaged. The points themselves, and None, where no place comes
    twice: a mesh whose vertices are shared is left as it is to the last bit.
    """
    place, first = number_places(points.xyz)
    if len(first) == len(place):
        return points, None

    def mean(vectors: np.ndarray | None) -> np.ndarray | None:
        if vectors is None:
            return None
        sums = [np.bincount(place, vectors[:, axis], len(first)) for axis in range(3)]
        return unit(np.stack(sums, axis=1))

    faces = points.faces if points.faces is None else place[points.faces]
    normal, sight = mean(points.normal), mean(points.sight)
    label = points.label if points.label is None else points.label[first]
    own = replace(points, xyz=points.xyz[first], rgb=points.rgb[first], label=label)
    return replace(own, faces=faces, normal=normal, sight=sight), place
