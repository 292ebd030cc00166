"""Bytes of a cache of ScanNet's size, how fast training reads it, and what 8-bit features change.

    python tests/benchmarks/bench_bytes.py [--rooms 4]

Rooms of the miniature, meshed to about ScanNet's 148,000 vertices and walked through with 16 frames (24,902 frames of
1,513 scans), go through `hicl preprocess`'s own stages. The labels are those of the miniature's teacher; as no other
weights are at hand, its features are turned into ViT-B/16's 15 x 20 patches of 512 by interpolation and a random
rotation, for their bytes only. Bytes are scaled to 1,513 scans.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from rooms import COLOR, DEPTH, Room, attributes, scannet_sized

from hicl.cache.reader import SceneReader
from hicl.cache.store import Folder
from hicl.cache.writer import write_arrays
from hicl.pipeline import partition, refine, sampling, stages
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scannet import CLASSES
from hicl.pipeline.datasets.scene import Points
from hicl.pipeline.projection import Projector
from hicl.pipeline.teacher.choice import MINIATURE, TeacherConfig
from hicl.pipeline.teacher.clip import Teacher, quantise
from hicl.processes import pool

SCANS, FRAMES = 1513, 16
BITS = (16, 8, 6, 4)
TRAINING = ("points/xyz", "points/rgb", "sets/id", "pairs/indptr", "pairs/point", "pairs/refined")
PATCHES, WIDTH = (15, 20), 512


def scene_arrays(room: Room, teacher: Teacher, text: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(all arrays of a scene as `hicl preprocess` makes them, the teacher's features float32 [F, h, w, d])."""
    label = (room.label % 20).astype(np.uint8)
    arrays = stages.make_points(Points(room.xyz, room.rgb, room.faces, label))
    arrays["sets/id"] = partition.mesh_sets(room.xyz, room.faces)
    projector = Projector(room.xyz)
    pairs = [projector.project(*view, DEPTH, COLOR) for view in zip(room.poses, room.depth, strict=True)]
    arrays |= stages.make_views(list(enumerate(room.poses)), [COLOR] * len(room.poses), pairs)
    grid = teacher.encode_images(list(room.color))
    arrays["features/grid"], arrays["features/scale"] = quantise(torch.from_numpy(grid))
    raw, votes = stages.label_from_features(text, arrays, PreprocessConfig())
    return arrays | stages.make_labels(raw, votes, arrays, PreprocessConfig()), grid


def as_published(grid: np.ndarray) -> dict[str, np.ndarray]:
    """Features of the published teacher's size."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, grid.shape[-1])))
    pixel = np.stack(np.mgrid[: PATCHES[0], : PATCHES[1]], axis=-1).reshape(-1, 2).astype(np.uint16)
    finer = [sampling.scores_at(view, pixel, PATCHES).reshape(*PATCHES, -1) for view in grid]
    wide = np.stack(finer) @ turn.T.astype(np.float32)
    codes, scale = quantise(torch.from_numpy(wide / np.linalg.norm(wide, axis=-1, keepdims=True)))
    return {"features/grid": codes, "features/scale": scale}


def rounded(grid: np.ndarray, bits: int) -> np.ndarray:
    """The features as a cache of so many bits would give them back."""
    if bits == 16:
        return grid.astype(np.float16).astype(np.float32)
    steps = 2 ** (bits - 1) - 1
    scale = np.abs(grid).max(axis=-1, keepdims=True) / steps
    return np.rint(grid / scale) * scale


def changed_labels(arrays: dict, grid: np.ndarray, text: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """How many pairs have another label, raw and voted, with other features than those that the teacher gave."""

    def labels(seen: np.ndarray) -> np.ndarray:
        indptr, pixel = arrays["pairs/indptr"], arrays["pairs/pixel"]
        views = zip(seen @ text.T, indptr[:-1], indptr[1:], strict=True)
        size = (COLOR.height, COLOR.width)
        return np.concatenate([sampling.label_pixels(scores, pixel[a:b], size) for scores, a, b in views])

    ballots = arrays["pairs/point"], arrays["pairs/indptr"], arrays["sets/id"]
    before, after = labels(grid), labels(other)
    return int((before != after).sum()), int((refine.vote(before, *ballots) != refine.vote(after, *ballots)).sum())


def read_cache(folder: Path) -> int:
    scene = SceneReader(folder)
    return sum(int(scene.read(name).view(np.uint8)[..., -1].sum()) for name in TRAINING)


def read_npy(folder: Path) -> int:
    return sum(int(np.load(folder / f"{i}.npy").view(np.uint8)[..., -1].sum()) for i in range(len(TRAINING)))


def forget(folder: Path) -> None:
    """Have the system give up what it holds in memory of a folder's files."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def write_npy(arrays: dict[str, np.ndarray], folder: Path, names: tuple[str, ...] = TRAINING) -> None:
    """What training reads, a file an array."""
    folder.mkdir()
    for i, name in enumerate(names):
        np.save(folder / f"{i}.npy", arrays[name])


def timed(read: Callable[[Path], int], folders: list[Path], cold: bool) -> float:
    """Milliseconds a scene; cold: what the system holds of the files is given up first."""
    times = []
    for folder in folders * 5:
        if cold:
            forget(folder)
        start = time.perf_counter()
        read(folder)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[len(folders) :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=4)
    options = parser.parse_args()
    teacher = Teacher(TeacherConfig(MINIATURE, MINIATURE))
    text = teacher.encode_classes(ClassList.of(CLASSES))
    sizes: dict[str, int] = {}
    in_bf16 = Teacher(TeacherConfig(MINIATURE, MINIATURE), bf16=True)
    changed = {name: np.zeros(2, int) for name in (*(f"{bits} bits stored" for bits in BITS), "a teacher in bf16")}
    points = pairs = 0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        scenes, plain = [], []
        for index in range(options.rooms):
            room = scannet_sized(FRAMES, seed=3, index=index, cell=0.0213)
            arrays, grid = scene_arrays(room, teacher, text)
            others = [rounded(grid, bits) for bits in BITS] + [in_bf16.encode_images(list(room.color))]
            for total, other in zip(changed.values(), others, strict=True):
                total += changed_labels(arrays, grid, text, other)
            arrays |= as_published(grid)
            points, pairs = points + len(room.xyz), pairs + len(arrays["pairs/point"])
            scenes.append(Path(folder) / f"scene{index}")
            write_arrays(scenes[-1], arrays, attributes(arrays))
            plain.append(Path(folder) / f"plain{index}")
            write_npy(arrays, plain[-1])
            for name, array in arrays.items():
                packed, whole = sizes.get(name, (0, 0))
                sizes[name] = packed + Folder(scenes[-1]).size(name), whole + array.nbytes
        rooms = options.rooms
        print(f"a scan: {points // rooms:,} points, {FRAMES} frames, {pairs // rooms // FRAMES:,} pairs a frame")
        print(f"{'array':<18}{'kB a scan':>10}{'of its bytes':>14}{'GB of ' + format(SCANS, ',') + ' scans':>20}")
        for name, (packed, whole) in sorted(sizes.items(), key=lambda item: -item[1][0]):
            print(
                f"{name:<18}{packed / rooms / 1e3:>10.0f}{packed / whole:>14.0%}{packed / rooms * SCANS / 1e9:>20.2f}"
            )
        for what, names in (("training reads", (*TRAINING, "pairs/raw")), ("everything", sizes)):
            total = sum(sizes[name][0] for name in names) / rooms * SCANS / 1e9
            print(f"{what:<18}{'':>24}{total:>20.2f}")
        print(f"\n{'labels of the miniature teacher changed by':<48}{'raw':>8}{'voted':>8}")
        for name, total in changed.items():
            print(f"{name:<48}{total[0] / pairs:>8.3%}{total[1] / pairs:>8.3%}")
        print(f"\n{'ms a scene, of what a step of training reads':<48}{'warm':>8}{'cold':>8}")
        with pool(1) as worker:
            for name, read, folders in (("raw .npy files", read_npy, plain), ("the cache", read_cache, scenes)):
                warm, cold = (worker.submit(timed, read, folders, cold).result() for cold in (False, True))
                print(f"{name:<48}{warm:>8.2f}{cold:>8.2f}")


if __name__ == "__main__":
    main()
