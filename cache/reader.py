"""Reading a cache. Readers never write.

An array is read by `storage.py`, once for its bytes and their checksum; its values are looked at the first time that a
process meets them. A cache at a URL is read through `mirror.py`, in the same way.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hicl.cache import manifest, storage
from hicl.cache.attributes import attributes_of, root_of, scene_attributes
from hicl.cache.names import assert_plain
from hicl.cache.schema import (
    COUNTS,
    MAX_CLASSES,
    SCENE_ARRAYS,
    ArraySpec,
    assert_values,
)
from hicl.cache.schema import TEXT as TEXT_ARRAY
from hicl.cache.store import SCENES, TEXT, read_bytes
from hicl.cache.stores import open_store
from hicl.errors import HiclError

if TYPE_CHECKING:
    from hicl.cache.mirror import MirroredGroup


class Group:
    """Arrays in a folder: a scene's, or the text's.

    specs: those that there may be. sizes: what their letters stand for, as far as it is known. seen: of arrays whose
    values were looked at; all groups of a reader share it, so that an epoch doesn't look again. mirror: fetches arrays
    into the folder; None: they are there.
    """

    def __init__(
        self,
        path: Path,
        specs: dict[str, ArraySpec],
        sizes: dict[str, int],
        seen: set,
        mirror: "MirroredGroup | None" = None,
    ):
        self.path, self._specs, self._sizes, self._seen, self._mirror = path, specs, dict(sizes), seen, mirror

    def has(self, name: str) -> bool:
        """Whether an array is there, by its name such as "points/xyz"."""
        return self._mirror.has(name) if self._mirror else (self.path / name / "zarr.json").exists()

    def arrays(self) -> list[str]:
        """Names of the arrays there are."""
        return [name for name in self._specs if self.has(name)]

    def folder(self, name: str) -> Path:
        """Where an array is, on this machine's disk."""
        if self._mirror:
            self._mirror.fetch(name)
        return self.path / name

    def read(self, name: str) -> np.ndarray:
        """A whole array, read-only. Raises `HiclError` if it is missing or damaged, or its values can't be."""
        self.folder(name)
        if not self._mirror:
            return self._read(name)
        try:
            return self._read(name)
        except HiclError:  # perhaps it is the mirror's disk that lost a bit
            self._mirror.forget(name)
        self.folder(name)
        try:
            return self._read(name)
        except HiclError as error:
            raise HiclError(str(error).replace(str(self.path), self._mirror.where)) from None

    def _read(self, name: str) -> np.ndarray:
        array, crc = storage.read_array(self.path, self._specs[name], self._sizes)
        key = (self.path, name, array.shape, crc)
        if key not in self._seen:
            assert_values(name, array, self.read, self._sizes, str(self.path))
            self._seen.add(key)
        return array


class SceneReader(Group):
    """One scene's arrays and attributes, in a folder.

    scene_id: where the folder has another name. root: attributes of its cache, which say what labels there may be;
    None: any. The rest is `Group`'s. Raises `HiclError` if it isn't one.
    """

    def __init__(
        self,
        path: Path,
        scene_id: str | None = None,
        root: dict[str, Any] | None = None,
        seen: set | None = None,
        mirror: "MirroredGroup | None" = None,
    ):
        path = Path(path)
        self.id = scene_id or path.name
        content = read_bytes(path / "zarr.json")
        self.attributes = scene_attributes(content, mirror.where if mirror else path)
        counts = self.attributes["counts"]
        sizes = {letter: counts[name] for name, letter in COUNTS.items()} | {"C": MAX_CLASSES, "T": MAX_CLASSES}
        if root is not None:
            sizes["T"] = len(root["truth_classes"] or root["classes"])
            if self.attributes["stages"]["text"] == root["text_fingerprint"]:  # else its labels are of other classes
                sizes["C"] = len(root["classes"])
        super().__init__(path, SCENE_ARRAYS, sizes, set() if seen is None else seen, mirror)

    @property
    def fingerprint(self) -> str:
        """Changes when anything that made one of the scene's arrays changes."""
        return _fingerprint(self.attributes)

    @property
    def origin(self) -> np.ndarray:
        """float64 [3]: to be added to points and poses for the scan's own coordinates; mostly 0."""
        return np.array(self.attributes.get("origin", (0, 0, 0)), np.float64)


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
        self.teacher: dict | None = self.root["teacher"]
        self.truth_classes: tuple[str, ...] = tuple(self.root["truth_classes"])
        self.fingerprint: str = self.root["text_fingerprint"]
        self._seen: set = set()

    def _place(self, name: str) -> "tuple[Path, MirroredGroup | None] | None":
        """(folder of a group on this machine's disk, what fetches its arrays there), or None if it isn't there."""
        path = Path(self.path, name)
        return (path, None) if (path / "zarr.json").exists() else None

    @cached_property
    def text(self) -> np.ndarray:
        """Text embedding float32 [C, d], unit length. Raises `HiclError` if a change of classes was cut off halfway."""
        place = self._place(TEXT)
        found = place and attributes_of(read_bytes(place[0] / "zarr.json"), f"{self.path}/{TEXT}").get("fingerprint")
        if place is None or found != self.fingerprint:
            raise HiclError(f"{self.path}: a change of its class list was cut off; run `hicl preprocess` again")
        path, mirror = place
        sizes = {"C": len(self.classes)}
        return Group(path, {TEXT_ARRAY.name: TEXT_ARRAY}, sizes, self._seen, mirror).read(TEXT_ARRAY.name)

    @cached_property
    def manifest(self) -> list[dict]:
        """A row for each scene: its split, its state, what went wrong, counts and fingerprints."""
        return manifest.parse(self._store.read(manifest.FILE), self.path)

    def splits(self) -> list[str]:
        """Splits with a complete scene."""
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
        assert_plain(scene_id, f"{self.path}/{SCENES}")
        place = self._place(f"{SCENES}/{scene_id}")
        if place is None:
            return None
        path, mirror = place
        return SceneReader(path, scene_id, self.root, self._seen, mirror)

    def scene(self, scene_id: str) -> SceneReader:
        """One scene. Raises `HiclError` if it isn't there or its labels belong to another class list."""
        scene = self.published(scene_id)
        if scene is None:
            raise self._no_such(scene_id)
        self._assert_current(scene_id, scene.attributes)
        return scene

    def fingerprints(self, scene_ids: Sequence[str]) -> list[str]:
        """`SceneReader.fingerprint` of many scenes, asked for all at once. Errors as of `scene`."""
        for scene_id in scene_ids:
            assert_plain(scene_id, f"{self.path}/{SCENES}")
        contents = self._store.read_many([f"{SCENES}/{scene_id}/zarr.json" for scene_id in scene_ids])
        found = []
        for scene_id, (name, content) in zip(scene_ids, contents, strict=True):
            if content is None:
                raise self._no_such(scene_id)
            attributes = scene_attributes(content, f"{self.path}/{name.removesuffix('/zarr.json')}")
            self._assert_current(scene_id, attributes)
            found.append(_fingerprint(attributes))
        return found

    def _no_such(self, scene_id: str) -> HiclError:
        return HiclError(f"{self.path}/{SCENES}/{scene_id}: no such scene in this cache; `hicl preprocess` makes it")

    def _assert_current(self, scene_id: str, attributes: dict) -> None:
        where = f"{self.path}/{SCENES}/{scene_id}"
        if attributes["stages"]["text"] != self.fingerprint:
            raise HiclError(f"{where}: labelled with another class list than the cache's; preprocess it again")
