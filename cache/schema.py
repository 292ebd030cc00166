"""The table of arrays in a cache, and the check that a scene keeps to it. SPEC.md says the same in words."""

from dataclasses import dataclass

import numpy as np

from hicl.errors import HiclError

FORMAT = "hicl-cache"
VERSION = 2
NO_LABEL = 255
MAX_CLASSES = 255

STAGES = ("points", "views", "sets", "features", "labels")


@dataclass(frozen=True)
class ArraySpec:
    """One array of a scene.

    shape: a number, or a letter that has one value in a scene (N points, F frames, P pairs; h, w, d teacher grid).
    stage: the stage that writes it. codec: how Blosc packs it: what training reads, to unpack fast, the rest, to be
    small; None: stored as it is, so that a local reader maps the file into memory.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    stage: str
    codec: str | None
    required: bool = True


SCENE_ARRAYS = {
    spec.name: spec
    for spec in (
        ArraySpec("points/xyz", "<f4", ("N", 3), "points", codec=None),
        ArraySpec("points/rgb", "|u1", ("N", 3), "points", codec=None),
        ArraySpec("points/normal", "<f4", ("N", 3), "points", codec="zstd"),
        ArraySpec("points/label", "|u1", ("N",), "points", codec="zstd", required=False),
        ArraySpec("views/frame", "<i4", ("F",), "views", codec="zstd"),
        ArraySpec("views/pose", "<f8", ("F", 4, 4), "views", codec="zstd"),
        ArraySpec("views/intrinsics", "<f8", ("F", 4), "views", codec="zstd"),
        ArraySpec("views/size", "<i4", ("F", 2), "views", codec="zstd"),
        ArraySpec("pairs/indptr", "<i8", ("F+1",), "views", codec=None),
        ArraySpec("pairs/point", "<i4", ("P",), "views", codec="lz4hc"),
        ArraySpec("pairs/pixel", "<u2", ("P", 2), "views", codec="zstd"),
        ArraySpec("sets/id", "<i4", ("N",), "sets", codec="lz4hc"),
        ArraySpec("features/grid", "|i1", ("F", "h", "w", "d"), "features", codec="zstd", required=False),
        ArraySpec("features/scale", "<f4", ("F", "h", "w"), "features", codec="zstd", required=False),
        ArraySpec("pairs/raw", "|u1", ("P",), "labels", codec="lz4hc"),
        ArraySpec("pairs/refined", "|u1", ("P",), "labels", codec="lz4hc"),
    )
}


def chunking(spec: ArraySpec, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(chunks, shard) for an array of this shape: one chunk for all; of the features, one a frame, in one shard."""
    full = tuple(max(1, length) for length in shape)
    if spec.name == "features/grid":
        return (1, *full[1:]), full
    return full, None


def validate(arrays: dict[str, np.ndarray], n_classes: int, where: str) -> None:
    """Check a whole scene's arrays: names, dtypes, shapes that agree, and indices inside their range.

    Raises `HiclError` naming `where` and the first array that is wrong.
    """
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        spec = SCENE_ARRAYS.get(name)
        if spec is None:
            raise HiclError(f"{where}: {name} is not an array of a cache; see cache/SPEC.md")
        if array.dtype != np.dtype(spec.dtype):
            raise HiclError(f"{where}: {name} is {array.dtype}, expected {np.dtype(spec.dtype)}")
        if array.ndim != len(spec.shape):
            raise HiclError(f"{where}: {name} has {array.ndim} axes, expected {len(spec.shape)}")
        for symbol, length in zip(spec.shape, array.shape, strict=True):
            if symbol == "F+1":
                symbol, length = "F", length - 1
            expected = sizes.setdefault(symbol, length) if isinstance(symbol, str) else symbol
            if length != expected:
                raise HiclError(f"{where}: {name} has shape {array.shape}, expected {spec.shape} with {sizes}")
    missing = [spec.name for spec in SCENE_ARRAYS.values() if spec.required and spec.name not in arrays]
    features = {"features/grid", "features/scale"}
    missing += sorted(features - set(arrays)) if features & set(arrays) else []
    if missing:
        raise HiclError(f"{where}: {missing[0]} is missing")
    indptr = arrays["pairs/indptr"]
    if indptr[0] != 0 or indptr[-1] != sizes["P"] or (np.diff(indptr) < 0).any():
        raise HiclError(f"{where}: pairs/indptr doesn't rise from 0 to {sizes['P']}")
    _in_range(arrays["pairs/point"], 0, sizes["N"], f"{where}: pairs/point")
    _in_range(arrays["sets/id"], 0, sizes["N"], f"{where}: sets/id")
    empty = np.flatnonzero(np.bincount(arrays["sets/id"]) == 0)
    if len(empty):
        raise HiclError(f"{where}: sets/id leaves out {empty[0]}; number the sets without gaps")
    pixel_end = np.repeat(arrays["views/size"], np.diff(indptr), axis=0)
    if (arrays["pairs/pixel"] >= pixel_end).any():
        raise HiclError(f"{where}: pairs/pixel lies outside its view")
    for name in ("pairs/raw", "pairs/refined"):
        labels = arrays[name]
        _in_range(labels[labels != NO_LABEL], 0, n_classes, f"{where}: {name}")
    if not np.isfinite(arrays["points/xyz"]).all():
        raise HiclError(f"{where}: points/xyz is not finite")


def _in_range(values: np.ndarray, low: int, end: int, what: str) -> None:
    if len(values) and (values.min() < low or values.max() >= end):
        raise HiclError(f"{what} holds {values.min()}..{values.max()}, expected {low}..{end - 1}")
