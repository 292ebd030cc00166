"""Everything that reads what others made, each with a sound input and the ways in which it is damaged."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import formats
import mutations
import scenes

from hicl.errors import HiclError


@dataclass(frozen=True)
class Reader:
    """make: writes a sound input into a folder. read: all that the product takes from it, to be compared. mutate: by
    the ending of a file's path, the first that fits. checked: endings of files in which nothing may change unseen."""

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    mutate: dict[str, Callable]
    weight: float = 1.0
    checked: Callable[[str], bool] = lambda name: False


def _or_error(read: Callable, *arguments) -> Any:
    """A frame that can't be read is passed over."""
    from hicl.errors import FrameError

    try:
        return read(*arguments)
    except FrameError as error:
        assert "\n" not in str(error)
        return "skipped"


# Scans.


def _read_sens(folder: Path):
    from hicl.pipeline.datasets.scene import checked_pose
    from hicl.pipeline.datasets.sens import SensFile

    file = SensFile(folder / "a.sens")
    frames = [
        (_or_error(checked_pose, file.poses[i], "pose"), _or_error(file.color, i), _or_error(file.depth, i))
        for i in range(min(len(file), 50))
    ]
    return dataclasses.astuple(file.color_camera), dataclasses.astuple(file.depth_camera), frames


def _make_sens(folder: Path) -> None:
    formats.sens(2, lost=(1,)).write(folder / "a.sens")


def _make_ply(folder: Path) -> None:
    rng = np.random.default_rng(0)
    xyz = (rng.random((60, 3)) * [0.4, 0.4, 0.1]).astype("f4")
    rgb = rng.integers(0, 256, (60, 3)).astype("u1")
    faces = [sorted(rng.choice(60, 3, replace=False).tolist()) for _ in range(20)]
    formats.write_ply(folder / "binary.ply", xyz, rgb, faces, normal=xyz)
    formats.write_ply(folder / "big.ply", xyz, rgb, [*faces, [0, 1, 2, 3]], order=">")
    formats.write_ply(folder / "text.ply", xyz, rgb, faces, text=True)


def _read_ply(folder: Path):
    from hicl.clouds import read_cloud
    from hicl.pipeline.datasets import ply

    found = []
    for path in sorted(folder.glob("*.ply")):
        vertex, faces = ply.read_ply(path)
        found += [ply.xyz(vertex, path), ply.rgb(vertex, path), faces, ply.vertex_count(path), ply.has_colors(path)]
        cloud = read_cloud(path, 0.02, scale=1.0)
        found += [cloud.xyz, cloud.rgb, cloud.faces, cloud.origin]
    return found


def _make_images(folder: Path) -> None:
    formats.write_color(folder / "color.jpg", formats.picture(), quality=90)
    formats.write_color(folder / "color.png", formats.picture())
    formats.write_depth(folder / "depth.png", formats.millimetres())
    formats.write_color(folder / "label.png", np.arange(48, dtype="u1").reshape(6, 8) % 3)


def _read_images(folder: Path):
    from hicl.pipeline.datasets.depths import read_depth
    from hicl.pipeline.datasets.images import read_color, read_label

    return [
        _or_error(read_color, folder / "color.jpg"),
        _or_error(read_color, folder / "color.png"),
        _or_error(read_depth, folder / "depth.png"),
        read_label(folder / "label.png", ("a", "b", "c")),
    ]


def _make_scan(folder: Path) -> None:
    scan = formats.write_mesh(folder / "scans" / "scene0000_00", label=[1, 2, 3, 0, 40], segments=[0, 1, 2, 3, 4])
    formats.sens(1).write(scan / "scene0000_00.sens")
    formats.write_matrix(folder / "pose.txt", np.eye(4))
    formats.write_matrix(folder / "intrinsics.txt", formats.matrix(formats.COLOR_K))
    (folder / "classes.txt").write_text("wall, side\nfloor # below\nchair\n")
    (folder / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\n")
    (folder / "miniature.json").write_text(json.dumps({"format": "hicl-miniature", "frame_step": 1, "complete": True}))


def _read_scan(folder: Path):
    from hicl.pipeline.classes import read_classes
    from hicl.pipeline.datasets.images import read_intrinsics, read_pose
    from hicl.pipeline.datasets.scannet import find_scenes

    found: list = [read_classes(folder / "classes.txt").names, _or_error(read_pose, folder / "pose.txt")]
    found.append(dataclasses.astuple(read_intrinsics(folder / "intrinsics.txt", (24, 32))))
    listed, missing = find_scenes(folder)
    for scene, split in listed:
        points = scene.points()
        found += [split, scene.frame_step, missing, points.xyz, points.faces, points.label, scene.shipped_sets()]
    return found


def _make_rgbd(folder: Path) -> None:
    formats.write_frames_25k(folder / "own", ids=(0, 1))
    (folder / "own" / "intrinsics_color.txt").rename(folder / "own" / "intrinsic_color.txt")
    (folder / "own" / "intrinsics_depth.txt").rename(folder / "own" / "intrinsic_depth.txt")
    formats.write_ply(folder / "own" / "cloud.ply")


def _read_rgbd(folder: Path):
    from hicl.pipeline.datasets.rgbd import find_scenes

    found = []
    for scene in find_scenes(folder / "own"):
        points = scene.points()
        found += [points.xyz, points.rgb]
        for frame_id in scene.frame_ids.tolist():
            frame = _or_error(scene.frame, frame_id)
            found += [frame] if isinstance(frame, str) else [frame.color, frame.depth, frame.pose]
    return found


# Settings.


def _make_toml(folder: Path) -> None:
    from hicl.config import to_toml
    from hicl.train.config import PRESETS

    (folder / "config.toml").write_text(to_toml(PRESETS["miniature"]))
    (folder / "preprocess.toml").write_text('sets = "mesh"\nmax_gap = 0.1\nmin_size = 5\nframe_step = 2\n')


def _read_toml(folder: Path):
    from hicl.pipeline.config import PreprocessConfig, build
    from hicl.train import config

    settings = config.load(file=folder / "config.toml")
    return dataclasses.asdict(settings), dataclasses.asdict(build(PreprocessConfig, folder / "preprocess.toml", {}))


# The cache.


def _make_cache(folder: Path) -> None:
    scenes.fill(folder / "cache", names=("a",))


def _read_cache(folder: Path):
    from hicl.cache.opening import open_cache
    from hicl.pipeline.search import similarity

    cache = open_cache(folder / "cache")
    found: list = [cache.dataset, cache.classes, cache.truth_classes, cache.text, cache.splits()]
    found.append(cache.fingerprints(cache.scene_ids()))
    for scene_id in cache.scene_ids():
        scene = cache.scene(scene_id)
        found += [name for name in scene.arrays() if not name.startswith("features")]
        found += [scene.read(name) for name in scene.arrays()]
        if scene.has("features/grid"):
            found.append(similarity(scene, cache.text[0]))
        found.append(_batch(cache, scene_id))
    return found


def _batch(cache, scene_id: str):
    from hicl.train import stream
    from hicl.train.config import PRESETS
    from hicl.train.objectives import kind

    config = PRESETS["miniature"]
    fingerprints, needs = tuple(cache.fingerprints([scene_id])), kind(config).needs(config)
    source = stream.Source(cache.path, (scene_id,), fingerprints, needs, config.heads, 0, config.stream)
    batch = stream.make_batch(cache, source, 0, [0])
    return batch.coords.numpy(), batch.histogram.numpy(), batch.token_label.numpy()


def _has_checksum(name: str) -> bool:
    return "/c/" in name


# Orders to publish, in a cache on object storage.


def _make_orders(folder: Path) -> None:
    order = {"staged": "a.0123456789ab", "home": "scenes/a", "root": None}
    (folder / "order.json").write_text(json.dumps(order))
    (folder / "keep.json").write_text(json.dumps(["points/xyz", "features/grid"]))


@functools.cache
def _store() -> dict:
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    scenes.fill("memory://bucket/cache", names=("a", "b"))
    return dict(MemoryFileSystem.store)


def _read_orders(folder: Path):
    """Whatever an order says, the other scene and what lies beside the cache stay as they are."""
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    from hicl.cache.writer import CacheWriter

    sound = _store()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.store.update(sound)
    beside = {f"/bucket/{name}": b"mine" for name in ("x", "cache2/zarr.json", "etc/passwd")}
    top = "/bucket/cache"
    staged = f"{top}/.staging/a.0123456789ab"
    new = {f"{top}/.publishing/a.0123456789ab": (folder / "order.json").read_bytes()}
    new |= {f"{staged}/.keep": (folder / "keep.json").read_bytes()}
    new |= {
        f"{staged}/{name[len(top) + 10 :]}": file.getvalue() for name, file in sound.items() if "/scenes/a/" in name
    }
    for name, content in (beside | new).items():
        MemoryFileSystem.store[name] = MemoryFile(MemoryFileSystem(), name, content)
    try:
        with CacheWriter("memory://bucket/cache", "scannet"):
            pass
    finally:
        left = MemoryFileSystem.store
        assert all(left[name].getvalue() == content for name, content in beside.items())
        assert all(left[name].getvalue() == file.getvalue() for name, file in sound.items() if "/scenes/b/" in name)
    return sorted(name for name in MemoryFileSystem.store)


# Runs.


@functools.cache
def _tiny():
    from hicl.train.config import PRESETS, HeadConfig, ModelConfig

    model = ModelConfig(stem=4, planes=(4,) * 8)
    return dataclasses.replace(PRESETS["miniature"], model=model, heads=HeadConfig(layers=1, heads=2, tokens=8))


@functools.cache
def _learner():
    import torch

    from hicl.train import distributed
    from hicl.train.learner import Learner

    return Learner(_tiny(), torch.from_numpy(scenes.embedding()), distributed.start("cpu"))


def _make_model(folder: Path) -> None:
    import torch

    from hicl.train import checkpoint, network

    torch.manual_seed(0)
    net = network.build(_tiny(), 6, torch.device("cpu"))
    teacher = {"clip": "ViT-B-16-quickgelu", "weights": "openai", "dense": "maskclip", "short_side": None}
    meta = {"config": dataclasses.asdict(_tiny()), "classes": list(scenes.CLASSES), "teacher": teacher, "step": 3}
    checkpoint.save_model(folder, net, torch.from_numpy(scenes.embedding()), meta)
    confusion = np.arange(9).reshape(3, 3)
    evaluation = {"miou": 12.5, "accuracy": 50.0, "iou": {"wall": 1.0, "floor": None}, "protocol": "p", "data": "d"}
    (folder / "evaluation-val.json").write_text(json.dumps(evaluation | {"confusion": confusion.tolist()}))
    (folder / "log.csv").write_text("epoch,step,steps_per_s,miou\n1,10,2.5,10.5\n2,20,2.6,11\n")


def _read_model(folder: Path):
    from hicl.pipeline.teacher.choice import same_teacher
    from hicl.train import inference, run_folder
    from hicl.train.log import minutes, read_log

    model = inference.load(folder)
    xyz = np.random.default_rng(0).random((30, 3)).astype("f4")
    prediction = model.predict(xyz, (255 * xyz).astype("u1"))
    found: list = [model.classes, model.voxel_size, prediction.label, prediction.score]
    found.append(_or_error_of_teacher(same_teacher, model.teacher))
    found += [run_folder.load_evaluation(folder, "val")["miou"], read_log(folder), minutes(folder)]
    return found


def _or_error_of_teacher(same_teacher, identity):
    found = same_teacher(identity, "the model")
    return dataclasses.astuple(found)


def _make_state(folder: Path) -> None:
    from hicl.train import checkpoint

    learner = _learner()
    log = {"rows": [{"epoch": 1, "step": 10, "lr": 0.1, "ce": 1.5}], "sums": {"ce": [1.5, 2], "wait": [0.1, 2]}}
    identity = {"classes": list(scenes.CLASSES), "width": 6, "text": "t1", "data": "d"}
    tensors = learner.tensors()
    tensors |= {
        f"sgd.{name}:momentum_buffer": p.detach().clone() for name, p in zip(learner.sgd_names, _sgd(), strict=True)
    }
    checkpoint.save_state(
        folder, 10, tensors, {"config": dataclasses.asdict(_tiny()), "identity": identity, "log": log}
    )


def _sgd() -> list:
    return [p for group in _learner().sgd.param_groups for p in group["params"]]


def _read_state(folder: Path):
    from hicl.train import checkpoint
    from hicl.train.log import Log
    from hicl.train.loop import _same_run

    tensors, state = checkpoint.load_state(folder)
    identity = {"classes": list(scenes.CLASSES), "width": 6, "text": "t1", "data": "d"}
    _same_run(folder, state, _tiny(), identity)
    _learner().restore(tensors, folder / state["tensors"])
    with Log(folder, "t", 100, state["step"], state["log"], False, False) as log:
        log.step(11, {"ce": 1.0}, (0.1, 0.1), 5, 0.1, 0.1)
        log.epoch(1, 11, (0.1, 0.1), None)
    return state["step"], log.rows, {name: tensor.numpy() for name, tensor in tensors.items()}


_JSON, _TEXT, _BYTES = {".json": mutations.json_text}, {".txt": mutations.text}, {"": mutations.any_bytes}
READERS = {
    "sens": Reader(_make_sens, _read_sens, _BYTES, 2),
    "ply": Reader(_make_ply, _read_ply, {"text.ply": mutations.text} | _BYTES, 3),
    "images": Reader(_make_images, _read_images, _BYTES, 2),
    "scan": Reader(_make_scan, _read_scan, _JSON | _TEXT | {".sens": None} | _BYTES, 3),
    "rgbd": Reader(_make_rgbd, _read_rgbd, _TEXT | _BYTES, 1),
    "toml": Reader(_make_toml, _read_toml, {"": mutations.text}, 1.5),
    "cache": Reader(
        _make_cache,
        _read_cache,
        {"scenes/zarr.json": None} | _JSON | {".parquet": mutations.any_bytes} | _BYTES,
        3,
        _has_checksum,
    ),
    "made cache": Reader(_make_cache, _read_cache, {".json": None, ".parquet": None, "": mutations.stored_array}, 2),
    "orders": Reader(_make_orders, _read_orders, _JSON, 1),
    "model": Reader(
        _make_model, _read_model, _JSON | {".safetensors": mutations.safetensors, ".csv": mutations.text}, 1.5
    ),
    "state": Reader(_make_state, _read_state, _JSON | {".safetensors": mutations.safetensors}, 1),
}


def mutation(reader: Reader, name: str) -> Callable | None:
    return next((way for ending, way in reader.mutate.items() if name.endswith(ending)), None)


def one_line(error: HiclError) -> bool:
    return "\n" not in str(error) and 0 < len(str(error)) < 2000
