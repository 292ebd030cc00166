"""Bytes of a key frame in a group of 40, and how fast training reads one, beside `.npy` files of the same arrays.

    python tests/benchmarks/bench_items.py [--items 40]

The key frames are made up after nuScenes': 1,084 columns of 32 rings, a quarter of the points the car's own, ground,
walls and boxes with 2 cm of noise, turned to the ego frame and rounded to 1/1024 m; six cameras of 1600 x 900 see some
25,000 of them. Sets and labels are those of the surfaces hit, a tenth of the raw labels wrong. Features are left out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from bench_bytes import timed, write_npy

from hicl.cache.opening import open_cache
from hicl.cache.schema import STAGES
from hicl.cache.writer import CacheWriter, staging
from hicl.processes import pool

COLUMNS, RINGS, SENSOR = 1084, 32, np.array([0.94, 0.0, 1.84])
TRAINING = ("points/xyz", "points/intensity", "points/valid", "sets/id", "pairs/indptr", "pairs/point", "pairs/refined")
CLASSES = tuple(f"class {index}" for index in range(16))


def key_frame(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All arrays of a key frame but the features."""
    direction = _directions(rng)
    distance, surface = _cast(rng, direction)
    hit = np.isfinite(distance)
    own = ~hit | (rng.random(len(hit)) < 0.13)
    xyz = direction * np.where(hit, distance + rng.normal(0, 0.02, len(hit)), 0)[:, None]
    xyz[own] = rng.normal(0, 0.4, (own.sum(), 3))
    xyz += SENSOR
    found = {
        "points/xyz": (np.rint(xyz * 1024) / 1024).astype("<f4"),
        "points/intensity": np.clip(rng.normal(10 + 15 * (surface % 4), 5 + surface % 5), 0, 255).astype("u1"),
        "points/label": np.where(own, 255, surface % 16).astype("u1"),
        "points/valid": (~own).astype("u1"),
    }
    cell = (surface * 64 + np.floor(xyz[:, 0] / 8) % 64) * 64 + np.floor(xyz[:, 1] / 8) % 64
    found["sets/id"] = np.unique(np.where(own, 1e9, cell), return_inverse=True)[1].astype("<i4")
    found |= _views(xyz, own)
    truth = found["points/label"][found["pairs/point"]]
    wrong = rng.random(len(truth)) < 0.1
    found["pairs/raw"] = np.where(wrong, rng.integers(0, 16, len(truth)), truth).astype("u1")
    found["pairs/refined"] = truth
    found["points/spread"] = np.where(own, 255, found["points/label"]).astype("u1")
    return found


def _directions(rng: np.random.Generator) -> np.ndarray:
    azimuth = -np.deg2rad(0.33) * np.arange(COLUMNS) + rng.normal(0, 1e-4, COLUMNS)
    elevation = np.deg2rad(np.linspace(-30.67, 10.67, RINGS))
    flat = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)[:, None] * np.cos(elevation)[None, :, None]
    up = np.broadcast_to(np.sin(elevation)[None, :, None], (COLUMNS, RINGS, 1))
    return np.concatenate([flat, up], axis=-1).reshape(-1, 3)


def _cast(rng: np.random.Generator, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(metres to the first surface [N], inf for none; its number [N])."""
    distance, surface = np.full(len(direction), np.inf), np.zeros(len(direction), int)

    def meet(at: np.ndarray, number: int) -> None:
        nearer = (at > 0.5) & (at < np.minimum(distance, 90))
        distance[nearer], surface[nearer] = at[nearer], number

    with np.errstate(divide="ignore", invalid="ignore"):
        meet(-SENSOR[2] / direction[:, 2], 10)
        for side, number in ((-12, 14), (14, 15)):
            at = side / direction[:, 1]
            meet(np.where(at * direction[:, 2] < 8, at, np.inf), number)
        for number in range(80):
            middle = np.array([rng.uniform(-60, 60), rng.uniform(-11, 13), -1.0])
            half = rng.uniform((0.2, 0.2, 0.4), (2.4, 1.2, 0.9))
            if abs(middle[1]) < 2.5:
                continue
            low, high = (middle - half) / direction, (middle + half) / direction
            enter, leave = np.minimum(low, high).max(axis=1), np.maximum(low, high).min(axis=1)
            meet(np.where(enter < leave, enter, np.inf), number)
    return distance, surface


def _views(xyz: np.ndarray, own: np.ndarray) -> dict[str, np.ndarray]:
    points, pixels = [], []
    for camera in range(6):
        turn, focal = np.deg2rad(60 * camera), 809 if camera == 3 else 1266
        ahead = xyz[:, 0] * np.cos(turn) + xyz[:, 1] * np.sin(turn)
        left = xyz[:, 1] * np.cos(turn) - xyz[:, 0] * np.sin(turn)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixel = np.stack([450 - focal * (xyz[:, 2] - 1.5) / ahead, 800 - focal * left / ahead], axis=-1)
        inside = ((pixel > 1) & (pixel < (899, 1599))).all(axis=1)
        seen = np.flatnonzero(inside & (ahead > 1) & ~own)
        points.append(seen)
        pixels.append(np.rint(pixel[seen]))
    return {
        "views/frame": np.arange(6, dtype="<i4"),
        "views/pose": np.tile(np.eye(4), (6, 1, 1)),
        "views/intrinsics": np.tile([1266.0, 1266.0, 800.0, 450.0], (6, 1)),
        "views/size": np.tile(np.array([900, 1600], "<i4"), (6, 1)),
        "pairs/indptr": np.cumsum([0, *map(len, points)]).astype("<i8"),
        "pairs/point": np.concatenate(points).astype("<i4"),
        "pairs/pixel": np.concatenate(pixels).astype("<u2"),
    }


def write(path: Path, frames: list[dict[str, np.ndarray]]) -> None:
    stages = dict.fromkeys((*STAGES, "text"), "benchmark")
    names = [f"CAM_{index}" for index in range(6)]
    with CacheWriter(path, "nuscenes", grouped=True) as writer:
        about = {"truth_classes": list(CLASSES), "teacher": None}
        writer.set_text(CLASSES, np.eye(16, dtype=np.float32), "benchmark", about)
        with staging(path) as stage:
            items = [(frame, {"token": f"{index:032x}", "frame_names": names}) for index, frame in enumerate(frames)]
            writer.publish("drive", stage.build_group("drive", items, {"stages": stages, "split": "train"}, []))
        writer.write_manifest({"drive": ("train", "")})


def read_cache(place: Path) -> int:
    """place: the cache and, as a name in it, the scene."""
    cache = _opened(place.parent)
    scene = cache.scene(place.name)
    return sum(int(scene.read(name).view(np.uint8)[..., -1].sum()) for name in TRAINING)


_caches: dict = {}


def _opened(path: Path):
    if path not in _caches:
        _caches[path] = open_cache(path)
    return _caches[path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=40)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    frames = [key_frame(rng) for _ in range(options.items)]
    n = len(frames[0]["points/xyz"])
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path, plain = Path(folder) / "cache", [Path(folder) / f"{index}" for index in range(options.items)]
        write(path, frames)
        for place, frame in zip(plain, frames, strict=True):
            write_npy(frame, place, TRAINING)
        files = [file for file in (path / "scenes").rglob("*") if file.is_file()]
        pairs = np.mean([len(frame["pairs/point"]) for frame in frames])
        print(f"a key frame: {n:,} points, {pairs:,.0f} pairs, {len(files) / options.items:.2f} files")
        print(f"{'array':<18}{'kB a key frame':>16}{'of its bytes':>14}")
        for name, array in frames[0].items():
            size = sum(f.stat().st_size for f in (path / "scenes/drive" / name).rglob("*") if f.is_file())
            print(f"{name:<18}{size / options.items / 1e3:>16.1f}{size / options.items / array.nbytes:>14.0%}")
        total = sum(file.stat().st_size for file in files) / options.items
        print(f"{'all':<18}{total / 1e3:>16.1f}, {total / (20 * n):.2f} of its .pcd.bin")
        scenes = [path / f"drive.{index:03d}" for index in range(options.items)]
        for scene, frame in zip(scenes, frames, strict=True):  # checked before the clock
            for name in frame:
                np.testing.assert_array_equal(open_cache(path).scene(scene.name).read(name), frame[name])
        print(f"\n{'ms a key frame, of what a step of training reads':<52}{'warm':>8}{'times':>8}")
        with pool(1) as worker:
            rounds = [
                [worker.submit(timed, read, places, False).result() for read, places in
                 ((read_npy, plain), (read_cache, scenes))]
                for _ in range(5)
            ]  # fmt: skip
        npy, ours = np.median(rounds, axis=0)
        ratio = np.median([b / a for a, b in rounds])
        print(f"{'raw .npy files':<52}{npy:>8.2f}{1:>8.2f}\n{'the cache':<52}{ours:>8.2f}{ratio:>8.2f}")


def read_npy(folder: Path) -> int:
    return sum(int(np.load(folder / f"{i}.npy").view(np.uint8)[..., -1].sum()) for i in range(len(TRAINING)))


if __name__ == "__main__":
    main()
