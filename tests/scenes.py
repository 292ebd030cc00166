"""Scenes for a cache, small enough to be counted by hand."""

import os
from pathlib import Path

import numpy as np

from hicl.cache.schema import SCENE_ARRAYS

CLASSES = ("wall", "floor", "chair")
OPTIONAL = (
    "points/face", "points/label", "points/intensity", "points/sweep", "points/valid", "points/spread", "features/grid",
    "features/scale", "pairs/mask",
)  # fmt: skip


def arrays(seed=0, n=7, views=(3, 0, 4), with_optional=True):
    """A scene that keeps to cache/SPEC.md: n points in 3 sets, views with so many pairs, 4x5 patches of 6 numbers."""
    rng = np.random.default_rng(seed)
    f, p = len(views), sum(views)
    found = {
        "points/xyz": rng.random((n, 3)).astype("<f4"),
        "points/rgb": rng.integers(0, 256, (n, 3)).astype("u1"),
        "points/normal": rng.random((n, 3)).astype("<f4"),
        "points/face": np.array([[0, 1, 2], [1, 3, 2]], "<i4"),
        "points/label": rng.choice([0, 1, 2, 255], n).astype("u1"),
        "views/frame": np.arange(f, dtype="<i4") * 20,
        "views/pose": rng.random((f, 4, 4)),
        "views/intrinsics": rng.random((f, 4)),
        "views/size": np.tile(np.array([[24, 32]], "<i4"), (f, 1)),
        "pairs/indptr": np.concatenate([[0], np.cumsum(views)]).astype("<i8"),
        "pairs/point": rng.integers(0, n, p).astype("<i4"),
        "pairs/pixel": rng.integers(0, 24, (p, 2)).astype("<u2"),
        "sets/id": (np.arange(n) % 3).astype("<i4"),
        "features/grid": rng.integers(-127, 128, (f, 4, 5, 6)).astype("i1"),
        "features/scale": rng.random((f, 4, 5)).astype("<f4"),
        "pairs/mask": (np.arange(p) % 3).astype("<i4"),
        "pairs/raw": rng.choice([0, 1, 2, 255], p).astype("u1"),
        "pairs/refined": rng.choice([0, 1, 2, 255], p).astype("u1"),
        "points/spread": rng.choice([0, 1, 2, 255], n).astype("u1"),
    }
    found["points/intensity"] = (np.arange(n) * 7 + seed).astype("u1")
    found["points/sweep"], found["points/valid"] = np.zeros(n, "u1"), np.ones(n, "u1")
    if not with_optional:
        for name in OPTIONAL:
            del found[name]
    return {name: found[name] for name in SCENE_ARRAYS if name in found}


def key_frame(seed=0, **how):
    """The arrays of a scene that a LiDAR saw: without colour and normals; every other point is of an earlier sweep, and
    those that no camera sees take no part."""
    found = arrays(seed, **how)
    n = len(found["points/xyz"])
    found["points/sweep"] = (np.arange(n) % 2).astype("u1")
    found["points/valid"] = np.isin(np.arange(n), found["pairs/point"]).astype("u1")
    for name in ("points/rgb", "points/normal", "points/face"):
        found.pop(name, None)
    return found


def attributes(scene_arrays, text="t1", split="val"):
    stages = {stage: f"{stage}1" for stage in ("points", "views", "sets", "features", "labels")} | {"text": text}
    counts = {
        "points": len(scene_arrays["points/xyz"]),
        "frames": len(scene_arrays["views/frame"]),
        "pairs": len(scene_arrays["pairs/point"]),
        "sets": int(scene_arrays["sets/id"].max()) + 1,
    }
    return {"split": split, "stages": stages, "counts": counts, "skipped": {"20": "why"}, "settings": {}}


def embedding(classes=CLASSES, seed=0):
    found = np.random.default_rng(seed).normal(size=(len(classes), 6))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype("<f4")


def set_text(writer, classes=CLASSES, fingerprint="t1", truth=CLASSES, seed=0):
    writer.set_text(classes, embedding(classes, seed), fingerprint, {"truth_classes": list(truth), "teacher": None})


def put(writer, name, scene_arrays, text="t1", split="val", keep=()):
    from hicl.cache.writer import staging

    with staging(writer.path) as stage:
        new = {array: content for array, content in scene_arrays.items() if array not in keep}
        staged = stage.build(name, new, attributes(scene_arrays, text, split), list(keep))
    writer.publish(name, staged)


def fill(location, names=("a", "b"), text="t1"):
    """A cache of these scenes, all for validation."""
    from hicl.cache.writer import CacheWriter

    with CacheWriter(location, "scannet") as writer:
        set_text(writer, fingerprint=text)
        for seed, name in enumerate(names):
            put(writer, name, arrays(seed), text=text)
        writer.write_manifest({name: ("val", "") for name in names})
    return location


def put_group(writer, name, items, text="t1", split="val", keep=()):
    """items: the arrays of each scene; the new ones are those not in `keep`."""
    from hicl.cache.writer import staging

    about = attributes(items[0], text, split)
    shared = {key: about[key] for key in ("split", "stages", "settings")}
    with staging(writer.path) as stage:
        new = [
            ({array: content for array, content in item.items() if array not in keep}, {"token": f"{name}-{number}"})
            for number, item in enumerate(items)
        ]
        staged = stage.build_group(name, new, shared, list(keep))
    writer.publish(name, staged)


def groups(seed=0):
    """Three groups of key frames, which differ in their numbers of points, views and pairs."""
    return {
        "one": [key_frame(seed), key_frame(seed + 1, n=5, views=(2, 1)), key_frame(seed + 2, n=9, views=(0, 0, 0))],
        "two": [key_frame(seed + 3, n=4)],
        "none": [key_frame(seed + 4, views=(0, 0)), key_frame(seed + 5, views=())],
    }


def fill_groups(location, text="t1", seed=0):
    """A cache of these groups, all for validation."""
    from hicl.cache.writer import CacheWriter

    with CacheWriter(location, "nuscenes", grouped=True) as writer:
        set_text(writer, fingerprint=text)
        for name, items in groups(seed).items():
            put_group(writer, name, items, text=text)
        writer.write_manifest({name: ("val", "") for name in groups(seed)})
    return location


def tree(folder: Path, times=False) -> dict:
    """Every file below a folder with its bytes, and on demand with its time of change, and every folder."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            content = path.read_bytes()
            found[str(path.relative_to(folder))] = (content, path.stat().st_mtime_ns) if times else content
        for name in folders:
            found[str(Path(parent, name).relative_to(folder)) + os.sep] = None
    return found
