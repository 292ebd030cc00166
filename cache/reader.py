"""Reading a cache. Readers never write.

An array that is stored uncompressed in one chunk is one file holding just its bytes, so it is mapped into memory
instead of going through the Zarr API (about 1 ms a scene instead of 10 to 30); every other Zarr reader sees the same
arrays.
"""

import hashlib
import json
import math
import struct
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.cache import manifest
from hicl.cache.schema import FORMAT, SCENE_ARRAYS, VERSION
from hicl.errors import HiclError


def _read_json(path: Path) -> dict:
    try:
        metadata = json.loads(path.read_text())
    except FileNotFoundError:
        raise HiclError(f"{path}: missing; not a cache, or one that lost files: run `hicl preprocess` again") from None
    except (OSError, ValueError) as error:
        raise HiclError(f"{path}: unreadable ({error})") from None
    if not isinstance(metadata, dict):
        raise HiclError(f"{path}: not the metadata of a Zarr node")
    return metadata


def read_root(path: Path) -> dict:
    """Root attributes of a cache. Raises `HiclError` unless it is one that this version knows."""
    root = _read_json(Path(path) / "zarr.json").get("attributes", {})
    if root.get("format") != FORMAT:
        raise HiclError(f"{path}: not a cache of hicl (format {root.get('format')!r}, expected {FORMAT!r})")
    if root.get("version") != VERSION:
        raise HiclError(f"{path}: cache version {root.get('version')}, this hicl knows {VERSION}; preprocess again")
    return root


def text_fingerprint(path: Path) -> str | None:
    """Fingerprint that the text in a cache was stored with; None if there is none."""
    try:
        return _read_json(Path(path) / "text" / "zarr.json").get("attributes", {}).get("fingerprint")
    except HiclError:
        return None


def read_array(path: Path) -> np.ndarray:
    """One Zarr v3 array, read-only: mapped where it is a single uncompressed chunk, unpacked here where it is a single
    one of Blosc's, else through the Zarr API.

    Raises `HiclError` if it is missing or damaged.
    """
    meta = _read_json(path / "zarr.json")
    try:
        shape, dtype = tuple(meta["shape"]), np.dtype(meta["data_type"]).newbyteorder("<")
        chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        keys = meta["chunk_key_encoding"]
        usual = keys["name"] == "default" and keys.get("configuration", {}).get("separator", "/") == "/"
        codec, *more = meta["codecs"]
        little = codec["name"] == "bytes" and codec.get("configuration", {}).get("endian", "little") == "little"
        whole = usual and little and chunk == shape
        blosc = [codec["name"] for codec in more] == ["blosc"]
    except (KeyError, TypeError, ValueError):
        raise HiclError(f"{path}: not the metadata of an array; delete the scene and preprocess again") from None
    file = path.joinpath("c", *("0" * len(shape)))
    if math.prod(shape) == 0:
        array = np.empty(shape, dtype)
    elif whole and not more:
        expected = math.prod(shape) * dtype.itemsize
        found = file.stat().st_size if file.exists() else 0
        if found != expected:
            raise HiclError(f"{file}: {found} bytes, expected {expected}; delete the scene and preprocess again")
        # np.asarray drops the memmap class: its arrays are several times slower to slice.
        array = np.asarray(np.memmap(file, dtype, "r", shape=shape))
    elif whole and blosc:
        array = _unpack(file, dtype, shape)
    else:
        import zarr

        if usual and not (file.exists() and file.stat().st_size):  # Zarr would fill in zeros
            raise HiclError(f"{file}: missing or empty; delete the scene and preprocess again")
        try:
            array = np.asarray(zarr.open_array(path, mode="r")[...])
        except Exception as error:  # each codec has its own
            raise HiclError(f"{path}: damaged ({error}); delete the scene and preprocess again") from None
    array.flags.writeable = False
    return array


def _unpack(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A chunk of Blosc's. Its header says how many bytes it has and unpacks to; checked before it is touched."""
    from numcodecs import blosc

    array = np.empty(shape, dtype)
    try:
        data = file.read_bytes()
        unpacked, _, packed = struct.unpack("<3I", data[4:16])
        if (unpacked, packed) != (array.nbytes, len(data)):
            raise ValueError(f"{len(data)} bytes")
        blosc.decompress(data, array)
    except (OSError, struct.error, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HiclError(f"{file}: damaged ({reason}); delete the scene and preprocess again") from None
    return array


class SceneReader:
    """One scene's arrays and attributes."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.id = self.path.name
        self.attributes: dict = _read_json(self.path / "zarr.json").get("attributes", {})

    @property
    def fingerprint(self) -> str:
        """Changes when anything that made one of the scene's arrays changes."""
        stages = json.dumps(self.attributes["stages"], sort_keys=True)
        return hashlib.sha256(stages.encode()).hexdigest()[:16]

    def has(self, name: str) -> bool:
        return (self.path / name / "zarr.json").exists()

    def arrays(self) -> list[str]:
        return [name for name in SCENE_ARRAYS if self.has(name)]

    def read(self, name: str) -> np.ndarray:
        """A whole array, read-only. Raises `HiclError` if it is missing or damaged."""
        return read_array(self.path / name)


class CacheReader:
    """A cache on a local disk. Attributes: classes (names in label order), dataset, teacher (its identity), fingerprint
    (of the text)."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.root = read_root(self.path)
        self.dataset: str = self.root["dataset"]
        self.classes: tuple[str, ...] = tuple(self.root["classes"])
        self.teacher: dict | None = self.root.get("teacher")
        self.truth_classes: tuple[str, ...] = tuple(self.root.get("truth_classes", ()))
        self.fingerprint: str = self.root["text_fingerprint"]

    @cached_property
    def text(self) -> np.ndarray:
        """Text embedding float32 [C, d], unit length. Raises `HiclError` if a change of classes was cut off halfway."""
        if text_fingerprint(self.path) != self.fingerprint:
            raise HiclError(f"{self.path}: a change of its class list was cut off; run `hicl preprocess` again")
        return read_array(self.path / "text" / "embedding")

    @cached_property
    def manifest(self) -> list[dict]:
        return manifest.read(self.path)

    def splits(self) -> list[str]:
        return sorted({row["split"] for row in self.manifest if row["state"] == manifest.COMPLETE})

    def scene_ids(self, split: str | None = None) -> list[str]:
        """Complete, up-to-date scenes of a split (None: of all). Raises `HiclError` if there is none."""
        rows = [row for row in self.manifest if split in (None, row["split"])]
        complete = [row["scene"] for row in rows if row["state"] == manifest.COMPLETE]
        if not complete:
            what = f"split {split!r}" if split else "any split"
            states = ", ".join(f"{row['scene']} is {row['state']}" for row in rows[:3])
            raise HiclError(f"{self.path}: no complete scene in {what} ({states or 'none at all'}); preprocess it")
        return complete

    def scene(self, scene_id: str) -> SceneReader:
        """One scene. Raises `HiclError` if it isn't there or its labels belong to another class list."""
        path = self.path / "scenes" / scene_id
        if not (path / "zarr.json").exists():
            raise HiclError(f"{path}: no such scene in this cache; `hicl preprocess` makes it")
        scene = SceneReader(path)
        if scene.attributes["stages"]["text"] != self.fingerprint:
            raise HiclError(f"{path}: labelled with another class list than the cache's; preprocess it again")
        return scene


def open_cache(path: Path) -> CacheReader:
    """Open a cache. Raises `HiclError` if there is none, or one of another version."""
    if not Path(path).is_dir():
        raise HiclError(f"{path}: no such folder; make a cache with `hicl preprocess`")
    return CacheReader(path)
