"""Writing a cache: stage a scene, check it, publish it whole.

One process publishes (`CacheWriter`); any number of workers stage (`staging`), here or on other machines. A scene is
built under a name that no other attempt at it has, so that one which was given up for lost may go on writing unheeded.
`store.py` and `remote.py` say how it gets to its place, and what becomes of it after a kill.
"""

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache import manifest, schema, storage
from hicl.cache.attributes import group_attributes, item_attributes, root_of, scene_attributes
from hicl.cache.names import assert_plain, item_name
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import (
    COUNTS,
    FORMAT,
    MAX_CLASSES,
    MAX_ITEMS,
    SCENE_ARRAYS,
    VERSION,
    VERSION_OF_GROUPS,
    ArraySpec,
    assert_shape,
    validate,
)
from hicl.cache.store import SCENES, TEXT, Folder
from hicl.cache.stores import open_store
from hicl.errors import HiclError
from hicl.files import naming

if TYPE_CHECKING:
    from hicl.cache.remote import RemoteStore

_zarr = threading.Lock()  # its settings are the whole process's, and a worker of Dask may have several threads


def write_arrays(group_path: Path, arrays: dict[str, np.ndarray], attributes: dict, grouped: bool = False) -> None:
    """Write arrays and attributes into a Zarr v3 group; grouped: arrays whose first axis counts scenes."""
    import zarr

    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(group_path, mode="a", zarr_format=3)
        for name, array in arrays.items():
            with naming(group_path / name):
                storage.write_array(group, name, SCENE_ARRAYS[name], array, grouped)
        group.update_attributes(attributes)


@contextlib.contextmanager
def staging(location: str | Path) -> Iterator["Stage"]:
    """A place to build scenes of the cache at a location, as long as the block lasts. Raises `HiclError`."""
    store = open_store(location)
    with store.workplace() as folder:
        yield Stage(store, open_cache(location, folder / "mirror"), folder)


class Stage:
    """What a worker needs of a cache: `cache`, to read what is published, and `build` or, in a cache of groups,
    `build_group`, which publish nothing."""

    def __init__(self, store: "Folder | RemoteStore", cache: CacheReader, folder: Path):
        self._store, self.cache, self._folder = store, cache, folder

    def build(self, scene: str, arrays: dict[str, np.ndarray], attributes: dict, keep: list[str]) -> str:
        """Build a scene: `arrays` are new, `keep` names those taken over from the published scene.

        attributes: `stages` (fingerprint of each stage), `skipped` (frame → reason) and what else describes it;
        `counts` and `digest` are added. Returns the name to publish it by. Raises `HiclError` if the scene as a whole
        doesn't keep to the schema.
        """
        assert_plain(scene, self._folder)
        folder = _new_folder(self._folder, scene)
        with _zarr:
            write_arrays(folder, arrays, {})
        if keep:
            published = self.cache.published(scene)
            if published is None:
                raise self._went_away(scene)
            _take_over(published, folder, keep, grouped=False)
        specs = [SCENE_ARRAYS[name] for name in (*arrays, *keep)]
        sizes: dict[str, int] = {}
        whole = {spec.name: storage.read_array(folder, spec, sizes)[0] for spec in specs}
        sizes = validate(whole, len(self.cache.classes), f"scene {scene}")
        counts = {name: sizes[letter] for name, letter in COUNTS.items()}
        with _zarr:
            write_arrays(folder, {}, attributes | {"counts": counts, "digest": storage.digest(folder, specs)})
        self._store.stage(folder, keep)
        return folder.name

    def build_group(self, group: str, items: Iterable[tuple[dict, dict]], attributes: dict, keep: list[str]) -> str:
        """Build a group of scenes, each (its new arrays, its own attributes); `keep` names the arrays that all of them
        take over from the published group, whose scenes are then as many and in the same order.

        An item's attributes: `skipped` (frame → reason) and what else describes it alone, as `frame_names` and `token`;
        `counts` are added. attributes: `split`, `stages`, `settings`, `teacher` and what else they share; `items` and
        `digest` are added. Returns the name to publish it by. Raises `HiclError` if a scene doesn't keep to the schema.
        """
        assert_plain(group, self._folder)
        own, abouts = self._collected(group, items)
        published = self.cache.group(group) if keep else None
        if keep and (published is None or len(published) != len(abouts)):
            raise self._went_away(group)
        folder = _new_folder(self._folder, group)
        with _zarr:
            write_arrays(folder, {}, {})
            for name in own:
                write_arrays(folder, {name: storage.stacked(SCENE_ARRAYS[name], own[name])}, {}, grouped=True)
        if published:
            _take_over(published[0], folder, keep, grouped=True)
        specs = [SCENE_ARRAYS[name] for name in (*own, *keep)]
        described = []
        for number, about in enumerate(abouts):
            where, item = f"scene {item_name(group, number)}", storage.Item(number, len(abouts))
            sizes: dict[str, int] = {}
            for name in own:
                assert_shape(SCENE_ARRAYS[name], own[name][number].dtype.name, own[name][number].shape, sizes, where)
            if published:
                old = published[number].attributes["counts"]
                sizes = {letter: old[name] for name, letter in COUNTS.items()} | sizes
            whole = {spec.name: storage.read_array(folder, spec, sizes, item)[0] for spec in specs}
            sizes = validate(whole, len(self.cache.classes), where)
            described.append(about | {"counts": {name: sizes[letter] for name, letter in COUNTS.items()}})
        digest = storage.digest(folder, specs, grouped=True)
        with _zarr:
            write_arrays(folder, {}, attributes | {"items": described, "digest": digest})
        self._store.stage(folder, keep)
        return folder.name

    def _collected(
        self, group: str, items: Iterable[tuple[dict, dict]]
    ) -> tuple[dict[str, list[np.ndarray]], list[dict]]:
        """(arrays of all items by name, attributes of each). Raises `HiclError` where they have not the same arrays."""
        own: dict[str, list[np.ndarray]] = {}
        abouts: list[dict] = []
        for arrays, about in items:
            where = f"scene {item_name(group, len(abouts))}"
            if abouts and set(arrays) != set(own):
                name = min(set(arrays) ^ set(own))
                raise HiclError(f"{where}: {name} is {'missing' if name in own else 'not in the scenes before it'}")
            for name, array in arrays.items():
                if name not in SCENE_ARRAYS:
                    raise HiclError(f"{where}: {name} is not an array of a cache; see cache/SPEC.md")
                own.setdefault(name, []).append(array)
            abouts.append(about)
        if not 0 < len(abouts) <= MAX_ITEMS:
            raise HiclError(f"group {group}: {len(abouts)} scenes, expected 1 to {MAX_ITEMS}")
        return own, abouts

    def _went_away(self, name: str) -> HiclError:
        return HiclError(f"{self.cache.path}: {name} went away while it was made anew; preprocess again")


def _take_over(published: SceneReader, folder: Path, keep: list[str], grouped: bool) -> None:
    for name in keep:
        published.folder(name)
        _link_array(published.path, folder, SCENE_ARRAYS[name], grouped)
        _group_metadata(folder / Path(name).parent)


def _new_folder(parent: Path, name: str) -> Path:
    folder = parent / f"{name}.{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    return folder


def _link_array(source: Path, target: Path, spec: ArraySpec, grouped: bool) -> None:
    """An array of one scene's folder into another's: hard links where the file system has them, as published files are
    never written to again."""
    for name in storage.files_of(spec, grouped):
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copyfile(source / name, target / name)


def _group_metadata(path: Path) -> None:
    import zarr

    zarr.open_group(path, mode="a", zarr_format=3)


class CacheWriter:
    """The one process that publishes: a context manager. In a folder it holds the cache's lock.

    grouped: whether it is a cache of groups of scenes; what is published by one name, a scene below, is then a group.
    rows: a row of the manifest for each published scene, as the scene's own attributes say.

    Raises `HiclError` where the location holds something else, another dataset's cache, or another run is at work.
    """

    def __init__(self, location: str | Path, dataset: str, grouped: bool = False):
        self.path, self.dataset, self.grouped = location, dataset, grouped
        self.version = VERSION_OF_GROUPS if grouped else VERSION
        self.store = open_store(location)
        self._assert_ours()
        self.store.lock()
        try:
            self.root = self._read_root()
            self.store.recover()
            self.root = self._read_root()
            self._old = self._read_manifest()
            self.rows = {scene: self._known_row(scene, attributes) for scene, attributes in self.published()}
        except BaseException:
            self.store.unlock()
            raise

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.store.recover()  # and not just tidy: a publishing may have failed halfway
        finally:
            self.store.unlock()

    def _assert_ours(self) -> None:
        entries = self.store.entries()
        strangers = sorted(set(entries) - {*self.store.leftovers})
        if strangers and "zarr.json" not in entries:
            raise HiclError(f"{self.path}: not a cache but holds {strangers[0]}; give --out a new folder")

    def _read_root(self) -> dict | None:
        content = self.store.read("zarr.json")
        if content is None:
            return None
        root = root_of(content, self.path)
        if root["dataset"] != self.dataset:
            raise HiclError(
                f"{self.path}: a cache of {root['dataset']}, not of {self.dataset}; give --out a new folder"
            )
        if root["version"] != self.version:
            raise HiclError(
                f"{self.path}: cache version {root['version']}, not {self.version}; give --out a new folder"
            )
        return root

    def _read_manifest(self) -> dict[str, dict]:
        content = self.store.read(manifest.FILE)
        try:
            return {row["scene"]: row for row in manifest.parse(content, self.path)} if content is not None else {}
        except HiclError:
            return {}  # an index only: it is written anew

    def published(self) -> Iterator[tuple[str, dict]]:
        """(name, attributes) of every published scene, stale ones too; not of one whose zarr.json is damaged, which the
        next scene of that name replaces."""
        names = [f"{SCENES}/{scene}/zarr.json" for scene in self.store.scenes()]
        for name, content in self.store.read_many(names):
            group = name.removesuffix("/zarr.json")
            try:
                attributes = content and self._described(content, f"{self.path}/{group}")
            except HiclError:
                continue
            if attributes:
                yield group.removeprefix(f"{SCENES}/"), attributes

    def attributes(self, scene: str) -> dict | None:
        """Of a published scene, or None."""
        group = f"{SCENES}/{scene}"
        content = self.store.read(f"{group}/zarr.json") if scene in self.rows else None
        return None if content is None else self._described(content, f"{self.path}/{group}")

    def _described(self, content: bytes | None, where: str) -> dict:
        """Checked attributes of a scene, or of a group with those of all its items."""
        if not self.grouped:
            return scene_attributes(content, where)
        attributes = group_attributes(content, where)
        for number in range(len(attributes["items"])):
            item_attributes(attributes, number, where)
        return attributes

    def _known_row(self, scene: str, attributes: dict) -> dict:
        """The row of a scene; its bytes are counted anew only where the old row is of other contents."""
        old = self._old.get(scene)
        row = self._row(scene, attributes, old["bytes"] if old else 0)
        if old and all(old[key] == row[key] for key in row if key not in ("state", "error")):
            return row
        return self._row(scene, attributes, self.store.size(f"{SCENES}/{scene}"))

    def _row(self, scene: str, attributes: dict, size: int) -> dict:
        return manifest.row(scene, attributes["split"], manifest.COMPLETE, attributes, size, grouped=self.grouped)

    def set_text(self, classes: tuple[str, ...], embedding: np.ndarray, fingerprint: str, attributes: dict) -> None:
        """Set the class list: embedding float32 [C, d], unit length, and the root attributes that say what it is.

        Published scenes whose labels were made with another text are stale from here on: readers pass them over.
        """
        if not 0 < len(classes) <= MAX_CLASSES or embedding.shape[0] != len(classes):
            raise HiclError(f"{self.path}: {len(classes)} classes with {embedding.shape[0]} embeddings")
        import zarr

        root = {"format": FORMAT, "version": self.version, "dataset": self.dataset, "classes": list(classes)}
        root |= attributes | {"text_fingerprint": fingerprint}
        with self.store.workplace() as parent:
            folder = _new_folder(parent, TEXT)
            text = zarr.open_group(folder, mode="a", zarr_format=3)
            text.update_attributes({"fingerprint": fingerprint})
            storage.write_array(text, schema.TEXT.name, schema.TEXT, np.ascontiguousarray(embedding, np.float32))
            self.store.stage(folder, [])
        if self.store.read(f"{SCENES}/zarr.json") is None:
            self.store.write(f"{SCENES}/zarr.json", _group({}))
        self.store.publish(folder.name, TEXT, _group(root))
        self.root = root

    def remove(self, scene: str) -> None:
        """Take a scene away, if it is there."""
        if scene in self.store.scenes():
            self.store.remove(f"{SCENES}/{scene}")
        self.rows.pop(scene, None)

    def publish(self, scene: str, staged: str) -> None:
        """Make a staged scene visible, in place of an older one if there is one."""
        assert_plain(scene, self.path)
        self.store.publish(staged, f"{SCENES}/{scene}")
        group = f"{SCENES}/{scene}"
        attributes = self._described(self.store.read(f"{group}/zarr.json"), f"{self.path}/{group}")
        self.rows[scene] = self._row(scene, attributes, self.store.size(group))

    def write_manifest(self, touched: dict[str, tuple[str, str]]) -> None:
        """Write the manifest of all scenes, if it isn't the same as it was.

        touched: scene → (split, error) of this run, an empty error meaning success; the rows of other scenes stay, but
        are stale if their labels belong to another class list.
        """
        rows = []
        for scene in sorted({*self._old, *touched, *self.rows}):
            old, row = self._old.get(scene), self.rows.get(scene)
            known = old or row or {}  # each of the three names scenes that the other two may not
            split, error = touched[scene] if scene in touched else (known["split"], known["error"])
            if row is None and not error:
                continue  # its folder was taken away by hand
            row = row or manifest.row(scene, split, manifest.FAILED, None, grouped=self.grouped)
            current = self.root is not None and row["text_fingerprint"] == self.root["text_fingerprint"]
            state = manifest.FAILED if error else manifest.COMPLETE if current else manifest.STALE
            rows.append(row | {"split": split, "state": state, "error": error})
        if rows != list(self._old.values()):
            self.store.write(manifest.FILE, manifest.encode(rows))


def _group(attributes: dict) -> bytes:
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2).encode()
