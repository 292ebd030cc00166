"""The table of arrays in a cache, and the check that a scene keeps to it. SPEC.md says the same in words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hicl.errors import HiclError

FORMAT = "hicl-cache"
VERSION = 3  # of a cache of single scenes
VERSION_OF_GROUPS = 4  # of one whose scenes lie together in groups
NO_LABEL = 255
MAX_CLASSES = 255
MAX_ITEMS = 1000  # scenes in a group

STAGES = ("points", "views", "sets", "features", "labels")
COUNTS = {"points": "N", "frames": "F", "pairs": "P", "sets": "K"}  # in a scene's attributes, and their letters


@dataclass(frozen=True)
class ArraySpec:
    """One array of a scene.

    shape: a number, or a letter that has one value in a scene (N points, M triangles, F frames, P pairs; h, w, d
    teacher grid; C classes of the cache).
    stage: the stage that writes it. codec: how Blosc packs it: what training reads, to unpack fast, the rest, to be
    small; None: stored as it is, so that a local reader maps the file into memory. In a group all is packed, such an
    array by `packed`. instead: of a required array, what it may be absent beside.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    stage: str
    codec: Literal["zstd", "lz4hc"] | None
    required: bool = True
    instead: str | None = None

    @property
    def packed(self) -> Literal["zstd", "lz4hc"]:
        return self.codec or "zstd"

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize


TEXT = ArraySpec("embedding", "<f4", ("C", "d"), "text", codec=None)
SCENE_ARRAYS = {
    spec.name: spec
    for spec in (
        ArraySpec("points/xyz", "<f4", ("N", 3), "points", codec=None),
        ArraySpec("points/rgb", "|u1", ("N", 3), "points", codec=None, instead="points/intensity"),
        ArraySpec("points/normal", "<f4", ("N", 3), "points", codec="zstd", instead="points/intensity"),
        ArraySpec("points/face", "<i4", ("M", 3), "points", codec="zstd", required=False),
        ArraySpec("points/intensity", "|u1", ("N",), "points", codec="zstd", required=False),
        ArraySpec("points/sweep", "|u1", ("N",), "points", codec="lz4hc", required=False),
        ArraySpec("points/valid", "|u1", ("N",), "points", codec="lz4hc", required=False),
        ArraySpec("points/label", "|u1", ("N",), "points", codec="zstd", required=False),
        ArraySpec("views/frame", "<i4", ("F",), "views", codec="zstd"),
        ArraySpec("views/pose", "<f8", ("F", 4, 4), "views", codec="zstd"),
        ArraySpec("views/intrinsics", "<f8", ("F", 4), "views", codec="zstd"),
        ArraySpec("views/size", "<i4", ("F", 2), "views", codec="zstd"),
        ArraySpec("pairs/indptr", "<i8", ("F+1",), "views", codec=None),
        ArraySpec("pairs/point", "<i4", ("P",), "views", codec="lz4hc"),
        ArraySpec("pairs/pixel", "<u2", ("P", 2), "views", codec="zstd"),
        ArraySpec("pairs/mask", "<i4", ("P",), "views", codec="zstd", required=False),
        ArraySpec("sets/id", "<i4", ("N",), "sets", codec="lz4hc"),
        ArraySpec("features/grid", "|i1", ("F", "h", "w", "d"), "features", codec="zstd", required=False),
        ArraySpec("features/scale", "<f4", ("F", "h", "w"), "features", codec="zstd", required=False),
        ArraySpec("pairs/raw", "|u1", ("P",), "labels", codec="lz4hc"),
        ArraySpec("pairs/refined", "|u1", ("P",), "labels", codec="lz4hc"),
        ArraySpec("points/spread", "|u1", ("N",), "labels", codec="lz4hc", required=False),
    )
}


def rows(spec: ArraySpec, sizes: dict[str, int]) -> int:
    """Length of an array's first axis where the letters stand for these sizes."""
    letter = spec.shape[0]
    return sizes["F"] + 1 if letter == "F+1" else sizes[str(letter)]


def chunking(
    spec: ArraySpec, shape: tuple[int, ...], grouped: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(chunks, shard) for an array of this shape: one chunk for all; in one shard, of a group, one a scene, and of the
    features, one a frame."""
    full = tuple(max(1, length) for length in shape)
    if grouped or spec.name == "features/grid":
        return (1, *full[1:]), full
    return full, None


def assert_shape(spec: ArraySpec, dtype: str, shape: tuple[int, ...], sizes: dict[str, int], where: str) -> None:
    """Check an array's type and shape; letters that `sizes` doesn't have yet are added. Raises `HiclError`."""
    if dtype != np.dtype(spec.dtype).name:
        raise HiclError(f"{where}: {spec.name} is {dtype}, expected {np.dtype(spec.dtype)}")
    if len(shape) != len(spec.shape):
        raise HiclError(f"{where}: {spec.name} has {len(shape)} axes, expected {len(spec.shape)}")
    for symbol, length in zip(spec.shape, shape, strict=True):
        if symbol == "F+1":
            symbol, length = "F", length - 1
        expected = sizes.setdefault(symbol, length) if isinstance(symbol, str) else symbol
        if length != expected or length < 0:
            raise HiclError(f"{where}: {spec.name} has shape {shape}, expected {spec.shape} with {sizes}")


def assert_values(
    name: str, array: np.ndarray, read: Callable[[str], np.ndarray], sizes: dict[str, int], where: str
) -> None:
    """Check that an array's values are what kernels may index by, and finite. Raises `HiclError`.

    read: gives the arrays that it is compared with. sizes: of the letters, with C and T, the numbers of classes and of
    those of the ground truth, and K, that of sets, if it is known.
    """
    what = f"{where}: {name}"
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise HiclError(f"{what} is not finite")
    elif name == "pairs/indptr":
        if array[0] != 0 or array[-1] != sizes["P"] or (array[1:] < array[:-1]).any():
            raise HiclError(f"{what} doesn't rise from 0 to {sizes['P']}")
    elif name in ("pairs/point", "points/face"):
        _in_range(array, 0, sizes["N"], what)
    elif name == "sets/id":
        _in_range(array, 0, sizes["N"], what)  # before a counter for each of them is asked for
        empty = np.flatnonzero(np.bincount(array) == 0)
        if len(empty):
            raise HiclError(f"{what} leaves out {empty[0]}; number the sets without gaps")
        found = int(array.max(initial=-1)) + 1
        if found != sizes.setdefault("K", found):
            raise HiclError(f"{what} counts {found} sets, expected {sizes['K']}")
    elif name == "points/valid":
        _in_range(array, 0, 2, what)
    elif name == "views/size":
        _in_range(array, 1, 1 << 16, what)
    elif name == "pairs/pixel":
        pixel_end = np.repeat(read("views/size"), np.diff(read("pairs/indptr")), axis=0)
        if (array >= pixel_end).any():
            raise HiclError(f"{what} lies outside its view")
    elif name in ("pairs/raw", "pairs/refined", "points/spread", "points/label"):
        end = sizes["T" if name == "points/label" else "C"]
        if len(array) and (array + np.uint8(1)).max() > end:  # 255 becomes 0
            _in_range(array[array != NO_LABEL], 0, end, what)


def validate(arrays: dict[str, np.ndarray], n_classes: int, where: str) -> dict[str, int]:
    """Check a whole scene's arrays: names, dtypes, shapes that agree, and indices inside their range.

    Returns the scene's sizes by their letters, with K, the number of sets. Raises `HiclError` naming `where` and the
    first array that is wrong.
    """
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        spec = SCENE_ARRAYS.get(name)
        if spec is None:
            raise HiclError(f"{where}: {name} is not an array of a cache; see cache/SPEC.md")
        assert_shape(spec, array.dtype.name, array.shape, sizes, where)
    lacking = missing(arrays)
    if lacking:
        raise HiclError(f"{where}: {lacking[0]} is missing")
    sizes |= {"C": n_classes, "T": MAX_CLASSES}
    for name in (name for name in SCENE_ARRAYS if name in arrays):  # what others are compared with comes before them
        assert_values(name, arrays[name], arrays.__getitem__, sizes, where)
    if "points/valid" in arrays and not arrays["points/valid"][arrays["pairs/point"]].all():
        raise HiclError(f"{where}: pairs/point holds points that points/valid says take no part")
    return sizes


def missing(names: Collection[str]) -> list[str]:
    """Arrays that a scene with these must have and hasn't."""
    required = [spec for spec in SCENE_ARRAYS.values() if spec.required and spec.instead not in names]
    lacking = [spec.name for spec in required if spec.name not in names]
    features = {"features/grid", "features/scale"}
    return lacking + (sorted(features - set(names)) if features & set(names) else [])


def _in_range(values: np.ndarray, low: int, end: int, what: str) -> None:
    if len(values) and (values.min() < low or values.max() >= end):
        raise HiclError(f"{what} holds {values.min()}..{values.max()}, expected {low}..{end - 1}")
