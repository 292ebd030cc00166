"""What a tilt does to a trained network's answer, and what `hicl predict --level` makes of it.

    python tests/benchmarks/bench_level.py --root work/miniature --model results/runs/V-seed0

Each room of the root is tilted by some degrees about a level axis drawn for it, and predicted as it lies and levelled:
mIoU and accuracy by the truth of its vertices. And by how many degrees up was missed, at most.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hicl.clouds import Cloud, write_ply
from hicl.metrics import confusion, scores
from hicl.pipeline.datasets import scannet
from hicl.pipeline.datasets.scene import Points
from hicl.predict import load_model, predict_file
from hicl.train.inference import Model
from hicl.upright import Surfaces, degrees

ANGLES = (0, 2, 5, 10, 20, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a miniature")
    parser.add_argument("--model", type=Path, required=True, help="a trained run")
    options = parser.parse_args()
    model = load_model(options.model, "cpu")
    rooms = [scene.points() for scene, _ in scannet.find_scenes(options.root)[0]]
    print("tilt    as it lies             levelled               up missed by")
    with tempfile.TemporaryDirectory() as folder:
        for angle in ANGLES:
            print(f"{angle:3d}°    {_row(angle, rooms, model, Path(folder))}", flush=True)


def _row(angle: float, rooms: list[Points], model: Model, folder: Path) -> str:
    n, missed = len(model.classes), 0.0
    found = {level: np.zeros((n, n + 1), np.int64) for level in (False, True)}
    for number, room in enumerate(rooms):
        way = np.random.default_rng(number).uniform(0, 2 * np.pi)
        turn = Rotation.from_rotvec(np.radians(angle) * np.array([np.cos(way), np.sin(way), 0])).as_matrix()
        xyz = (room.xyz @ turn.T).astype(np.float32)
        up = Surfaces.of(xyz).up
        missed = max(missed, 180.0 if up is None else degrees(up, turn[:, 2]))
        write_ply(folder / "scan.ply", Cloud(xyz, room.rgb, room.faces))
        for level, matrix in found.items():
            predict_file(folder / "scan.ply", model, folder / "out.ply", level=level)
            matrix += confusion(room.label, np.load(folder / "out.npz")["label"], n)
    told = [f"mIoU {score['miou']:.1f}, {score['accuracy']:.1f} %" for score in map(scores, found.values())]
    return f"{told[0]:23}{told[1]:23}{missed:.1f}°"


if __name__ == "__main__":
    main()
