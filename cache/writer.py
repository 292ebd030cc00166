"""Writing a cache: stage a scene, check it, publish it whole.

One process publishes (`CacheWriter`, under a lock); any number of workers stage. A scene is built under
`.staging/<scene>` and moved to `scenes/<scene>` in one rename. Where it replaces a published one, the old one is first
moved to `.replaced/<scene>`; whoever opens the cache next undoes whatever a killed run left behind.
"""

import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np

from hicl.cache import manifest
from hicl.cache.schema import FORMAT, MAX_CLASSES, SCENE_ARRAYS, VERSION, chunking, validate
from hicl.errors import HiclError

_LEVELS = {"zstd": 5, "lz4hc": 9}

SCENES, STAGING, REPLACED = "scenes", ".staging", ".replaced"
_TEXT = ".text"  # the text's name while it is exchanged: no scene's folder is called so


def write_arrays(group_path: Path, arrays: dict[str, np.ndarray], attributes: dict) -> None:
    """Write arrays and attributes into a Zarr v3 group."""
    import zarr
    from zarr.codecs import BloscCodec

    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(group_path, mode="a", zarr_format=3)
        for name, array in arrays.items():
            spec = SCENE_ARRAYS[name]
            chunks, shards = chunking(spec, array.shape)
            # Neighbouring values share their high bytes: sorted by bytes, those shrink to next to nothing.
            packed = spec.codec and BloscCodec(cname=spec.codec, clevel=_LEVELS[spec.codec], shuffle="shuffle")
            group.create_array(name, data=array, chunks=chunks, shards=shards, filters=None, compressors=packed)
        group.update_attributes(attributes)


def stage_scene(
    cache: Path, scene: str, arrays: dict[str, np.ndarray], attributes: dict, n_classes: int, keep: list[str]
) -> None:
    """Build a scene under `.staging`: `arrays` are new, `keep` names those taken over from the published scene.

    attributes: `stages` (fingerprint of each stage), `counts`, `skipped` (frame → reason) and what else describes it.
    Raises `HiclError` if the scene as a whole doesn't keep to the schema; nothing is published by this function.
    """
    from hicl.cache.reader import SceneReader

    staging, published = cache / STAGING / scene, cache / SCENES / scene
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write_arrays(staging, arrays, attributes)
    for name in keep:
        _link_tree(published / name, staging / name)
        _group_metadata(staging / Path(name).parent)
    whole = SceneReader(staging)
    validate({name: whole.read(name) for name in whole.arrays()}, n_classes, f"scene {scene}")


def _link_tree(source: Path, target: Path) -> None:
    """Hard links where the file system has them: published files are never written to again."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def _group_metadata(path: Path) -> None:
    import zarr

    zarr.open_group(path, mode="a", zarr_format=3)


def tree_bytes(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class CacheWriter:
    """The one process that publishes. A context manager that holds the cache's lock.

    Raises `HiclError` where the folder holds something else, another dataset's cache, or another run is at work.
    """

    def __init__(self, path: Path, dataset: str):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise HiclError(f"{self.path}: is a file; give --out a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "zarr.json").exists():
            # A first run that was killed before its root was written leaves only hidden files of ours.
            ours = (STAGING, REPLACED, SCENES, "text", ".zarr.json")
            strangers = [entry.name for entry in self.path.iterdir() if entry.name not in ours]
            if strangers:
                raise HiclError(f"{self.path}: not a cache but holds {strangers[0]}; give --out a new folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.root = self._read_root(dataset)
            self._recover()
        except BlockingIOError:
            os.close(self._lock)
            raise HiclError(f"{self.path}: another hicl preprocess is writing to it; wait for it to end") from None
        except BaseException:
            os.close(self._lock)
            raise
        self.dataset = dataset

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path / STAGING, ignore_errors=True)
        shutil.rmtree(self.path / REPLACED, ignore_errors=True)
        os.close(self._lock)

    def _recover(self) -> None:
        replaced = self.path / REPLACED
        if replaced.is_dir():
            for old in replaced.iterdir():
                home = self.path / ("text" if old.name == _TEXT else f"{SCENES}/{old.name}")
                if old.name == _TEXT and self._text_cut_off():
                    shutil.rmtree(home, ignore_errors=True)
                if not home.exists():
                    os.replace(old, home)
        shutil.rmtree(replaced, ignore_errors=True)
        shutil.rmtree(self.path / STAGING, ignore_errors=True)

    def _text_cut_off(self) -> bool:
        """Whether the new text is in place but the root still speaks of the old one."""
        from hicl.cache.reader import text_fingerprint

        return self.root is not None and text_fingerprint(self.path) != self.root["text_fingerprint"]

    def _read_root(self, dataset: str) -> dict | None:
        if not (self.path / "zarr.json").exists():
            return None
        from hicl.cache.reader import read_root

        root = read_root(self.path)
        if root["dataset"] != dataset:
            raise HiclError(f"{self.path}: a cache of {root['dataset']}, not of {dataset}; give --out a new folder")
        return root

    def set_text(self, classes: tuple[str, ...], embedding: np.ndarray, fingerprint: str, attributes: dict) -> None:
        """Set the class list: embedding float32 [C, d], unit length, and the root attributes that say what it is.

        Published scenes whose labels were made with another text are stale from here on: readers pass them over.
        """
        if not 0 < len(classes) <= MAX_CLASSES or embedding.shape[0] != len(classes):
            raise HiclError(f"{self.path}: {len(classes)} classes with {embedding.shape[0]} embeddings")
        import zarr

        staging = self.path / STAGING / _TEXT
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        text = zarr.open_group(staging, mode="a", zarr_format=3)
        text.update_attributes({"fingerprint": fingerprint})
        text.create_array("embedding", data=np.ascontiguousarray(embedding, np.float32), chunks=embedding.shape)
        self._swap_in(_TEXT, self.path / "text")
        root = {"format": FORMAT, "version": VERSION, "dataset": self.dataset, "classes": list(classes)}
        root |= attributes | {"text_fingerprint": fingerprint}
        self._write_root(root)
        self._forget(_TEXT)  # only now: until the root says so, the old text is the one that counts

    def _write_root(self, attributes: dict) -> None:
        scenes = self.path / SCENES
        scenes.mkdir(exist_ok=True)
        _group_metadata(scenes)
        text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2)
        temporary = self.path / ".zarr.json"
        temporary.write_text(text)
        os.replace(temporary, self.path / "zarr.json")
        self.root = attributes

    def publish(self, scene: str) -> None:
        """Make a staged scene visible, in place of an older one if there is one."""
        self._swap_in(scene, self.path / SCENES / scene)
        self._forget(scene)

    def _swap_in(self, name: str, home: Path) -> None:
        if home.exists():
            (self.path / REPLACED).mkdir(exist_ok=True)
            os.replace(home, self.path / REPLACED / name)
        os.replace(self.path / STAGING / name, home)

    def _forget(self, name: str) -> None:
        shutil.rmtree(self.path / REPLACED / name, ignore_errors=True)

    def attributes(self, scene: str) -> dict | None:
        """Attributes of a published scene, or None."""
        from hicl.cache.reader import SceneReader

        path = self.path / SCENES / scene
        return SceneReader(path).attributes if (path / "zarr.json").exists() else None

    def write_manifest(self, touched: dict[str, tuple[str, str]]) -> None:
        """Write the manifest of all scenes.

        touched: scene → (split, error) of this run, an empty error meaning success; the rows of other scenes stay, but
        are stale if their labels belong to another class list.
        """
        old = {r["scene"]: r for r in manifest.read(self.path)} if (self.path / manifest.FILE).exists() else {}
        rows = []
        for scene in {*old, *touched, *self.published()}:
            attributes = self.attributes(scene)
            split, error = touched.get(scene, (None, None))
            if split is None:
                split = old[scene]["split"] if scene in old else (attributes or {}).get("split", "")
                error = old[scene]["error"] if scene in old else ""
            if attributes is None and not error:
                continue  # its folder was taken away by hand
            current = attributes is not None and attributes["stages"]["text"] == self.root["text_fingerprint"]
            state = manifest.FAILED if error else manifest.COMPLETE if current else manifest.STALE
            size = tree_bytes(self.path / SCENES / scene) if attributes else 0
            rows.append(manifest.row(scene, split, state, attributes, size, error))
        manifest.write(self.path, rows)

    def published(self) -> list[str]:
        """Names of all published scenes, stale ones too."""
        scenes = self.path / SCENES
        return sorted(entry.name for entry in scenes.iterdir() if entry.is_dir()) if scenes.is_dir() else []
