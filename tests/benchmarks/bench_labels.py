"""How good labels get: ways to vote, depth gaps, and sets of clouds beside those of meshes. Quality, not speed.

    hicl miniature --scenes 80 --seed 5 --out work/tuning
    hicl preprocess miniature --root work/tuning --split val --out work/tuning-cache
    python tests/benchmarks/bench_labels.py votes|gaps|clouds work/tuning work/tuning-cache [--scenes 20]

Seed 5, as no table is made of its rooms. `gaps` draws each room again, for what its pixels truly show.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from sklearn.metrics import adjusted_rand_score

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.metrics import confusion, scores
from hicl.pipeline import normals, partition, refine, report
from hicl.pipeline.datasets import miniature
from hicl.pipeline.datasets.nyu40 import NYU40_IDS
from hicl.pipeline.miniature import scan
from hicl.pipeline.projection import Projector
from hicl.pipeline.sampling import label_pixels, scores_at
from hicl.pipeline.sight import toward_cameras
from hicl.pipeline.teacher.features import class_scores

SIGMA = 1.425e-3  # of structured light, times depth² (Khoshelham and Oude Elberink, Sensors 12, 2012)
GAPS = {
    "2 cm": (0.02, 0.0),
    "5 cm (the paper)": (0.05, 0.0),
    "10 cm": (0.10, 0.0),
    "20 cm": (0.20, 0.0),
    "5 cm or 3 sigma": (0.05, 3 * SIGMA),
    "2 cm or 3 sigma": (0.02, 3 * SIGMA),
    "5 cm or 6 sigma": (0.05, 6 * SIGMA),
    "5 cm or 9 sigma": (0.05, 9 * SIGMA),
}


@dataclass
class Room:
    """What labels are made of. All but names as in the cache; truth in prompted classes."""

    scene: SceneReader
    truth: np.ndarray
    xyz: np.ndarray
    sets: np.ndarray
    poses: np.ndarray
    indptr: np.ndarray
    point: np.ndarray
    pixel: np.ndarray
    raw: np.ndarray

    @property
    def view(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.poses)), np.diff(self.indptr))

    def views(self, text: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Class scores on each view's patches, and the size of its image."""
        grid, scale, size = (self.scene.read(name) for name in ("features/grid", "features/scale", "views/size"))
        for codes, factor, extent in zip(grid, scale, size, strict=True):
            yield class_scores(codes.copy(), factor.copy(), text), tuple(extent.tolist())


def rooms(cache: CacheReader, most: int) -> Iterator[Room]:
    truth = report.truth_map(cache)
    names = "points/xyz sets/id views/pose pairs/indptr pairs/point pairs/pixel pairs/raw".split()
    for scene_id in cache.scene_ids("val")[:most]:
        scene = cache.scene(scene_id)
        yield Room(scene, truth[scene.read("points/label")], *(scene.read(name).copy() for name in names))


class Table:
    """Rows of mIoU, of vertices that some image shows, and of all of them."""

    def __init__(self, n_classes: int):
        self._n = n_classes
        self._counts: dict[str, list[np.ndarray]] = {}

    def add(self, row: str, truth: np.ndarray, label: np.ndarray, seen: np.ndarray) -> None:
        both = self._counts.setdefault(row, [np.zeros((self._n, self._n + 1), np.int64) for _ in range(2)])
        both[0] += confusion(truth[seen], label[seen], self._n)
        both[1] += confusion(truth, label, self._n)

    def __iter__(self) -> Iterator[tuple[str, float, float]]:
        for row, (seen, every) in self._counts.items():
            yield row, scores(seen)["miou"], scores(every)["miou"]


def votes(cache: CacheReader, _: Path, most: int) -> None:
    """Counts and scores, in an image and over the scene, plain and weighted; over the scene, for all of a set."""
    n = len(cache.classes)
    table = Table(n)
    for room in rooms(cache, most):
        by_view = zip(room.indptr[:-1], room.indptr[1:], room.views(cache.text.copy()), strict=True)
        score = np.concatenate([scores_at(found, room.pixel[a:b], size) for a, b, (found, size) in by_view])
        sight = room.poses[room.view, :3, 3] - room.xyz[room.point]
        distance = np.linalg.norm(sight, axis=1)
        facing = np.abs((sight * room.scene.read("points/normal")[room.point]).sum(axis=1)) / distance
        seen = np.isin(np.arange(len(room.truth)), room.point)
        counts = np.eye(n, dtype=np.float32)[room.raw]
        sharp = np.exp(20 * (score - score.max(axis=1, keepdims=True)))
        sharp /= sharp.sum(axis=1, keepdims=True)
        _, place, size = np.unique(room.sets[room.point] * len(room.poses) + room.view, return_inverse=True,
                                   return_counts=True)  # fmt: skip

        def elected(ballots: np.ndarray, group: np.ndarray, room: Room = room) -> np.ndarray:
            sums = np.zeros((max(group.max(), room.sets.max()) + 1, n))
            np.add.at(sums, group, ballots)
            return refine.elected(sums)

        def seen_only(label: np.ndarray, room: Room = room) -> np.ndarray:
            return refine.majority(label, room.point, len(room.truth))

        table.add("no vote", room.truth, seen_only(room.raw), seen)
        image = refine.vote(room.raw, room.point, room.indptr, room.sets)
        table.add("counts in an image (the paper)", room.truth, seen_only(image), seen)
        table.add("scores in an image", room.truth, seen_only(elected(score, place)[place]), seen)
        for name, ballots, weight in (
            ("counts over the scene", counts, 1),
            ("counts / distance²", counts, distance**-2),
            ("counts x facing", counts, facing),
            ("counts x facing / distance²", counts, facing / distance**2),
            ("counts, one vote an image", counts, 1 / size[place]),
            ("scores over the scene", score, 1),
            ("scores / distance²", score, distance**-2),
            ("scores x facing", score, facing),
            ("scores x facing / distance²", score, facing / distance**2),
            ("scores, one vote an image", score, 1 / size[place]),
            ("softmax of 20 scores", sharp, 1),
        ):
            weighted = ballots * np.broadcast_to(weight, len(ballots))[:, None]
            table.add(name, room.truth, elected(weighted, room.sets[room.point])[room.sets], seen)
    print(f"{'mIoU':<36}{'seen':>7}{'all':>7}")
    for row, seen_miou, all_miou in table:
        print(f"{row:<36}{seen_miou:7.1f}{all_miou:7.1f}")


def true_classes(out: Path, seed: int, index: int) -> list[np.ndarray]:
    """The class, uint8 [H, W], at each pixel of each frame of a room."""
    exact, classes = [], np.full(65536, NO_LABEL, np.uint8)
    classes[list(NYU40_IDS)] = np.arange(len(NYU40_IDS))
    look = scan.look

    def spy(solids, *args):
        view = look(solids, *args)
        exact.append(np.where(view.solid >= 0, classes[solids.label[np.maximum(view.solid, 0)]], NO_LABEL))
        return view

    (out / "scans").mkdir(exist_ok=True)
    with mock.patch.object(scan, "look", spy):
        scan.write_scene(out, seed, index)
    return exact[::2]  # the colour camera's; the depth camera's are between them


def gaps(cache: CacheReader, root: Path, most: int) -> None:
    """Coverage, and how many pairs' pixels truly show their point's class; and what becomes of the teacher's labels."""
    n, text = len(cache.classes), cache.text.copy()
    seed = (miniature.scannet.miniature_settings(root) or {})["seed"]
    sources = {scene.id: scene for scene, _ in miniature.source(root, miniature.Settings()).scenes}
    tables, total = {gap: Table(n) for gap in GAPS}, defaultdict(lambda: np.zeros(4, np.int64))
    for room in rooms(cache, most):
        with tempfile.TemporaryDirectory() as folder:
            exact = true_classes(Path(folder), seed, int(room.scene.id[5:9]))
        source, projector, frames = sources[room.scene.id], Projector(room.xyz), room.scene.read("views/frame").tolist()
        read = [source.frame(frame) for frame in frames]
        views = list(room.views(text))
        for name, gap in GAPS.items():
            pairs = [
                projector.project(frame.pose, frame.depth, source.depth_camera, source.color_camera, *gap)
                for frame in read
            ]
            point = np.concatenate([point for point, _ in pairs])
            indptr = np.cumsum([0, *(len(point) for point, _ in pairs)])
            shown = np.concatenate(
                [exact[frame][tuple(pixel.T.astype(int))] for frame, (_, pixel) in zip(frames, pairs, strict=True)]
            )
            raw, sums = [], np.zeros((room.sets.max() + 1, n))
            for (found, size), (own, pixel) in zip(views, pairs, strict=True):
                raw.append(label_pixels(found, pixel, size))
                refine.add_scores(sums, scores_at(found, pixel, size), own, room.sets)
            known = (shown != NO_LABEL) & (room.truth[point] != NO_LABEL)
            seen = np.isin(np.arange(len(room.truth)), point)
            right = known & (shown == room.truth[point])
            total[name] += [len(seen), seen.sum(), known.sum(), right.sum()]
            voted = refine.vote(np.concatenate(raw), point, indptr, room.sets)
            tables[name].add("refined", room.truth, refine.majority(voted, point, len(seen)), seen)
            tables[name].add("spread", room.truth, refine.elected(sums)[room.sets], seen)
    print(f"{'gap':<20}{'points seen':>12}{'pairs right':>12}   mIoU, seen / all: {'refined':>12}{'spread':>14}")
    for name, (points, seen, known, right) in total.items():
        miou = "".join(f"{a:8.1f}/{b:5.1f}" for _, a, b in tables[name])
        print(f"{name:<20}{100 * seen / points:11.1f}%{100 * right / known:11.2f}%{'':>22}{miou}")


def clouds(cache: CacheReader, root: Path, most: int) -> None:
    """Sets of the meshes' vertices alone beside the meshes': how alike, and what the vote gains by them."""
    sources = {scene.id: scene for scene, _ in miniature.source(root, miniature.Settings()).scenes}
    found = defaultdict(lambda: (Table(len(cache.classes)), [], []))
    for room in rooms(cache, most):
        points = sources[room.scene.id].points()
        faces = normals.unit(normals.mesh_normals(points.xyz, points.faces))
        sight = toward_cameras(room.xyz, room.poses, room.indptr, room.point)
        seen = np.isin(np.arange(len(room.truth)), room.point)
        for name, sets in {
            "mesh": room.sets,
            "cloud, nothing known": partition.cloud_sets(room.xyz),
            "cloud, cameras": partition.cloud_sets(room.xyz, toward=sight),
            "cloud, normals of the faces": partition.cloud_sets(room.xyz, faces),
        }.items():
            table, alike, number = found[name]
            alike.append(adjusted_rand_score(room.sets, sets))
            number.append(sets.max() + 1)
            voted = refine.vote(room.raw, room.point, room.indptr, sets)
            for row, label in (("raw", room.raw), ("refined", voted)):
                table.add(row, room.truth, refine.majority(label, room.point, len(seen)), seen)
            table.add("ceiling", room.truth, refine.set_ceiling(room.truth, sets), seen)
    print(f"{'sets':<30}{'adjusted Rand':>14}{'least':>7}{'sets':>6}{'gain by the vote':>18}{'ceiling, all':>14}")
    for name, (table, alike, number) in found.items():
        (_, raw, _), (_, refined, _), (_, _, ceiling) = table
        print(
            f"{name:<30}{np.mean(alike):14.3f}{min(alike):7.2f}{np.mean(number):6.0f}"
            f"{refined - raw:+18.2f}{ceiling:14.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("votes", "gaps", "clouds"))
    parser.add_argument("root", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--scenes", type=int, default=20)
    given = parser.parse_args()
    {"votes": votes, "gaps": gaps, "clouds": clouds}[given.what](open_cache(given.cache), given.root, given.scenes)


if __name__ == "__main__":
    main()
