"""Looking over a whole cache: every byte's checksum, every scene's digest, every value that something indexes by.

In a cache of groups, what is named, counted and removed below as a scene is a group.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from hicl.cache import schema, storage
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
        return bool(_scenes(cache, scene_id))
    except HiclError:
        return True


def _scenes(cache: CacheReader, name: str) -> list[SceneReader]:
    """What a folder below scenes/ holds: a scene, or those of a group; nothing if it isn't there."""
    if cache.grouped:
        return cache.group(name) or []
    scene = cache.published(name)
    return [scene] if scene else []


def _check(cache: CacheReader, name: str) -> None:
    scenes = _scenes(cache, name)
    where = f"{cache.path}/{SCENES}/{name}"
    if not scenes:
        raise HiclError(f"{where}: missing, but the manifest has it")
    try:
        _assert_whole(scenes, where, cache.grouped)
    finally:
        if is_url(cache.path):  # one scene at a time is enough for this machine's disk
            shutil.rmtree(scenes[0].path)


def _assert_whole(scenes: list[SceneReader], where: str, grouped: bool) -> None:
    names = scenes[0].arrays()
    missing = schema.missing(names)
    if missing:
        raise HiclError(f"{where}/{missing[0]}: missing")
    for scene in scenes:
        for name in names:
            try:
                scene.read(name)
            except HiclError as error:
                raise HiclError(f"{scene.id}: {error}" if grouped else str(error)) from None
    found = storage.digest(scenes[0].path, [SCENE_ARRAYS[name] for name in names], grouped)
    if found != scenes[0].attributes.get("digest"):
        raise HiclError(f"{where}: its digest is not that of its arrays")


def remove_scenes(location: str | Path, scenes: list[str]) -> None:
    """Take scenes away, so that a run of `hicl preprocess` makes them again. Raises `HiclError`."""
    cache = open_cache(location)
    with CacheWriter(location, cache.dataset, cache.grouped) as writer:
        for scene in scenes:
            writer.remove(scene)
        writer.write_manifest({})
