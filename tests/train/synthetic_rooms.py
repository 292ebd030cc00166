"""A cache of made-up rooms: a floor, two walls and boxes, coloured by class, labelled with noise in every view."""

from pathlib import Path

import numpy as np

from hicl.cache.writer import CacheWriter, staging

CLASSES = ("wall", "floor", "bed", "chair", "other furniture")
COLOURS = np.array([[200, 200, 190], [120, 90, 60], [60, 80, 180], [180, 60, 60], [90, 160, 90]])
# The settings of a training that such rooms are enough for.
TINY = {
    "stream.voxel_size": 0.15,
    "stream.workers": 0,
    "model.stem": 4,
    "model.planes": [4, 4, 6, 6, 6, 4, 4, 4],
    "heads.tokens": 16,
    "heads.heads": 2,
}


def room(rng: np.random.Generator, n_points: int, size: float = 3.0, boxes: int = 4) -> tuple[np.ndarray, ...]:
    """xyz float32 [N, 3], class [N], set [N]: random points on planes; every plane is one set."""
    planes = [
        (1, np.zeros(3), np.array([size, size, 0.0])),
        (0, np.zeros(3), np.array([size, 0.0, size * 0.8])),
        (0, np.zeros(3), np.array([0.0, size, size * 0.8])),
    ]
    for _ in range(boxes):
        low = np.append(rng.uniform(0.2, size - 1.0, 2), 0.0)
        extent = rng.uniform(0.3, 0.9, 3)
        kind = int(rng.integers(2, len(CLASSES)))
        for axis in range(3):
            flat = extent.copy()
            flat[axis] = 0
            planes += [(kind, low + (extent - flat) * side, flat) for side in (0, 1)]
    area = np.array([np.prod(np.sort(extent)[1:]) for _, _, extent in planes])
    which = rng.choice(len(planes), n_points, p=area / area.sum())
    low, extent = (np.array([p[k] for p in planes]) for k in (1, 2))
    xyz = low[which] + rng.random((n_points, 3)) * extent[which]
    kind = np.array([p[0] for p in planes])[which]
    _, sets = np.unique(which, return_inverse=True)
    return xyz.astype(np.float32), kind, sets.astype(np.int32)


def scene_arrays(
    rng: np.random.Generator, n_points: int, n_views: int, noise: float, **kwargs
) -> dict[str, np.ndarray]:
    """All required arrays of one scene, and points/label."""
    xyz, kind, sets = room(rng, n_points, **kwargs)
    rgb = np.clip(COLOURS[kind] + rng.normal(0, 15, (n_points, 3)), 0, 255).astype(np.uint8)
    points, raws, refineds = [], [], []
    said = np.zeros((sets.max() + 1, len(CLASSES)), int)
    for _ in range(n_views):
        point = np.flatnonzero(np.linalg.norm(xyz[:, :2] - rng.uniform(0, 3, 2), axis=1) < 1.5).astype(np.int32)
        wrong = rng.random(len(point)) < noise
        raw = np.where(wrong, rng.integers(0, len(CLASSES), len(point)), kind[point]).astype(np.uint8)
        raw[rng.random(len(point)) < 0.05] = 255
        votes = np.zeros((sets.max() + 1, len(CLASSES)), int)
        known = raw != 255
        np.add.at(votes, (sets[point[known]], raw[known]), 1)
        refined = np.where(votes.sum(1) > 0, votes.argmax(1), 255).astype(np.uint8)[sets[point]]
        said += votes
        points.append(point), raws.append(raw), refineds.append(refined)
    total = sum(map(len, points))
    return {
        "points/xyz": xyz,
        "points/rgb": rgb,
        "points/normal": np.tile(np.float32([0, 0, 1]), (n_points, 1)),
        "points/label": kind.astype(np.uint8),
        "views/frame": np.arange(n_views, dtype=np.int32),
        "views/pose": np.tile(np.eye(4), (n_views, 1, 1)),
        "views/intrinsics": np.tile([300.0, 300, 160, 120], (n_views, 1)),
        "views/size": np.tile(np.int32([240, 320]), (n_views, 1)),
        "pairs/indptr": np.cumsum([0, *map(len, points)]).astype(np.int64),
        "pairs/point": np.concatenate(points),
        "pairs/pixel": np.zeros((total, 2), np.uint16),
        "pairs/raw": np.concatenate(raws),
        "pairs/refined": np.concatenate(refineds),
        "sets/id": sets,
        "points/spread": np.where(said.sum(1) > 0, said.argmax(1), 255).astype(np.uint8)[sets],
    }


def add_features(name: str, arrays: dict[str, np.ndarray], width: int = 16) -> None:
    """An `edit` of `make_cache`: random patch features and masks, and pixels that are anywhere."""
    rng = np.random.default_rng(len(arrays["pairs/point"]))
    size, views = arrays["views/size"][0], len(arrays["views/size"])
    arrays["pairs/pixel"] = rng.integers(0, size, (len(arrays["pairs/point"]), 2)).astype(np.uint16)
    codes = rng.integers(-127, 128, (views, 3, 4, width)).astype(np.int8)
    arrays["features/grid"] = codes
    arrays["features/scale"] = (1 / np.linalg.norm(codes.astype(np.float32), axis=3)).astype(np.float32)
    arrays["pairs/mask"] = rng.integers(0, 6, len(arrays["pairs/point"])).astype(np.int32)


def stages(**changes: str) -> dict[str, str]:
    """Made-up fingerprints of a scene's stages."""
    names = ("points", "views", "sets", "features", "labels")
    return {name: "1" for name in names} | {"text": "text-1"} | changes


def text_embedding(width: int, n_classes: int = len(CLASSES)) -> np.ndarray:
    """[C, width] float32, unit length."""
    text = np.random.default_rng(0).normal(size=(n_classes, width)).astype(np.float32)
    return text / np.linalg.norm(text, axis=1, keepdims=True)


def make_cache(
    path: Path,
    train: int = 4,
    val: int = 2,
    n_points: int = 1500,
    n_views: int = 10,
    width: int = 16,
    noise: float = 0.4,
    seed: int = 0,
    edit=None,
    classes: tuple[str, ...] = CLASSES,
    dataset: str = "synthetic",
    teacher: dict | None = None,
    truth_classes: tuple[str, ...] = (),
    **kwargs,
) -> Path:
    """A cache of `train` + `val` rooms; `edit(name, arrays)` may change a scene's arrays before they are written."""
    about = {"truth_classes": list(truth_classes)} | ({} if teacher is None else {"teacher": teacher})
    with CacheWriter(path, dataset) as writer:
        writer.set_text(classes, text_embedding(width), "text-1", about)
        touched = {}
        for i in range(train + val):
            split = "train" if i < train else "val"
            name = f"{split}{i:02d}"
            arrays = scene_arrays(np.random.default_rng([seed, i]), n_points, n_views, noise, **kwargs)
            if edit:
                edit(name, arrays)
            attributes = {"stages": stages(), "counts": {}, "skipped": {}, "split": split}
            with staging(path) as stage:
                staged = stage.build(name, arrays, attributes, [])
            writer.publish(name, staged)
            touched[name] = (split, "")
        writer.write_manifest(touched)
    return path
