"""Reading a cache. Readers never write.

An array that is stored uncompressed in one chunk is one file holding just its bytes, so it is mapped into memory
instead of going through the Zarr API (about 1 ms a scene instead of 10 to 30); every other Zarr reader sees the same
arrays. A cache at a URL is read through `mirror.py`, in the same way.
"""

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.cache import manifest
from hicl.cache.schema import FORMAT, SCENE_ARRAYS, VERSION
from hicl.cache.store import SCENES, TEXT, attributes_of, is_url, open_store, read_bytes
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


def root_of(content: bytes | None, where: str | Path) -> dict:
    """Attributes in a cache's zarr.json. Raises `HiclError` unless it is one that this version knows."""
    root = attributes_of(content, where)
    if root.get("format") != FORMAT:
        raise HiclError(f"{where}: not a cache of hicl (format {root.get('format')!r}, expected {FORMAT!r})")
    if root.get("version") != VERSION:
        raise HiclError(
            f"{where}: cache version {root.get('version')}, this hicl knows {VERSION}; preprocess into a new folder"
        )
    return root


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
    """One scene's arrays and attributes, in a folder; scene_id where the folder has another name."""

    def __init__(self, path: Path, scene_id: str | None = None):
        self.path = Path(path)
        self.id = scene_id or self.path.name
        self.attributes = attributes_of(read_bytes(self.path / "zarr.json"), self.path)

    @property
    def fingerprint(self) -> str:
        """Changes when anything that made one of the scene's arrays changes."""
        return _fingerprint(self.attributes)

    @property
    def origin(self) -> np.ndarray:
        """float64 [3]: to be added to points and poses for the scan's own coordinates; mostly 0."""
        return np.array(self.attributes.get("origin", (0, 0, 0)), np.float64)

    def has(self, name: str) -> bool:
        return (self.path / name / "zarr.json").exists()

    def arrays(self) -> list[str]:
        return [name for name in SCENE_ARRAYS if self.has(name)]

    def folder(self, name: str) -> Path:
        """Where an array is, on this machine's disk."""
        return self.path / name

    def read(self, name: str) -> np.ndarray:
        """A whole array, read-only. Raises `HiclError` if it is missing or damaged."""
        return read_array(self.folder(name))


def _fingerprint(attributes: dict) -> str:
    return hashlib.sha256(json.dumps(attributes["stages"], sort_keys=True).encode()).hexdigest()[:16]


class CacheReader:
    """A cache. Attributes: path (or URL), classes (names in label order), dataset, teacher (its identity), fingerprint
    (of the text). Made by `open_cache`."""

    def __init__(self, path: str | Path):
        self.path = path
        self._store = open_store(path)
        self.root = root_of(self._store.read("zarr.json"), path)
        self.dataset: str = self.root["dataset"]
        self.classes: tuple[str, ...] = tuple(self.root["classes"])
        self.teacher: dict | None = self.root.get("teacher")
        self.truth_classes: tuple[str, ...] = tuple(self.root.get("truth_classes", ()))
        self.fingerprint: str = self.root["text_fingerprint"]

    def _group(self, name: str) -> SceneReader | None:
        path = Path(self.path, name)
        return SceneReader(path) if (path / "zarr.json").exists() else None

    @cached_property
    def text(self) -> np.ndarray:
        """Text embedding float32 [C, d], unit length. Raises `HiclError` if a change of classes was cut off halfway."""
        text = self._group(TEXT)
        if text is None or text.attributes.get("fingerprint") != self.fingerprint:
            raise HiclError(f"{self.path}: a change of its class list was cut off; run `hicl preprocess` again")
        return text.read("embedding")

    @cached_property
    def manifest(self) -> list[dict]:
        return manifest.parse(self._store.read(manifest.FILE), self.path)

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

    def published(self, scene_id: str) -> SceneReader | None:
        """One scene, stale or not; None if it isn't there."""
        return self._group(f"{SCENES}/{scene_id}")

    def scene(self, scene_id: str) -> SceneReader:
        """One scene. Raises `HiclError` if it isn't there or its labels belong to another class list."""
        scene = self.published(scene_id)
        self._assert_current(scene_id, scene and scene.attributes)
        return scene

    def fingerprints(self, scene_ids: Sequence[str]) -> list[str]:
        """`SceneReader.fingerprint` of many scenes, asked for all at once. Errors as of `scene`."""
        contents = self._store.read_many([f"{SCENES}/{scene_id}/zarr.json" for scene_id in scene_ids])
        found = []
        for scene_id, (name, content) in zip(scene_ids, contents, strict=True):
            attributes = content and attributes_of(content, f"{self.path}/{name.removesuffix('/zarr.json')}")
            self._assert_current(scene_id, attributes)
            found.append(_fingerprint(attributes))
        return found

    def _assert_current(self, scene_id: str, attributes: dict | None) -> None:
        where = f"{self.path}/{SCENES}/{scene_id}"
        if attributes is None:
            raise HiclError(f"{where}: no such scene in this cache; `hicl preprocess` makes it")
        if attributes["stages"]["text"] != self.fingerprint:
            raise HiclError(f"{where}: labelled with another class list than the cache's; preprocess it again")


def open_cache(location: str | Path, mirror: Path | None = None) -> CacheReader:
    """Open a cache: a folder, or a URL of any file system that fsspec knows.

    mirror: where a remote cache is fetched to; None: the user's cache folder.
    Raises `HiclError` if there is none, or one of another version.
    """
    if is_url(location):
        from hicl.cache.mirror import MirroredCache

        return MirroredCache(str(location), mirror)
    if not Path(location).is_dir():
        raise HiclError(f"{location}: no such folder; make a cache with `hicl preprocess`")
    return CacheReader(location)
