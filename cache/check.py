"""Looking over a whole cache: every byte's checksum, every scene's digest, every value that something indexes by."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from hicl.cache import storage
from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import SCENE_ARRAYS
from hicl.cache.store import SCENES, is_url
from hicl.cache.stores import open_store
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.progress import Progress


def check(location: str | Path, show: bool = False) -> tuple[list[str], dict[str, str]]:
    """(scenes that are sound, scene → what is wrong with it) of a cache; stale scenes are looked at too.

    show: how far it is, on stderr. Raises `HiclError` where there is no cache, or what all scenes share is damaged.
    A remote cache is fetched anew, scene by scene.
    """
    sound, damaged = [], {}
    with _freshly_opened(location) as cache:
        _ = cache.text
        listed = _listed(cache)
        scenes = sorted({*open_store(location).scenes(), *listed})
        with Progress("check", len(scenes), "scene", show=show) as bar:
            for scene_id in scenes:
                bar.update()
                if scene_id not in listed and not _is_there(cache, scene_id):
                    continue
                try:
                    _check(cache, scene_id)
                    sound.append(scene_id)
                except HiclError as error:
                    damaged[scene_id] = str(error)
    return sound, damaged


@contextlib.contextmanager
def _freshly_opened(location: str | Path) -> Iterator[CacheReader]:
    if not is_url(location):
        yield open_cache(location)
        return
    with open_store(location).workplace() as folder:  # what a kill leaves of it goes with the next
        yield open_cache(location, folder / "mirror")


def _listed(cache: CacheReader) -> list[str]:
    """Scenes that the manifest says are there."""
    return [row["scene"] for row in cache.manifest if row["state"] != "failed"]


def _is_there(cache: CacheReader, scene_id: str) -> bool:
    try:
        return cache.published(scene_id) is not None
    except HiclError:
        return True


def _check(cache: CacheReader, scene_id: str) -> None:
    scene = cache.published(scene_id)
    where = f"{cache.path}/{SCENES}/{scene_id}"
    if scene is None:
        raise HiclError(f"{where}: missing, but the manifest has it")
    try:
        _assert_whole(scene, where)
    finally:
        if is_url(cache.path):  # one scene at a time is enough for this machine's disk
            shutil.rmtree(scene.path)


def _assert_whole(scene: SceneReader, where: str) -> None:
    names = scene.arrays()
    missing = [name for name, spec in SCENE_ARRAYS.items() if spec.required and name not in names]
    if missing:
        raise HiclError(f"{where}/{missing[0]}: missing")
    for name in names:
        scene.read(name)
    if storage.digest(scene.path, [SCENE_ARRAYS[name] for name in names]) != scene.attributes.get("digest"):
        raise HiclError(f"{where}: its digest is not that of its arrays")


def remove_scenes(location: str | Path, scenes: list[str]) -> None:
    """Take scenes away, so that a run of `hicl preprocess` makes them again. Raises `HiclError`."""
    dataset = open_cache(location).dataset
    with CacheWriter(location, dataset) as writer:
        for scene in scenes:
            writer.remove(scene)
        writer.write_manifest({})
