"""From scenes in the cache to batches, in worker processes.

A batch depends on (seed, epoch, scenes) alone: not on the number of workers, the process that made it, or what came
before. That is what makes --resume exact. `points/label` is never read here.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.processes import compiling
from hicl.train import fused, kernels, twins
from hicl.train.augment import augment
from hicl.train.batch import Batch
from hicl.train.config import FEATURES, HeadConfig, StreamConfig
from hicl.train.kernels import (
    grid_shape,
    label_histogram,
    majority_labels,
    masked_labels,
    token_labels,
    voxel_features,
    voxelise,
    warm_up,
)
from hicl.train.pooling import image_labels
from hicl.train.reading import network_input
from hicl.train.taught import Needs, Taught, joined, teach
from hicl.train.tokens import sample_tokens


@dataclass(frozen=True)
class Source:
    """What a worker needs to make batches: the cache, the scenes as they were at the start, and the settings."""

    cache: str | Path
    scenes: tuple[str, ...]
    fingerprints: tuple[str, ...]
    needs: Needs
    heads: HeadConfig
    seed: int
    config: StreamConfig


def make_source(
    cache: CacheReader, needs: Needs, heads: HeadConfig, seed: int, config: StreamConfig, split: str = "train"
) -> Source:
    """The scenes of a split with their fingerprints. Raises HiclError where the cache has none, or not what is asked
    for."""
    scenes = tuple(cache.scene_ids(split))
    needs.assert_met(cache.scene(scenes[0]))
    fingerprints = tuple(cache.fingerprints(scenes))
    return Source(cache.path, scenes, fingerprints, needs, heads, seed, config)


def make_batch(cache: CacheReader, source: Source, epoch: int, numbers: list[int]) -> Batch:
    """One batch. `cache` is the opened cache of `source`.

    Raises:
        HiclError: the scene changed since the run began, holds no labelled pair, or is damaged.
    """
    matches, halves = source.needs.matches, (1, 2) if source.needs.matches else (0,)
    parts = [_sample(cache, source, epoch, number, half) for number in numbers for half in halves]
    start = np.cumsum([0, *(len(p["coords"]) for p in parts)])
    whole = slice(None, None, len(halves))  # of a scene that comes twice, the first part has its pairs
    coords = np.concatenate([np.insert(p["coords"], 0, i, axis=1) for i, p in enumerate(parts)])
    return Batch(
        scenes=[p["scene"] for p in parts],
        epoch=epoch,
        coords=torch.from_numpy(coords),
        features=torch.from_numpy(np.concatenate([p["features"] for p in parts])),
        histogram=torch.from_numpy(np.concatenate([p["histogram"] for p in parts])),
        sets=torch.from_numpy(np.concatenate([p["sets"] for p in parts])),
        tokens=torch.from_numpy(np.stack([p["tokens"] + start[i] for i, p in enumerate(parts)])),
        token_label=torch.from_numpy(np.stack([p["token_label"] for p in parts])),
        said=torch.from_numpy(np.concatenate([p["said"] for p in parts])),
        first_set=torch.from_numpy(np.cumsum([0, *(len(p["said"]) for p in parts[:-1])])),
        voxels=[len(p["coords"]) for p in parts],
        grid=grid_shape(coords[:, 1:]),
        points=sum(p["points"] for p in parts),
        views=[p["views"] for p in parts],
        taught=_joined(parts[whole], start[:-1][whole]) if source.needs.rows else None,
        matches=_matches(parts, start, source, epoch) if matches else None,
    )


def _joined(parts: list[dict], start: np.ndarray) -> Taught:
    return joined([p["taught"] for p in parts], start, [p["shown"] for p in parts])


def _matches(parts: list[dict], start: np.ndarray, source: Source, epoch: int) -> torch.Tensor:
    """Of a scene's two halves, which follow each other."""
    found = []
    for i in range(0, len(parts), 2):
        rng = np.random.default_rng([source.seed, epoch, zlib.crc32(parts[i]["scene"].encode()), 3])
        both = parts[i : i + 2]
        kept, voxels = (tuple(p[key] for p in both) for key in ("kept", "voxel_of_point"))
        found.append(twins.matched(kept, voxels, source.needs.matches, rng) + start[i : i + 2])
    return torch.from_numpy(np.concatenate(found))


def _sample(cache: CacheReader, source: Source, epoch: int, number: int, half: int) -> dict:
    """One scene, or of a scene that comes twice the first or second part."""
    name, config, needs = source.scenes[number], source.config, source.needs
    if half == 2:
        needs = Needs()
    scene = _unchanged(cache, source, number)
    needs.assert_met(scene)
    reads = FEATURES[config.features]
    if not scene.has(reads.array):
        there = next(kind for kind, (array, *_) in FEATURES.items() if scene.has(array))
        raise HiclError(f"{source.cache}: scene {name} has no {reads.array}; give --set stream.features={there}")
    xyz, values, sets = (scene.read(array) for array in ("points/xyz", reads.array, "sets/id"))
    indptr, point = np.zeros(1, np.int64), np.empty(0, np.int32)
    if needs.pairs:
        indptr, point = scene.read("pairs/indptr"), scene.read("pairs/point")
    label = np.full(len(point), NO_LABEL, np.uint8)
    if needs.labels:
        label = scene.read("pairs/raw" if needs.labels == "masked" else f"pairs/{needs.labels}")
    said = np.zeros((int(sets.max()) + 1, len(cache.classes)), np.float32)
    if needs.said:
        spread = scene.read("points/spread") if scene.has("points/spread") else None
        said = image_labels(scene.read("pairs/raw"), sets[point], sets, spread, len(cache.classes))

    # The name and not the number: adding a scene to a cache leaves the others' samples as they were.
    seed = [source.seed, epoch, zlib.crc32(name.encode())]
    mask = scene.read("points/valid").astype(bool) if scene.has("points/valid") else np.ones(len(xyz), bool)
    if half:
        mask[mask] = twins.part(xyz[mask], half == 2, np.random.default_rng(seed))
    kept = np.flatnonzero(mask)
    if len(kept) < len(xyz):
        xyz, values, sets, point = _only(kept, xyz, values, sets, point)
    seeds = np.random.SeedSequence([*seed, half] if half else seed).spawn(4)
    view_rng, augment_rng, token_rng, row_rng = (np.random.default_rng(s) for s in seeds)
    seen = np.flatnonzero(np.diff(indptr))
    views = np.sort(view_rng.permutation(seen)[: config.views])
    if needs.labels == "masked":
        label = masked_labels(indptr, views, label, scene.read("pairs/mask"))
    moved, features = augment(xyz, values, config, augment_rng)
    try:
        coords, representative, voxel_of_point = voxelise(moved, config.voxel_size)
        histogram = label_histogram(indptr, views, point, label, voxel_of_point, len(coords), len(cache.classes))
    except ValueError as error:
        raise HiclError(f"{source.cache}: scene {name}: {error}; preprocess it again") from error
    if needs.labels and not histogram.any() and (label == NO_LABEL).all():
        raise HiclError(
            f"{source.cache}: scene {name} has no labelled pair, so nothing to learn from;"
            " preprocess it again, or take it out of the training split"
        )
    read = voxel_features(features, representative, voxel_of_point, config.colour)
    tokens = sample_tokens(sets[representative], source.heads.tokens, token_rng)
    if source.heads.token_label == "set":
        token_label = token_labels(histogram, sets[representative], tokens)
    else:
        token_label = majority_labels(histogram[tokens])
    shown = seen if needs.every_view else views
    taught = teach(scene, needs, shown, point, sets, voxel_of_point, row_rng) if needs.rows else None
    _unchanged(cache, source, number)
    return {
        "scene": name,
        "kept": kept,
        "voxel_of_point": voxel_of_point,
        "coords": coords,
        "features": network_input(read, moved, representative, config),
        "histogram": histogram,
        "sets": sets[representative],
        "tokens": tokens,
        "token_label": token_label,
        "said": said,
        "points": len(xyz),
        "views": views.tolist(),
        "taught": taught,
        "shown": shown.tolist(),
    }


def _only(
    kept: np.ndarray, xyz: np.ndarray, values: np.ndarray, sets: np.ndarray, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A scene's arrays with these points alone; a pair of another gets the point -1, which nothing takes."""
    number = np.full(len(xyz), -1, np.int32)
    number[kept] = np.arange(len(kept))
    point = number[point]
    point.flags.writeable = False  # as the reader's, for which the kernels are compiled
    return xyz[kept], values[kept], sets[kept], point


def _unchanged(cache: CacheReader, source: Source, number: int) -> SceneReader:
    scene = cache.scene(source.scenes[number])
    if scene.fingerprint != source.fingerprints[number]:
        raise HiclError(
            f"{source.cache}: scene {source.scenes[number]} changed while training;"
            " start again with a new --out once preprocessing is done"
        )
    return scene


class _Batches(Dataset):
    """Steps by number. Errors travel as values: a DataLoader would wrap an exception into a traceback."""

    def __init__(self, source: Source, steps: list[tuple[int, list[int]]]):
        self.source, self.steps = source, steps
        self.cache: CacheReader | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> Batch | HiclError:
        try:
            if self.cache is None:
                self.cache = open_cache(self.source.cache)
            return make_batch(self.cache, self.source, *self.steps[step])
        except HiclError as error:
            return error


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)


def batches(source: Source, steps: list[tuple[int, list[int]]], first: int = 0, pin: bool = False) -> Iterator[Batch]:
    """The batches of a run's steps from number `first` on, in order, made ahead by `source.config.workers` processes.

    Raises:
        HiclError: as `make_batch`, at the step that it concerns.
    """
    with compiling(kernels):
        warm_up()
        if source.needs.rows:
            fused.warm_up()
    workers = min(source.config.workers, max(0, len(steps) - first))
    options: dict[str, Any] = {}
    if workers:
        # Spawn: numba and zarr don't survive a fork after threads.
        options = {"multiprocessing_context": "spawn", "prefetch_factor": source.config.prefetch}
    loader = DataLoader(
        _Batches(source, steps),
        batch_size=None,
        sampler=range(first, len(steps)),
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=pin,
        generator=torch.Generator(),  # its own: an objective's draws go on after --resume as if nothing had been
        **options,
    )
    try:
        for batch in loader:
            if isinstance(batch, HiclError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise HiclError(
            f"a process that makes batches died, most likely out of memory: lower stream.workers (now {workers})"
            f" or stream.prefetch (now {source.config.prefetch})"
        ) from error
