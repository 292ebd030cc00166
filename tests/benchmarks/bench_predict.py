"""Time and memory of `hicl predict` on a large cloud: made-up rooms in a grid, the published network, random weights.

    python tests/benchmarks/bench_predict.py --points 5000000

The answer is checked before the clock: on the first rooms, in boxes and in one piece, the classes are the same.
"""

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from synthetic_rooms import CLASSES, room, text_embedding

from hicl.clouds import Cloud, write_ply
from hicl.predict import load_model, predict_file
from hicl.train import checkpoint, inference, network
from hicl.train.config import load
from hicl.train.kernels import voxelise

POINTS_A_ROOM, PITCH = 125_000, 4.0  # metres


def building(points: int) -> Cloud:
    """Rooms on a square grid, 1.5 cm between points."""
    rng = np.random.default_rng(0)
    rooms = max(1, points // POINTS_A_ROOM)
    across = int(np.ceil(np.sqrt(rooms)))
    parts = [
        room(rng, POINTS_A_ROOM)[0] + np.float32([PITCH * (i % across), PITCH * (i // across), 0]) for i in range(rooms)
    ]
    xyz = np.concatenate(parts)
    return Cloud(xyz, rng.integers(0, 256, (len(xyz), 3)).astype(np.uint8))


def save_model(folder: Path, preset: str, width: int) -> None:
    torch.manual_seed(0)
    config = load(preset)
    net = network.build(config, width, torch.device("cpu"))
    text = torch.from_numpy(text_embedding(width))
    meta = {"classes": list(CLASSES), "config": dataclasses.asdict(config), "teacher": None}
    checkpoint.save_model(folder, net, text, meta)


def peak() -> float:
    """Most memory that this process has held so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--preset", default="scannet")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--boxes", type=int, default=inference.BOX_VOXELS, help="most voxels in a box with its halo")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_model(folder, args.preset, args.width)
        model = load_model(folder, "cpu")

        few = building(4 * POINTS_A_ROOM)
        whole = model.predict(few.xyz, few.rgb).label
        model.box_voxels = 60_000
        pieces = model.predict(few.xyz, few.rgb).label
        same = 100 * (whole == pieces).mean()
        print(f"{len(few.xyz):,} points in one piece and in boxes: {same:.4f} % the same classes")
        model.box_voxels = args.boxes

        cloud = building(args.points)
        coords = voxelise(cloud.xyz, model.voxel_size)[0]
        sizes = [len(rows) for rows, _, _ in inference.boxes(coords, model.box_voxels, model.net.REACH)]
        write_ply(folder / "scan.ply", cloud)
        print(f"{len(cloud.xyz):,} points, {len(coords):,} voxels, {len(sizes)} boxes of up to {max(sizes):,}")
        del cloud, coords
        for pool in ("none", "sets"):
            before, start = peak(), time.perf_counter()
            told = predict_file(folder / "scan.ply", model, folder / "out.ply", pool=pool).splitlines()[0]
            seconds = time.perf_counter() - start
            print(
                f"--pool {pool}: {seconds:.1f} s on {torch.get_num_threads()} threads, file to file;"
                f" {peak():.2f} GB at most ({before:.2f} GB before){told.split(':', 1)[1][:60]} …"
            )


if __name__ == "__main__":
    main()
