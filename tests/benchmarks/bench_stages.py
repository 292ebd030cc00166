"""Every stage on one scene of ScanNet's size, beside what people use instead and what the machine allows.

    python tests/benchmarks/bench_stages.py [--runs 5] [--only sets,pairs,…] [--segmentator PROGRAM]

Before a stage's clock starts, its result is compared with its peer's. A time is the best of several runs after one
that compiles. Both run in one thread, on one core. "limit" is the least the stage could take here: its bytes at the
measured speed of memory, its arithmetic at the measured speed of a matrix product, or the library that does the
unavoidable part.
"""

import argparse
import io
import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import instead
import reference
from bench_bytes import TRAINING, forget, read_cache, read_npy, write_npy
from rooms import COLOR, DEPTH, Room, attributes, scannet_sized, smooth_grids, write_ply, write_recording
from table import HEAD, Machine, Stage, best_ms, print_stage

from hicl.cache.reader import SceneReader
from hicl.cache.writer import write_arrays
from hicl.pipeline import normals, partition, refine, sampling
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.sens import SensFile
from hicl.pipeline.projection import Projector
from hicl.pipeline.teacher import features
from hicl.processes import keep_freed_memory
from hicl.train.kernels import voxel_means, voxelise

CLASSES, WIDTH, GRID = 20, 512, (15, 20)
SCANNET_FRAMES, IMAGES = 24_902, 8  # of scannet_frames_25k; read by the teacher at a time


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(partition.compact_ids(a), partition.compact_ids(b))


def sets(room: Room, machine: Machine, folder: Path, segmentators: list[Path]) -> Iterator[Stage]:
    mesh, out, found = folder / "room_vh_clean_2.ply", folder / "sets.npy", folder / "sets.json"
    write_ply(room, mesh)

    def ours() -> None:
        vertex, faces = ply.read_ply(mesh)
        np.save(out, partition.mesh_sets(ply.xyz(vertex, mesh), faces))

    peers = instead.segment_in_c(folder, mesh, found, segmentators)
    ours()
    peers["C, -O3"][0]()
    theirs = np.array(json.loads(found.read_text())["segIndices"])
    assert same_partition(np.load(out), theirs), "sets: not the Segmentator's partition"
    on = f"{len(room.xyz):,} vertices, {len(room.faces):,} faces, file to file"
    yield Stage("mesh to sets", on, ours, peers, machine.moving(room.xyz, room.rgb, room.faces, theirs.astype("i4")))


def pairs_of(room: Room) -> list[tuple[np.ndarray, np.ndarray]]:
    projector = Projector(room.xyz)
    return [projector.project(pose, depth, DEPTH, COLOR) for pose, depth in zip(room.poses, room.depth, strict=True)]


def pairs(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    def theirs() -> list:
        views = zip(room.poses, room.depth, strict=True)
        return [reference.project(room.xyz, pose, depth, DEPTH, COLOR) for pose, depth in views]

    found = pairs_of(room)
    for (point, pixel), (other_point, other_pixel) in zip(found, theirs(), strict=True):
        assert np.array_equal(point, other_point) and np.array_equal(pixel, other_pixel), "pairs: others than NumPy's"
    total = sum(len(point) for point, _ in found)
    on = f"{len(room.poses)} frames 320x240, {total:,} pairs"
    # A point has to be turned and divided twice, if only those that are seen.
    limit = machine.multiplying(total * 24.0)
    yield Stage("points to pixels", on, lambda: pairs_of(room), {"NumPy": (theirs, 1)}, limit)


def scores(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    import torch

    from hicl.pipeline.teacher.clip import quantise

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = [pixel for _, pixel in pairs_of(room)]
    grids = smooth_grids(len(pixels), GRID, WIDTH, rng)
    text = rng.standard_normal((CLASSES, WIDTH)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    codes, scale = quantise(torch.from_numpy(grids))
    size = (COLOR.height, COLOR.width)

    def ours() -> list[np.ndarray]:
        views = zip(codes, scale, pixels, strict=True)
        return [sampling.label_pixels(features.class_scores(c, s, text), pixel, size) for c, s, pixel in views]

    def dense(view: int) -> np.ndarray:
        return instead.score_densely(codes[view] * scale[view][..., None], pixels[view], size, text)

    found = ours()
    for view in range(2):
        wanted = dense(view)
        patches = features.class_scores(codes[view], scale[view], text)
        assert np.abs(sampling.scores_at(patches, pixels[view], size) - wanted).max() < 1e-5, "scores: differ"
        top = np.sort(wanted, axis=1)
        decided = top[:, -1] - top[:, -2] > 1e-5
        assert np.array_equal(found[view][decided], wanted.argmax(axis=1)[decided]), "labels: differ"
    total = sum(map(len, pixels))
    flops = 2.0 * codes.size * CLASSES + 7.0 * total * CLASSES
    on = f"{len(pixels)} frames, {total:,} pairs, {CLASSES} classes of {WIDTH}-d"
    peers = {"dense, torch": (lambda: [dense(view) for view in range(4)], len(pixels) / 4)}
    yield Stage("labels at the points", on, ours, peers, machine.multiplying(flops))


def clouds(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    def ours() -> tuple:
        index, distance = normals.neighbors(room.xyz, 16)
        return index, distance, normals.pca_normals(room.xyz, index)

    index, distance, normal = ours()
    other_index, other_distance, other_normal = instead.scipy_normals(room.xyz)
    assert np.allclose(distance, other_distance, rtol=1e-6, atol=0), "kNN: other distances than SciPy's"
    same = (np.sort(index, axis=1) == np.sort(other_index, axis=1)).all(axis=1)
    assert same.mean() > 0.999, "kNN: others than SciPy's, beyond ties"
    along = np.abs((normal * other_normal).sum(axis=1))[same]
    assert (along > 1 - 1e-5).mean() > 0.9999, "normals: others than eigh's"
    peers = {"SciPy, eigh": (lambda: instead.scipy_normals(room.xyz), 1)}
    open3d = instead.open3d_normals(room.xyz)
    if open3d:
        peers["Open3D"] = (open3d, 1)
    limit = machine.moving(room.xyz, index, distance, normal)
    yield Stage("kNN (16) + normals", f"{len(room.xyz):,} points", ours, peers, limit)


def voxels(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    import torch

    warnings.filterwarnings("ignore", category=FutureWarning)  # spconv's, of what it uses of PyTorch
    from spconv.pytorch.utils import PointToVoxel

    values = np.concatenate([room.xyz, room.rgb.astype(np.float32)], axis=1)

    def ours() -> tuple:
        coords, _, voxel_of_point = voxelise(room.xyz, 0.02)
        return coords, voxel_means(values, voxel_of_point, len(coords))

    low, high = room.xyz.min(axis=0), room.xyz.max(axis=0)
    made = PointToVoxel([0.02] * 3, [*low.tolist(), *(high + 0.02).tolist()], 6, len(values), 16)
    tensor = torch.from_numpy(values)
    coords, means = ours()
    by_unique = partial(instead.voxels_by_unique, room.xyz, values, 0.02)
    others, other_means = by_unique()
    order = np.lexsort(coords.T[::-1])
    assert np.array_equal(coords[order], others), "voxels: others than np.unique's"
    assert np.allclose(means[order], other_means, rtol=1e-4), "means: others"
    peers = {"np.unique": (by_unique, 1), "spconv, no means": (lambda: made(tensor), 1)}
    on = f"{len(values):,} points, {len(coords):,} voxels of 2 cm"
    yield Stage("voxels + means", on, ours, peers, machine.moving(values, coords, means))


def votes(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    rng = np.random.default_rng(0)
    set_id = partition.mesh_sets(room.xyz, room.faces)
    n_sets = int(set_id.max()) + 1
    every, whole = np.arange(len(set_id), dtype=np.int32), np.array([0, len(set_id)])
    point = np.concatenate([point for point, _ in pairs_of(room)])
    indptr = np.cumsum([0, *(len(point) for point, _ in pairs_of(room))])
    for name, ballot in (("vote, a label a point", (every, whole)), ("vote, image by image", (point, indptr))):
        points, bounds = ballot
        labels = rng.integers(0, CLASSES, len(points)).astype(np.uint8)

        def ours(labels=labels, points=points, bounds=bounds):
            return refine.vote(labels, points, bounds, set_id)

        def theirs(add_at, labels=labels, points=points, bounds=bounds):
            views = [(labels[a:b].astype(int), set_id[points[a:b]]) for a, b in itertools.pairwise(bounds)]
            return np.concatenate([instead.vote_in_table(*view, (n_sets, CLASSES), add_at) for view in views])

        assert np.array_equal(ours(), theirs(True)) and np.array_equal(ours(), theirs(False)), "votes: others"
        peers = {"bincount": (lambda t=theirs: t(False), 1), "add.at": (lambda t=theirs: t(True), 1)}
        on = f"{len(labels):,} labels, {n_sets:,} sets, {len(bounds) - 1} images"
        yield Stage(name, on, ours, peers, machine.moving(labels, points, set_id, labels))


def recordings(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    path, count, step = folder / "room.sens", 200, 20
    images = write_recording(room, path, count)

    def ours() -> list:
        recording = SensFile(path)
        return [(recording.color(i), recording.depth(i)) for i in range(0, len(recording), step)]

    for (image, measured), (other_image, other) in zip(ours(), instead.read_official(path, step), strict=True):
        assert np.array_equal(image, other_image) and np.allclose(1000 * measured, other, atol=1e-3), ".sens: differ"
    chosen = images[::step]
    library = best_ms(lambda: [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in chosen], 3)
    on = f"{count} frames 1296x968, {path.stat().st_size / 1e6:.0f} MB, every {step}th"
    limit = ("JPEGs by Pillow alone", library)
    peers = {"official": (lambda: instead.read_official(path, step), 1)}
    yield Stage(".sens, index and decode", on, ours, peers, limit)


def reads(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    """16 frames of the room, as of a scan in scannet_frames_25k, in this process; by workers in `bench_bytes.py`."""
    pairs = pairs_of(room)[:16]
    point = np.concatenate([point for point, _ in pairs])
    set_id = partition.mesh_sets(room.xyz, room.faces)
    labels = (set_id[point] % CLASSES).astype(np.uint8)
    arrays = {"points/xyz": room.xyz, "points/rgb": room.rgb, "sets/id": set_id, "pairs/point": point}
    arrays |= {"pairs/indptr": np.cumsum([0, *(len(point) for point, _ in pairs)]), "pairs/refined": labels}
    cache, plain = folder / "scene", folder / "plain"
    write_arrays(cache, arrays, attributes(arrays))
    write_npy(arrays, plain)
    for name in TRAINING:
        assert np.array_equal(SceneReader(cache).read(name), arrays[name]), "cache: other arrays"
    on, limit = f"{len(room.xyz):,} points, {len(point):,} pairs", machine.moving(*arrays.values())
    ours, peers = (lambda: read_cache(cache)), {".npy": (lambda: read_npy(plain), 1)}
    yield Stage("training reads", on, ours, peers, limit)
    yield Stage("training reads, cold", on, ours, peers, limit, lambda: forget(folder))


def teachers(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    """ViT-B/16 with random weights: the time doesn't depend on them."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from hicl.pipeline.teacher.choice import TeacherConfig
    from hicl.pipeline.teacher.clip import Teacher

    torch.set_num_threads(1)
    name, count, side = "ViT-B-16-quickgelu", IMAGES, 224
    model = open_clip.create_model(name, pretrained=None, load_weights=False).eval()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "vit.safetensors")
    teacher = Teacher(TeacherConfig(name, str(folder / "vit.safetensors"), short_side=side))
    images = [image[:, :240] for image in room.color[:count]]
    pixels = torch.randn(count, 3, side, side)

    @torch.inference_mode()
    def pooled() -> np.ndarray:
        return model.encode_image(pixels).numpy()

    assert teacher.encode_images(images).shape == (count, 14, 14, 512)
    # Width 768, 12 blocks of 12 products with 768 x 768, and the attention's two over 197 tokens.
    tokens = 14 * 14 + 1
    flops = 2.0 * count * 12 * tokens * (12 * 768**2 + 2 * tokens * 768)
    on = f"{count} images 224x224, ViT-B/16, dense"
    peers = {"open_clip, pooled": (pooled, 1)}
    yield Stage("teacher", on, lambda: teacher.encode_images(images), peers, machine.multiplying(flops))


STAGES: dict[str, Callable[..., Iterator[Stage]]] = {
    "sets": sets,
    "pairs": pairs,
    "scores": scores,
    "clouds": clouds,
    "voxels": voxels,
    "votes": votes,
    "sens": recordings,
    "reads": reads,
    "teacher": teachers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    of_scannet = "ScanNet's own program, compiled, for one more row (its sets aren't compared)"
    parser.add_argument("--segmentator", type=Path, action="append", default=[], help=of_scannet)
    parser.add_argument("--only", default=",".join(STAGES), help=f"some of {', '.join(STAGES)}")
    options = parser.parse_args()
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # Open3D takes all it finds, whatever the environment says
    keep_freed_memory()  # as the pipeline's worker processes do; what is in this process gains by it, NumPy's too
    stages = STAGES | {"sets": partial(sets, segmentators=options.segmentator)}
    machine, room = Machine(), scannet_sized()
    print(machine)
    print(HEAD)
    with tempfile.TemporaryDirectory(dir=".") as folder:  # on a disk, which /tmp may not be
        for name in options.only.split(","):
            for stage in stages[name](room, machine, Path(folder)):
                ms = print_stage(stage, options.runs)
                if name == "teacher":
                    hours = ms / IMAGES * SCANNET_FRAMES / 3.6e6
                    print(f"all {SCANNET_FRAMES:,} frames of ScanNet: {hours:.1f} hours of one core for the teacher")


if __name__ == "__main__":
    main()
