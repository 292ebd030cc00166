"""A room's labels on a mesh and on a cloud that are fused from the same frames.

    python tests/benchmarks/bench_surface.py --root work/miniature --rooms 4

The rooms' surfaces are taken away, and fused again; each point has the truth of the nearest vertex of the true surface,
none where that is 5 cm or more away. Scores of the spread labels by the protocol of `hicl report labels`, over all
rooms; of the true surface's vertices the share that has a point within 5 cm, and the accuracy where those without one
count as wrong.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from captures_gone_wrong import of_scene, write

from hicl.cache.opening import open_cache
from hicl.cache.schema import NO_LABEL
from hicl.metrics import confusion, scores
from hicl.pipeline.classes import ClassList
from hicl.pipeline.datasets import nyu40, rgbd, scannet
from hicl.pipeline.run import preprocess

_NEAR = 0.05  # metres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a miniature")
    parser.add_argument("--rooms", type=int, default=4)
    parser.add_argument("--voxel", type=float, default=0.02)
    options = parser.parse_args()
    rooms = [scene for scene, _ in scannet.find_scenes(options.root)[0]][: options.rooms]
    print("surface   points   sets  median  seen     mIoU  accuracy  covered  of all that is there  seconds")
    with tempfile.TemporaryDirectory() as folder:
        captures = Path(folder) / "captures"
        for room in rooms:
            write(replace(of_scene(room), cloud=None), captures / room.id)
        for surface in ("cloud", "mesh"):
            print(_row(surface, options.voxel, rooms, captures, Path(folder) / surface), flush=True)


def _row(surface: str, voxel: float, rooms: list, captures: Path, out: Path) -> str:
    settings = rgbd.Settings(surface=surface, voxel=voxel, clip="hicl-miniature", weights="hicl-miniature")
    source, classes = rgbd.source(captures, settings), ClassList.of(nyu40.CLASSES)
    start = time.perf_counter()
    summary = preprocess(source, out, settings, classes, workers=1, device="cpu", say=lambda _: None)
    seconds, n = time.perf_counter() - start, len(nyu40.CLASSES)
    assert not summary.failed, summary.failed
    cache, matrix, sizes = open_cache(out), np.zeros((n, n + 1), np.int64), []
    points = seen = covered = vertices = right = known = 0
    for room in rooms:
        truth, scene = room.points(), cache.scene(room.id)
        xyz, label = scene.read("points/xyz"), scene.read("points/spread")
        matrix += confusion(_carried(truth.xyz, truth.label, xyz), label, n)
        given, labelled = _carried(xyz, label, truth.xyz), truth.label != NO_LABEL
        right += int((given == truth.label)[labelled].sum())
        known += int(labelled.sum())
        covered += int(np.isfinite(cKDTree(xyz).query(truth.xyz, distance_upper_bound=_NEAR)[0]).sum())
        vertices += len(truth.xyz)
        points += len(xyz)
        sizes += np.bincount(scene.read("sets/id")).tolist()
        seen += len(np.unique(scene.read("pairs/point")))
    found = scores(matrix)
    return (
        f"{surface:7}{points:9,}{len(sizes):7,}{int(np.median(sizes)):8}{seen / points:6.1%}{found['miou']:9.1f}"
        f"{found['accuracy']:9.1f}%{covered / vertices:9.1%}{right / known:23.1%}{seconds:9.0f}"
    )


def _carried(xyz: np.ndarray, label: np.ndarray, to: np.ndarray) -> np.ndarray:
    """The label of the nearest point, none where that is far."""
    distance, nearest = cKDTree(xyz).query(to, distance_upper_bound=_NEAR)
    carried = np.full(len(to), NO_LABEL, np.uint8)
    carried[np.isfinite(distance)] = label[nearest[np.isfinite(distance)]]
    return carried


if __name__ == "__main__":
    main()
