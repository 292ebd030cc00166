"""Every stage on one scene of ScanNet's size, beside what people use instead and what the machine allows.

    python tests/benchmarks/bench_stages.py [--runs 5] [--only sets,pairs,…] [--segmentator PROGRAM]

Before a stage's clock starts, its result is compared with its peer's. A time is the best of several runs after one
that compiles. Both run in one thread, on one core. "limit" is the least the stage could take here: its bytes at the
measured speed of memory, its arithmetic at the measured speed of a matrix product, or the library that does the
unavoidable part.
"""

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import reference
from bench_bytes import TRAINING, forget, read_cache, read_npy, write_npy
from rooms import COLOR, DEPTH, Room, attributes, scannet_sized, write_ply
from table import HEAD, Machine, Stage, best_ms, print_stage

from hicl.cache.reader import SceneReader
from hicl.cache.writer import write_arrays
from hicl.pipeline import normals, partition, refine, sampling
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.datasets.sens import SensFile, write_sens
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

    peers: dict[str, tuple[Callable, float]] = {}
    for name, flags in (("C, -O3", ["-O3"]), ("C, -O0", ["-O0"])):
        program = folder / name.replace(", ", "")
        subprocess.run(["cc", *flags, Path(__file__).with_name("segmentator.c"), "-o", program, "-lm"], check=True)
        peers[name] = (lambda program=program: subprocess.run([program, mesh, found], check=True), 1)
    for program in segmentators:
        command = [program.absolute(), mesh]
        peers[program.name] = (lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL), 1)
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


def smooth_grids(n: int, rng: np.random.Generator) -> np.ndarray:
    """Unit features float32 [n, h, w, d] that change from patch to patch about as CLIP's do."""
    coarse = rng.standard_normal((n, 5, 7, WIDTH)).astype(np.float32)
    rows = sampling.scores_at  # the same bilinear interpolation, channel by channel
    pixel = np.stack(np.mgrid[: GRID[0], : GRID[1]], axis=-1).reshape(-1, 2).astype(np.uint16)
    fine = np.stack([rows(view, pixel, GRID).reshape(*GRID, WIDTH) for view in coarse])
    fine += 0.3 * rng.standard_normal(fine.shape).astype(np.float32)
    return fine / np.linalg.norm(fine, axis=-1, keepdims=True)


def scores(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    import torch

    from hicl.pipeline.teacher.clip import quantise

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = [pixel for _, pixel in pairs_of(room)]
    grids = smooth_grids(len(pixels), rng)
    text = rng.standard_normal((CLASSES, WIDTH)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    codes, scale = quantise(torch.from_numpy(grids))
    size = (COLOR.height, COLOR.width)

    def ours() -> list[np.ndarray]:
        views = zip(codes, scale, pixels, strict=True)
        return [sampling.label_pixels(features.class_scores(c, s, text), pixel, size) for c, s, pixel in views]

    def dense(view: int) -> np.ndarray:
        """Features in full resolution, sampled, scored: OpenScene's way."""
        grid = torch.from_numpy(codes[view] * scale[view][..., None]).permute(2, 0, 1)[None]
        full = torch.nn.functional.interpolate(grid, size, mode="bilinear", align_corners=False)[0]
        row, column = torch.from_numpy(pixels[view].astype(np.int64)).T
        return (full[:, row, column].T @ torch.from_numpy(text).T).numpy()

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
    from scipy.spatial import cKDTree

    def ours() -> tuple:
        index, distance = normals.neighbors(room.xyz, 16)
        return index, distance, normals.pca_normals(room.xyz, index)

    def theirs() -> tuple:
        distance, index = cKDTree(room.xyz).query(room.xyz, k=16)
        near = room.xyz[index].astype(np.float64)
        near -= near.mean(axis=1, keepdims=True)
        return index, distance, np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]

    index, distance, normal = ours()
    other_index, other_distance, other_normal = theirs()
    assert np.allclose(distance, other_distance, rtol=1e-6, atol=0), "kNN: other distances than SciPy's"
    same = (np.sort(index, axis=1) == np.sort(other_index, axis=1)).all(axis=1)
    assert same.mean() > 0.999, "kNN: others than SciPy's, beyond ties"
    along = np.abs((normal * other_normal).sum(axis=1))[same]
    assert (along > 1 - 1e-5).mean() > 0.9999, "normals: others than eigh's"
    peers = {"SciPy, eigh": (theirs, 1)}
    open3d = _open3d(room.xyz)
    if open3d:
        peers["Open3D"] = (open3d, 1)
    limit = machine.moving(room.xyz, index, distance, normal)
    yield Stage("kNN (16) + normals", f"{len(room.xyz):,} points", ours, peers, limit)


def _open3d(xyz: np.ndarray) -> Callable | None:
    try:
        import open3d
    except Exception:  # not installed, or without a library of the system's that it needs
        return None

    def estimate():
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(16))

    return estimate


def voxels(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    import torch

    warnings.filterwarnings("ignore", category=FutureWarning)  # spconv's, of what it uses of PyTorch
    from spconv.pytorch.utils import PointToVoxel

    values = np.concatenate([room.xyz, room.rgb.astype(np.float32)], axis=1)

    def ours() -> tuple:
        coords, _, voxel_of_point = voxelise(room.xyz, 0.02)
        return coords, voxel_means(values, voxel_of_point, len(coords))

    def by_unique() -> tuple:
        cells = ((room.xyz.astype(np.float64) - room.xyz.min(axis=0)) / 0.02).astype(np.int64)
        coords, voxel = np.unique(cells, axis=0, return_inverse=True)
        sums = np.stack([np.bincount(voxel, column) for column in values.T.astype(np.float64)], axis=1)
        return coords, sums / np.bincount(voxel)[:, None]

    low, high = room.xyz.min(axis=0), room.xyz.max(axis=0)
    made = PointToVoxel([0.02] * 3, [*low.tolist(), *(high + 0.02).tolist()], 6, len(values), 16)
    tensor = torch.from_numpy(values)
    coords, means = ours()
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

    def table(labels, group, add_at: bool):
        if add_at:
            counts = np.zeros((n_sets, CLASSES), np.int64)
            np.add.at(counts, (group, labels), 1)
        else:
            counts = np.bincount(group * CLASSES + labels, minlength=n_sets * CLASSES).reshape(n_sets, CLASSES)
        return counts.argmax(axis=1)[group]

    every, whole = np.arange(len(set_id), dtype=np.int32), np.array([0, len(set_id)])
    point = np.concatenate([point for point, _ in pairs_of(room)])
    indptr = np.cumsum([0, *(len(point) for point, _ in pairs_of(room))])
    for name, ballot in (("vote, a label a point", (every, whole)), ("vote, image by image", (point, indptr))):
        points, bounds = ballot
        labels = rng.integers(0, CLASSES, len(points)).astype(np.uint8)

        def ours(labels=labels, points=points, bounds=bounds):
            return refine.vote(labels, points, bounds, set_id)

        def theirs(add_at, labels=labels, points=points, bounds=bounds):
            views = zip(bounds[:-1], bounds[1:], strict=True)
            return np.concatenate([table(labels[a:b].astype(int), set_id[points[a:b]], add_at) for a, b in views])

        assert np.array_equal(ours(), theirs(True)) and np.array_equal(ours(), theirs(False)), "votes: others"
        peers = {"bincount": (lambda t=theirs: t(False), 1), "add.at": (lambda t=theirs: t(True), 1)}
        on = f"{len(labels):,} labels, {n_sets:,} sets, {len(bounds) - 1} images"
        yield Stage(name, on, ours, peers, machine.moving(labels, points, set_id, labels))


def read_official(path: Path, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A recording as ScanNet's own Python reader takes it (SensReader/python/SensorData.py): every frame is read and
    unpacked byte by byte; then every `step`-th is decoded."""
    frames = []
    with open(path, "rb") as file:

        def take(layout):
            return struct.unpack(layout, file.read(struct.calcsize(layout)))

        take("<I")
        b"".join(take("c" * take("<Q")[0]))
        for _ in range(4):
            take("16f")
        take("<2i")
        _, _, width, height = take("<4I")
        take("f")
        (count,) = take("<Q")
        for _ in range(count):
            take("16f")
            take("<2Q")
            color_bytes, depth_bytes = take("<2Q")
            frames.append((b"".join(take("c" * color_bytes)), b"".join(take("c" * depth_bytes))))
    decoded = []
    for color, depth in frames[::step]:
        image = np.asarray(Image.open(io.BytesIO(color)))
        decoded.append((image, np.frombuffer(zlib.decompress(depth), np.uint16).reshape(height, width)))
    return decoded


def recordings(room: Room, machine: Machine, folder: Path) -> Iterator[Stage]:
    color = Camera(1169, 1167, 646, 490, 968, 1296)
    depth = Camera(577, 578, 319, 239, 480, 640)
    rng = np.random.default_rng(0)
    path, count, step = folder / "room.sens", 200, 20
    frames = []
    for i in range(count):
        measured = np.kron(room.depth[i % len(room.depth)], np.ones((2, 2), np.float32))
        shade = np.clip(255 - 60 * measured, 0, 255).astype(np.uint8)
        image = Image.fromarray(shade).resize((color.width, color.height)).convert("RGB")
        noisy = np.asarray(image) + rng.integers(-12, 13, (color.height, color.width, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        frames.append((buffer.getvalue(), (1000 * measured).astype(np.uint16), np.eye(4, dtype=np.float32)))
    write_sens(path, color, depth, frames)

    def ours() -> list:
        recording = SensFile(path)
        return [(recording.color(i), recording.depth(i)) for i in range(0, len(recording), step)]

    for (image, measured), (other_image, other) in zip(ours(), read_official(path, step), strict=True):
        assert np.array_equal(image, other_image) and np.allclose(1000 * measured, other, atol=1e-3), ".sens: differ"
    chosen = [frame[0] for frame in frames[::step]]
    library = best_ms(lambda: [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in chosen], 3)
    on = f"{count} frames 1296x968, {path.stat().st_size / 1e6:.0f} MB, every {step}th"
    limit = ("JPEGs by Pillow alone", library)
    yield Stage(".sens, index and decode", on, ours, {"official": (lambda: read_official(path, step), 1)}, limit)


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
    yield Stage(
        "teacher",
        on,
        lambda: teacher.encode_images(images),
        {"open_clip, pooled": (pooled, 1)},
        machine.multiplying(flops),
    )


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
