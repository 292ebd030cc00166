"""What an objective asks of a scene, and what the teacher's patch features say of its pairs.

Features are averaged over rows: single pairs, or the pairs of a set in an image, of a view, of a patch, of a voxel. No
array of a feature for each pair is ever made, so that memory grows with the rows alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from hicl.cache.reader import SceneReader
from hicl.errors import HiclError
from hicl.train.fused import owned_sums

Rows = Literal["", "pairs", "sets", "views", "patches", "voxels"]


@dataclass(frozen=True)
class Needs:
    """What an objective learns from; nothing else of a scene is read.

    labels: of the pairs, "raw" or "refined", or "masked", the raw ones after a vote in each mask of a view; "": none.
    said: what the images say of each set. rows: what the teacher's features are averaged over; "": they aren't read.
    most: at most so many rows a scene, drawn at random; 0: all. every_view: of all views of the scene, and not of the
    step's alone. matches: every scene comes twice, as two overlapping parts moved differently, with at most so many
    voxels of same points, and pairs of the first alone; 0: as a whole.
    """

    labels: Literal["", "raw", "refined", "masked"] = ""
    said: bool = False
    rows: Rows = ""
    most: int = 0
    every_view: bool = False
    matches: int = 0

    @property
    def pairs(self) -> bool:
        """Whether the pairs are read at all."""
        return bool(self.labels or self.said or self.rows)

    def assert_met(self, scene: SceneReader) -> None:
        """Raise `HiclError` where a scene lacks the features or masks that are asked for."""
        if self.rows and not scene.has("features/grid"):
            raise HiclError(
                f"{scene.path}: no features/grid, which this objective learns from; take a cache whose labels CLIP"
                " made (`hicl preprocess --teacher clip`)"
            )
        if self.labels == "masked" and not scene.has("pairs/mask"):
            raise HiclError(
                f"{scene.path}: no pairs/mask, in which this objective's labels vote; make masks by `hicl masks`, or"
                " another segmenter, and give them to `hicl preprocess --masks-dir DIR --masks kept`"
            )


@dataclass
class Taught:
    """Rows of the batch's pairs in the chosen views. R rows, V voxels, d channels.

    features [R, d] float32: the mean over a row's pairs of the teacher's feature there, which is of unit length. count
    [R] float32: how many pairs. view [R] int64: the view that a row is of, counted over the batch's scenes; -1: many.
    entries [2, E] int64 and share [E] float32: what part (second) of the pairs of row entries[0] fall into voxel
    entries[1]; the shares of a row add up to 1.
    """

    features: torch.Tensor
    count: torch.Tensor
    view: torch.Tensor
    entries: torch.Tensor
    share: torch.Tensor

    def pooled(self, features_Vd: torch.Tensor) -> torch.Tensor:
        """[R, d]: the mean over the same pairs of what the network makes of their voxels, differentiable."""
        size = len(self.features), len(features_Vd)
        # Said, for else PyTorch warns that it doesn't check; `teach` makes no others.
        mean = torch.sparse_coo_tensor(self.entries, self.share, size, check_invariants=False)
        return torch.sparse.mm(mean, features_Vd)


def teach(
    scene: SceneReader,
    needs: Needs,
    views: np.ndarray,
    point: np.ndarray,
    sets: np.ndarray,
    voxel_of_point: np.ndarray,
    rng: np.random.Generator,
) -> Taught:
    """The rows of one scene, its views and voxels counted from 0.

    Args:
        views: [k] int, the chosen ones. point: [P] int32, pairs/point, -1 = a point that takes no part. sets, and
            voxel_of_point: [N] int.

    Raises:
        HiclError: as the cache's reader.
    """
    names = ("pairs/indptr", "pairs/pixel", "views/size", "features/grid", "features/scale")
    indptr, pixel, size, grid, scale = (scene.read(name) for name in names)
    kept = [np.arange(indptr[view], indptr[view + 1]) for view in views]
    kept = [pairs[point[pairs] >= 0] for pairs in kept]
    view = np.repeat(np.arange(len(views)), [len(pairs) for pairs in kept])
    pairs = np.concatenate([np.empty(0, np.int64), *kept])
    voxel, (_, h, w, _) = voxel_of_point[point[pairs]].astype(np.int64), grid.shape
    if needs.rows == "pairs":
        key = np.arange(len(pairs))
    elif needs.rows == "sets":
        key = view * (int(sets.max()) + 1) + sets[point[pairs]]
    elif needs.rows == "views":
        key = view
    elif needs.rows == "patches":
        i, j = (pixel[pairs].astype(np.int64) * (h, w) // size[views][view]).T
        key = (view * h + i) * w + j
    else:
        key = voxel
    row, count = _numbered(key)
    if needs.most and len(count) > needs.most:
        drawn = np.sort(rng.permutation(len(count))[: needs.most])
        number = np.full(len(count), -1)
        number[drawn] = np.arange(len(drawn))
        row, count = number[row], count[drawn]
        pairs, voxel, view, row = (array[row >= 0] for array in (pairs, voxel, view, row))
    shown = np.asarray(views, np.int32)[view]
    sums = owned_sums(grid, scale, size, shown, pixel[pairs], row, len(count), unit=True)
    view_of_row = np.full(len(count), -1)
    if needs.rows != "voxels":
        view_of_row[row] = view
    if needs.rows == "voxels":
        entries, times = np.stack([np.arange(len(count)), np.empty(len(count), np.int64)]), count
        entries[1, row] = voxel
    else:
        n_voxels = int(voxel.max(initial=0)) + 1
        cell, times = np.unique(row * n_voxels + voxel, return_counts=True)
        entries = np.stack(np.divmod(cell, n_voxels))
    return Taught(
        features=torch.from_numpy(sums / count[:, None].astype(np.float32)),
        count=torch.from_numpy(count.astype(np.float32)),
        view=torch.from_numpy(view_of_row),
        entries=torch.from_numpy(entries),
        share=torch.from_numpy((times / count[entries[0]]).astype(np.float32)),
    )


def _numbered(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each key among those that are there, in order, and how often each is: int64 [P] and [R].

    NumPy's `unique`, without its sort: keys are small.
    """
    count = np.bincount(key)
    there = count > 0
    return (np.cumsum(there) - 1)[key], count[there]


def joined(parts: list[Taught], first_voxel: np.ndarray, views: list[list[int]]) -> Taught:
    """The rows of some scenes one after another: of each the number of its first voxel, and its chosen views."""
    row = np.cumsum([0, *(len(part.count) for part in parts)])[:-1]
    view = np.cumsum([0, *map(len, views)])[:-1]
    starts = torch.from_numpy(np.stack([row, first_voxel], axis=1)[:, :, None])
    own = [torch.where(part.view < 0, -1, part.view + int(n)) for part, n in zip(parts, view, strict=True)]
    return Taught(
        features=torch.cat([part.features for part in parts]),
        count=torch.cat([part.count for part in parts]),
        view=torch.cat(own),
        entries=torch.cat([part.entries + start for part, start in zip(parts, starts, strict=True)], dim=1),
        share=torch.cat([part.share for part in parts]),
    )
