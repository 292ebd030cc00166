"""Reading a cache. Readers never write.

An array is read by `storage.py`, once for its bytes and their checksum; its values are looked at the first time that a
process meets them. A cache at a URL is read through `mirror.py`, in the same way.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hicl.cache import manifest, storage
from hicl.cache.attributes import attributes_of, group_attributes, item_attributes, root_of, scene_attributes
from hicl.cache.names import assert_plain, item_name, item_of
from hicl.cache.schema import (
    COUNTS,
    MAX_CLASSES,
    MAX_ITEMS,
    SCENE_ARRAYS,
    VERSION_OF_GROUPS,
    ArraySpec,
    assert_values,
)
from hicl.cache.schema import TEXT as TEXT_ARRAY
from hicl.cache.store import SCENES, TEXT, read_bytes
from hicl.cache.stores import open_store
from hicl.errors import HiclError

if TYPE_CHECKING:
    from hicl.cache.mirror import MirroredGroup


class Known(set[int]):
    """Arrays whose values were looked at, by a hash. bytes: all that was read of the disk so far, packed as it is."""

    bytes = 0


class Group:
    """Arrays in a folder: a scene's, or the text's.

    specs: those that there may be. sizes: what their letters stand for, as far as it is known. seen: of arrays whose
    values were looked at; all groups of a reader share it, so that an epoch doesn't look again. mirror: fetches arrays
    into the folder; None: they are there. item, shapes: as of `storage.read_array`.
    """

    def __init__(
        self,
        path: Path,
        specs: dict[str, ArraySpec],
        sizes: dict[str, int],
        seen: Known,
        mirror: "MirroredGroup | None" = None,
        item: storage.Item | None = None,
        shapes: dict[str, tuple[int, ...]] | None = None,
    ):
        self.path, self._specs, self._sizes, self._seen, self._mirror = path, specs, dict(sizes), seen, mirror
        self._item, self._shapes = item, shapes

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
        if not self._mirror:
            return self._read(name)
        self.folder(name)
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
        array, crc = storage.read_array(self.path, self._specs[name], self._sizes, self._item, self._shapes)
        # One number for each: an epoch of nuScenes meets 300,000 arrays.
        key = hash((str(self.path), name, self._item, array.shape, crc))
        if key not in self._seen:
            assert_values(name, array, self.read, self._sizes, str(self.path))
            self._seen.add(key)
        self._seen.bytes += self._stored(name)
        return array

    def _stored(self, name: str) -> int:
        """Bytes of an array's file; of a group's the part of one scene."""
        chunk = storage.files_of(self._specs[name], self._item is not None)[1]
        try:
            size = os.stat(f"{self.path}/{chunk}").st_size  # pathlib takes longer
        except FileNotFoundError:  # an array without rows
            return 0
        return size // self._item.of if self._item else size


class SceneReader(Group):
    """One scene's arrays and attributes, in a folder.

    scene_id: where the folder has another name. root: attributes of its cache, which say what labels there may be;
    None: any. attributes: its own, checked; None: they are read. The rest is `Group`'s. Raises `HiclError` if it isn't
    one.
    """

    def __init__(
        self,
        path: Path,
        scene_id: str | None = None,
        root: dict[str, Any] | None = None,
        seen: Known | None = None,
        mirror: "MirroredGroup | None" = None,
        attributes: dict | None = None,
        item: storage.Item | None = None,
        shapes: dict[str, tuple[int, ...]] | None = None,
    ):
        path = Path(path)
        self.id = scene_id or path.name
        if attributes is None:
            attributes = scene_attributes(read_bytes(path / "zarr.json"), mirror.where if mirror else path)
        self.attributes: dict = attributes
        counts = self.attributes["counts"]
        sizes = {letter: counts[name] for name, letter in COUNTS.items()} | {"C": MAX_CLASSES, "T": MAX_CLASSES}
        if root is not None:
            sizes["T"] = len(root["truth_classes"] or root["classes"])
            if self.attributes["stages"]["text"] == root["text_fingerprint"]:  # else its labels are of other classes
                sizes["C"] = len(root["classes"])
        super().__init__(path, SCENE_ARRAYS, sizes, Known() if seen is None else seen, mirror, item, shapes)

    @property
    def fingerprint(self) -> str:
        """Changes when anything that made one of the scene's arrays changes."""
        return _fingerprint(self.attributes)

    @property
    def origin(self) -> np.ndarray:
        """float64 [3]: to be added to points and poses for the scan's own coordinates; mostly 0."""
        return np.array(self.attributes.get("origin", (0, 0, 0)), np.float64)

    @property
    def turn(self) -> np.ndarray:
        """float64 [3, 3]: the rotation about `origin` by which points and poses were levelled; mostly none."""
        return np.array(self.attributes.get("turn", np.eye(3)), np.float64)


def _fingerprint(attributes: dict) -> str:
    return hashlib.sha256(json.dumps(attributes["stages"], sort_keys=True).encode()).hexdigest()[:16]


class CacheReader:
    """A cache. Attributes: path (or URL), classes (names in label order), dataset, teacher (its identity), fingerprint
    (of the text), grouped (whether its scenes lie together in groups). Made by `open_cache`."""

    def __init__(self, path: str | Path):
        self.path = path
        self._store = open_store(path)
        self.root = root_of(self._store.read("zarr.json"), path)
        self.dataset: str = self.root["dataset"]
        self.grouped = self.root["version"] == VERSION_OF_GROUPS
        self.classes: tuple[str, ...] = tuple(self.root["classes"])
        self.teacher: dict | None = self.root["teacher"]
        self.truth_classes: tuple[str, ...] = tuple(self.root["truth_classes"])
        self.fingerprint: str = self.root["text_fingerprint"]
        self._seen = Known()
        self._groups: dict[str, tuple[bytes, dict, dict]] = {}

    @property
    def bytes_read(self) -> int:
        """What was read so far of arrays, as they are packed."""
        return self._seen.bytes

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
        """A row for each scene or group: its split, its state, what went wrong, counts and fingerprints."""
        return manifest.parse(self._store.read(manifest.FILE), self.path)

    def splits(self) -> list[str]:
        """Splits with a complete scene."""
        return sorted({row["split"] for row in self.manifest if row["state"] == manifest.COMPLETE})

    def scene_ids(self, split: str | None = None) -> list[str]:
        """Complete, up-to-date scenes of a split (None: of all). Raises `HiclError` if there is none."""
        rows = [row for row in self.manifest if split in (None, row["split"])]
        complete = [name for row in rows if row["state"] == manifest.COMPLETE for name in manifest.scenes(row)]
        if not complete:
            what = f"split {split!r}" if split else "any split"
            states = ", ".join(f"{row['scene']} is {row['state']}" for row in rows[:3])
            raise HiclError(f"{self.path}: no complete scene in {what} ({states or 'none at all'}); preprocess it")
        return complete

    def published(self, scene_id: str) -> SceneReader | None:
        """One scene, stale or not; None if it isn't there."""
        assert_plain(scene_id, f"{self.path}/{SCENES}")
        if self.grouped:
            group, number = item_of(scene_id) or (scene_id, -1)
            found = self._items(group, [number]) if number >= 0 else None
            return found[0] if found else None
        place = self._place(f"{SCENES}/{scene_id}")
        if place is None:
            return None
        path, mirror = place
        return SceneReader(path, scene_id, self.root, self._seen, mirror)

    def group(self, name: str) -> list[SceneReader] | None:
        """All scenes of a group, stale or not; None if it isn't there."""
        assert_plain(name, f"{self.path}/{SCENES}")
        return self._items(name)

    def _items(self, group: str, numbers: Sequence[int] | None = None) -> list[SceneReader] | None:
        """Scenes of a group by their numbers, those that there are; None: all."""
        place = self._place(f"{SCENES}/{group}")
        if place is None:
            return None
        path, mirror = place
        where = mirror.where if mirror else path
        about, shapes = self._about(group, read_bytes(path / "zarr.json"), where)
        n = len(about["items"])
        return [
            SceneReader(
                path,
                item_name(group, i),
                self.root,
                self._seen,
                mirror,
                item_attributes(about, i, where),
                storage.Item(i, n),
                shapes,
            )
            for i in (range(n) if numbers is None else numbers)
            if i < n
        ]

    def _about(self, group: str, content: bytes | None, where: str | Path) -> tuple[dict, dict]:
        """(attributes of a group, shapes of its arrays as far as they are known): as they were found before where its
        zarr.json is the same, for nothing else of what is published is written to without it."""
        key = hashlib.sha256(content or b"").digest()
        known = self._groups.get(group)
        if known is None or known[0] != key:
            known = self._groups[group] = key, group_attributes(content, where), {}
        return known[1], known[2]

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
        places = [
            (item_of(scene_id) or (scene_id, MAX_ITEMS)) if self.grouped else (scene_id, 0) for scene_id in scene_ids
        ]
        groups = list(dict.fromkeys(group for group, _ in places))
        known: dict[str, tuple[dict, int]] = {}
        contents = self._store.read_many([f"{SCENES}/{group}/zarr.json" for group in groups])
        for group, (_, content) in zip(groups, contents, strict=True):
            if content is None:
                raise self._no_such(group)
            where = f"{self.path}/{SCENES}/{group}"
            attributes = group_attributes(content, where) if self.grouped else scene_attributes(content, where)
            self._assert_current(group, attributes)
            known[group] = attributes, len(attributes["items"]) if self.grouped else 1
        for scene_id, (group, number) in zip(scene_ids, places, strict=True):
            if number >= known[group][1]:
                raise self._no_such(scene_id)
        return [_fingerprint(known[group][0]) for group, _ in places]

    def split_fingerprint(self, split: str) -> str:
        """Changes when a scene of a split comes, goes or changes. Errors as of `scene`."""
        scenes = self.scene_ids(split)
        content = "\n".join(f"{scene} {found}" for scene, found in zip(scenes, self.fingerprints(scenes), strict=True))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _no_such(self, scene_id: str) -> HiclError:
        return HiclError(f"{self.path}/{SCENES}/{scene_id}: no such scene in this cache; `hicl preprocess` makes it")

    def _assert_current(self, scene_id: str, attributes: dict) -> None:
        where = f"{self.path}/{SCENES}/{scene_id}"
        if attributes["stages"]["text"] != self.fingerprint:
            raise HiclError(f"{where}: labelled with another class list than the cache's; preprocess it again")
