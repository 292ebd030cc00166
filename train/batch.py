"""What a step learns from: some scenes' voxels, and what is known of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch

from hicl.train.taught import Taught

T = TypeVar("T")


@dataclass
class Batch:
    """Some scenes' voxels and what their pairs say. V voxels, B scenes, M tokens a scene, C classes.

    coords [V, 4] int32: scene, x, y, z. features [V, c] float32. histogram [V, C] int32: pairs of each class. sets [V]
    int32: the set of each voxel, counted in its scene. tokens [B, M] int64: rows of the sampled voxels. token_label
    [B, M] int64, 255 = none. said [S, C] float32: what the images say of each set (`pooling.image_labels`); the scenes'
    sets one after another, `first_set` [B] int64 being the first of each. Labels and said are all 0 where the objective
    has no use for them. voxels: number of each scene. grid: extent of the sparse tensor. points: number of points
    behind the voxels. views: chosen of each scene. taught: the teacher's features; matches [n, 2] int64: voxels of the
    same points, of scenes that come twice; both where they are asked for.
    """

    scenes: list[str]
    epoch: int
    coords: torch.Tensor
    features: torch.Tensor
    histogram: torch.Tensor
    sets: torch.Tensor
    tokens: torch.Tensor
    token_label: torch.Tensor
    said: torch.Tensor
    first_set: torch.Tensor
    voxels: list[int]
    grid: list[int]
    points: int
    views: list[list[int]]
    taught: Taught | None = None
    matches: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on `device`."""
        if device.type == "cpu":
            return self
        return each_tensor(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU reads directly; the DataLoader calls it."""
        return each_tensor(self, torch.Tensor.pin_memory)


def each_tensor(holder: T, change: Callable[[torch.Tensor], torch.Tensor]) -> T:
    """A dataclass with its tensors, and those of the `Taught` in it, changed."""
    changed: dict[str, Any] = {}
    for field in fields(holder):  # type: ignore[arg-type]
        value = getattr(holder, field.name)
        if isinstance(value, torch.Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, Taught):
            changed[field.name] = each_tensor(value, change)
    return replace(holder, **changed)  # type: ignore[type-var]
