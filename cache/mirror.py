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

from hicl.cache.reader import CacheReader
from hicl.cache.remote import RemoteStore
from hicl.cache.schema import SCENE_ARRAYS, TEXT
from hicl.cache.storage import files_of
from hicl.errors import HiclError
from hicl.files import workplace
from hicl.read import read_json

_FILES = ".files"
_KNOWN = sorted(  # all that is ever fetched
    {name for grouped in (False, True) for spec in (*SCENE_ARRAYS.values(), TEXT) for name in files_of(spec, grouped)}
)


def mirror_of(url: str) -> Path:
    """The folder that mirrors a URL for all of a user's processes; deleting it loses nothing but time."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    readable = re.sub(r"[^\w.-]+", "-", url)[-60:]
    return home / "hicl" / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


class MirroredGroup:
    """A group of a remote cache, as it was when it was opened: what is there, and how it gets here.

    path: the folder that it is fetched to. where: the group's own URL.
    """

    def __init__(self, path: Path, name: str, store: RemoteStore):
        self.where = f"{store.url}/{name}"
        self._path, self._name, self._store = path, name, store

    @cached_property
    def _files(self) -> dict[str, int]:
        try:
            return read_json(self._path / _FILES)
        except (FileNotFoundError, HiclError):  # made unreadable by a crash of this machine, or gone
            _take_away(self._path)
            raise _changed(self._store, self._name) from None

    def has(self, name: str) -> bool:
        return f"{name}/zarr.json" in self._files

    def fetch(self, name: str) -> None:
        """Have an array in its place, if there is one."""
        if (self._path / name).exists():
            return
        if not self._path.exists():  # a reader of a newer version has taken it away
            raise _changed(self._store, self._name)
        with workplace(self._path) as temporary:
            files = {file: size for file, size in self._files.items() if file.startswith(f"{name}/")}
            try:
                self._store.download(self._name, files, temporary)
            finally:  # what a replacement made go wrong is told as what it is
                _assert_same(self._store, self._name, (self._path / "zarr.json").read_bytes())
            if files:
                _settle(temporary / name, self._path / name)

    def forget(self, name: str) -> None:
        """Give up what was fetched of an array."""
        _take_away(self._path / name)


class MirroredCache(CacheReader):
    """A cache at a URL. mirror: the folder to fetch into; None: the user's own."""

    _store: RemoteStore

    def __init__(self, url: str, mirror: Path | None = None):
        url = url.rstrip("/")
        super().__init__(url)
        self._mirror = mirror or mirror_of(url)
        self._opened: dict[str, Path] = {}

    def _place(self, name: str) -> tuple[Path, MirroredGroup] | None:
        if name not in self._opened:
            content = self._store.read(f"{name}/zarr.json")
            if content is None:
                return None
            self._opened[name] = self._open(name, content)
        if not self._opened[name].exists():  # a reader of a newer version has taken it away
            raise _changed(self._store, name)
        return self._opened[name], MirroredGroup(self._opened[name], name, self._store)

    def _open(self, name: str, content: bytes) -> Path:
        """The folder of this version of a group, made with a list of its files if it is new here."""
        versions = self._mirror / name
        if not versions.resolve().is_relative_to(self._mirror.resolve()):
            raise HiclError(f"{versions}: leads out of the mirror; delete {self._mirror}")
        path = versions / hashlib.sha256(content).hexdigest()[:16]
        if path.exists():
            return path
        versions.mkdir(parents=True, exist_ok=True)
        files = self._store.files(name)
        _assert_same(self._store, name, content)
        for old in versions.iterdir():
            if not old.name.startswith(".") and old.name != path.name:
                _take_away(old)
        with workplace(versions) as temporary:
            fresh = temporary / "group"
            fresh.mkdir()
            (fresh / "zarr.json").write_bytes(content)
            (fresh / _FILES).write_text(json.dumps({file: files[file] for file in _KNOWN if file in files}))
            _settle(fresh, path)
        return path


def _take_away(folder: Path) -> None:
    with contextlib.suppress(OSError), workplace(folder.parent) as aside:  # another process may be faster
        os.rename(folder, aside / folder.name)  # a part of it must never pass for the whole


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
