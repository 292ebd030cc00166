"""Reading a remote cache through a folder on this machine that holds what was read before.

An array is fetched whole when it is first read, and is then read, mapped into memory even, as a local cache's. What is
fetched of a group is kept below the hash of the group's own zarr.json, which a writer takes away before it touches
anything else and puts back last: so an array fetched while that object stayed the same belongs to it, and versions are
never mixed. Any number of processes share a mirror: everything takes its place in it by a rename, whole.
"""

import contextlib
import hashlib
import json
import os
import re
from functools import cached_property
from pathlib import Path

from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.remote import RemoteStore
from hicl.errors import HiclError
from hicl.files import workplace

_FILES = ".files"


def mirror_of(url: str) -> Path:
    """The folder that mirrors a URL for all of a user's processes; deleting it loses nothing but time."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    readable = re.sub(r"[^\w.-]+", "-", url)[-60:]
    return home / "hicl" / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


class MirroredScene(SceneReader):
    """A group of a remote cache, as it was when it was opened; most often a scene."""

    def __init__(self, path: Path, name: str, store: RemoteStore):
        super().__init__(path, name.rpartition("/")[2])
        self._name, self._store = name, store

    @cached_property
    def _files(self) -> dict[str, int]:
        return json.loads((self.path / _FILES).read_text())

    def has(self, name: str) -> bool:
        return f"{name}/zarr.json" in self._files

    def folder(self, name: str) -> Path:
        """Where an array is on this machine's disk; fetched if it is the first time."""
        if not (self.path / name).exists():
            self._fetch(name)
        return self.path / name

    def read(self, name: str):
        """A whole array, read-only. Raises `HiclError` if it is missing or damaged, or the scene changed since."""
        try:
            return super().read(name)
        except HiclError as error:
            raise HiclError(str(error).replace(str(self.path), f"{self._store.url}/{self._name}")) from None

    def _fetch(self, name: str) -> None:
        if not self.path.exists():  # a reader of a newer version has taken it away
            raise _changed(self._store, self._name)
        with workplace(self.path) as temporary:
            files = {file: size for file, size in self._files.items() if file.startswith(f"{name}/")}
            try:
                self._store.download(self._name, files, temporary)
            finally:  # what a replacement made go wrong is told as what it is
                _assert_same(self._store, self._name, (self.path / "zarr.json").read_bytes())
            if files:
                _settle(temporary / name, self.path / name)


class MirroredCache(CacheReader):
    """A cache at a URL. mirror: the folder to fetch into; None: the user's own."""

    def __init__(self, url: str, mirror: Path | None = None):
        super().__init__(url.rstrip("/"))
        self._mirror = mirror or mirror_of(self.path)
        self._opened: dict[str, Path] = {}

    def _group(self, name: str) -> SceneReader | None:
        if name not in self._opened:
            content = self._store.read(f"{name}/zarr.json")
            if content is None:
                return None
            self._opened[name] = self._open(name, content)
        if not self._opened[name].exists():  # a reader of a newer version has taken it away
            raise _changed(self._store, name)
        return MirroredScene(self._opened[name], name, self._store)

    def _open(self, name: str, content: bytes) -> Path:
        """The folder of this version of a group, made with a list of its files if it is new here."""
        versions = self._mirror / name
        path = versions / hashlib.sha256(content).hexdigest()[:16]
        if path.exists():
            return path
        versions.mkdir(parents=True, exist_ok=True)
        files = self._store.files(name)
        _assert_same(self._store, name, content)
        with workplace(versions) as temporary:
            for old in versions.iterdir():
                if not old.name.startswith(".") and old.name != path.name:
                    with contextlib.suppress(OSError):  # another process may be faster
                        os.rename(old, temporary / old.name)  # a part of it must never pass for the whole
            fresh = temporary / "group"
            fresh.mkdir()
            (fresh / "zarr.json").write_bytes(content)
            (fresh / _FILES).write_text(json.dumps(files))
            _settle(fresh, path)
        return path


def _changed(store: RemoteStore, name: str) -> HiclError:
    return HiclError(f"{store.url}/{name}: changed while it was read; start again once it is written")


def _assert_same(store: RemoteStore, name: str, content: bytes) -> None:
    if store.read(f"{name}/zarr.json") != content:
        raise _changed(store, name)


def _settle(folder: Path, home: Path) -> None:
    """Move a folder to its place, unless another process was faster."""
    home.parent.mkdir(exist_ok=True)
    try:
        os.rename(folder, home)
    except OSError:
        if not home.exists():
            raise
