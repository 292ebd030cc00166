"""Time and memory of fused features on a room of ScanNet's size, beside OpenScene's way in the same run, on one core.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_fusion.py

On the first frames, which OpenScene's way is timed on, all points must have the same features.
"""

import argparse
import tempfile
import time

import numpy as np
import torch
from bench_predict import peak
from bench_stages import GRID, WIDTH, pairs_of
from rooms import COLOR, scannet_sized, smooth_grids
from table import best_ms

from hicl.pipeline.teacher.clip import quantise
from hicl.processes import pool
from hicl.train import fused


def densely(patches: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]], n_points: int) -> np.ndarray:
    """Sums [N, d] as OpenScene has them (`scripts/feature_fusion/scannet_openseg.py:74-109`): of each image a map of
    features as large as the image, of which every point takes a row; those that the image shows add it up."""
    total, count = torch.zeros(n_points, patches.shape[3]), torch.zeros(n_points, 1)
    size = (COLOR.height, COLOR.width)
    for view, (point, pixel) in zip(patches, pairs, strict=True):
        features = torch.from_numpy(view).permute(2, 0, 1)[None]
        full = torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)[0]
        mapping = torch.zeros(n_points, 3, dtype=torch.int64)
        mapping[point, :2] = torch.from_numpy(pixel.astype(np.int64))
        mapping[point, 2] = 1
        rows, shown = full[:, mapping[:, 0], mapping[:, 1]].permute(1, 0), mapping[:, 2] != 0
        count[shown] += 1
        total[shown] += rows[shown]
    return total.numpy()


def fuse(scene: dict[str, np.ndarray]) -> np.ndarray:
    return fused.owned_sums(**scene | {"n_owners": int(scene["n_owners"])})


def held(file: str) -> float:
    """Most memory, GB, of a process that does nothing but read a scene and fuse it."""
    fuse(dict(np.load(file)))
    return peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--plain-frames", type=int, default=10, help="of which OpenScene's way is timed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    room, rng = scannet_sized(args.frames), np.random.default_rng(0)
    pairs, n_points = pairs_of(room), len(room.xyz)
    codes, scale = quantise(torch.from_numpy(smooth_grids(len(pairs), GRID, WIDTH, rng)))
    size = np.tile(np.int32([COLOR.height, COLOR.width]), (len(pairs), 1))

    def first(views: int) -> dict[str, np.ndarray]:
        chosen = pairs[:views]
        point, pixel = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
        view = np.repeat(np.arange(views, dtype=np.int32), [len(point) for point, _ in chosen])
        scene = {"grid": codes[:views], "scale": scale[:views], "size": size[:views], "view": view}
        return scene | {"pixel": pixel, "owner": point, "n_owners": np.array(n_points)}

    few, scene = min(args.plain_frames, args.frames), first(args.frames)
    seconds = best_ms(lambda: fuse(scene), 3) / 1000
    with tempfile.TemporaryDirectory() as folder, pool(1) as alone:
        np.savez(f"{folder}/scene.npz", **scene)
        memory = alone.submit(held, f"{folder}/scene.npz").result()
    patches = codes[:few] * scale[:few, ..., None]
    begin = time.perf_counter()
    wanted = densely(patches, pairs[:few], n_points)
    slow = (time.perf_counter() - begin) * args.frames / few
    assert np.abs(fuse(first(few)) - wanted).max() < 1e-4, "fused features: differ"
    n_pairs = sum(len(point) for point, _ in pairs)
    print(
        f"{n_points:,} points, {args.frames} frames, {n_pairs:,} pairs, {WIDTH}-d: {seconds:.2f} s, {memory:.2f} GB"
        f" with all that a process holds; OpenScene's way {slow:.0f} s (from {few} frames), {slow / seconds:.0f} times"
    )


if __name__ == "__main__":
    main()
