"""Two partial clouds of one scene, for objectives that compare a scene with itself."""

import numpy as np

# Of all points: two parts of this share overlap by three tenths of their own points, PointContrast's least.
SHARE = 1 / 1.7


def part(xyz: np.ndarray, second: bool, rng: np.random.Generator) -> np.ndarray:
    """bool [N]: which points lie in one of the two parts that two upright planes of one random direction cut off.

    xyz: [N, 3]. rng: the same for both parts.
    """
    angle = rng.uniform(0, 2 * np.pi)
    along = xyz[:, :2] @ np.array([np.cos(angle), np.sin(angle)], np.float32)
    if second:
        along = -along
    return along <= np.quantile(along, SHARE)


def matched(
    kept: tuple[np.ndarray, np.ndarray], voxels: tuple[np.ndarray, np.ndarray], most: int, rng: np.random.Generator
) -> np.ndarray:
    """[n, 2] int64: voxels of the first and of the second part that hold a same point; each voxel of the first once.

    kept: of each part the numbers of its points, rising. voxels: the voxel of each. most: at most so many, at random.
    """
    _, first, second = np.intersect1d(*kept, assume_unique=True, return_indices=True)
    ours, place = np.unique(voxels[0][first], return_index=True)
    matches = np.stack([ours, voxels[1][second[place]]], axis=1).astype(np.int64)
    return matches[np.sort(rng.permutation(len(matches))[:most])]
