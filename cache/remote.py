"""A cache on object storage: S3, Google, Azure or any other file system of fsspec. SPEC.md says what is written when.

Nothing there is renamed and nothing locked. Workers upload what they built below `.staging/`; the one writer copies it
into place inside the store, a scene's zarr.json last. What it is about to do it first writes to `.publishing/`, so that
whoever opens the cache for writing after a kill can do the rest.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hicl.cache.attributes import root_of
from hicl.cache.names import assert_plain, is_plain
from hicl.cache.schema import SCENE_ARRAYS
from hicl.cache.store import SCENES, STAGING, TEXT, scene_names
from hicl.errors import HiclError
from hicl.files import workplace
from hicl.read import parse_json

PUBLISHING = ".publishing"
_KEEP = ".keep"  # in what is staged: names of the arrays that stay as they are published
_AT_ONCE = 32  # requests; each takes tens of milliseconds, nearly all of them waiting
# Package of each object store: of file systems without folders, which would take a missing one for a missing bucket.
_OBJECTS = {
    "s3": "hicl[s3]",
    "s3a": "hicl[s3]",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}


class RemoteStore:
    """A cache at an fsspec URL. Every method raises `HiclError` where the store can't be reached or says no."""

    leftovers = (STAGING, PUBLISHING, SCENES, TEXT, ".zarr.json")

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        from fsspec.core import url_to_fs

        protocol = self.url.split("://")[0]
        self._has_folders = protocol not in _OBJECTS
        try:
            self._fs, root = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            package = _OBJECTS.get(protocol)
            hint = f"pip install '{package}'" if package else "install the fsspec package for it"
            raise HiclError(f"{self.url}: {_line(error)}; {hint}") from None
        except Exception as error:  # each file system has its own
            raise self._refused(error) from None
        self._root = root.rstrip("/")

    def _refused(self, error: Exception) -> HiclError:
        what = f"{type(error).__name__}: {_line(error)}"
        return HiclError(f"{self.url}: {what}; are the bucket, the credentials and the endpoint right?")

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except HiclError:
            raise
        except Exception as error:  # each file system has its own
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):  # of this machine's disk
                raise
            raise self._refused(error) from None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _new_path(self, name: str) -> str:
        if self._has_folders:
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
        return self._path(name)

    def _each(self, ask: Callable, items: Iterable) -> Iterator:
        """ask(item) of each, many at the same time, in order."""
        with self._asking(), ThreadPoolExecutor(_AT_ONCE) as threads:
            yield from threads.map(ask, items)

    def read(self, name: str) -> bytes | None:
        """An object's content, or None if there is none."""
        with self._asking():
            return self._get(name)

    def read_many(self, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
        """(name, content or None) of each, many asked for at the same time."""
        return zip(names, self._each(self._get, names), strict=True)

    def _get(self, name: str) -> bytes | None:
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replace an object in one step."""
        with self._asking():
            path = self._new_path(name)
            if not self._has_folders:
                return self._fs.pipe_file(path, content)
            folder, _, last = path.rpartition("/")  # a file may be cut off while it is written
            self._fs.pipe_file(f"{folder}/.{last}", content)
            self._fs.mv(f"{folder}/.{last}", path)

    def files(self, folder: str) -> dict[str, int]:
        """Name below the folder, and bytes, of every object there."""
        top = f"{self._root}/{folder}/"
        with self._asking():
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(top, detail=True)
            except FileNotFoundError:
                return {}
        self._assert_inside(found)
        named = ((name.removeprefix(top), about["size"]) for name, about in found.items() if name.startswith(top))
        return {name: size for name, size in named if name and not name.endswith("/")}  # a console's "folders"

    def _assert_inside(self, names: Iterable[str]) -> None:
        """Raises `HiclError` where a name that the store gave leads out of it, by `..` or by a link in a folder."""
        from fsspec.implementations.local import LocalFileSystem

        root = os.path.realpath(self._root)
        for name in names:
            out = ".." in name.split("/")
            if isinstance(self._fs, LocalFileSystem):
                out = os.path.commonpath([root, os.path.realpath(name)]) != root
            if out:
                raise HiclError(f"{self.url}: holds {name!r}, which leads out of it; take that away")

    def entries(self, folder: str = "") -> list[str]:
        """Names directly below a folder."""
        top = f"{self._root}/{folder}".rstrip("/")
        with self._asking():
            self._fs.invalidate_cache()
            try:
                found = {name.rstrip("/") for name in self._fs.ls(top, detail=False)}
            except FileNotFoundError:
                return []
        return sorted(name.rpartition("/")[2] for name in found - {top})

    def download(self, folder: str, sizes: dict[str, int], target: Path) -> None:
        """Fetch objects below a folder, of as many bytes, to the same names below a local one."""

        def fetch(name: str) -> None:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._path(f"{folder}/{name}"), str(path))
            found = path.stat().st_size
            if found != sizes[name]:
                raise HiclError(f"{self.url}/{folder}/{name}: fetched {found} bytes of {sizes[name]}; try again")

        self._all(fetch, sizes)

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder on this machine to build in."""
        with workplace(Path(tempfile.gettempdir())) as folder:
            yield folder

    def stage(self, folder: Path, keep: list[str]) -> None:
        """Upload what was built in `workplace`, for `publish` to take by the folder's name, but not the arrays in
        `keep`: they stay as they are published."""
        staged, kept = f"{STAGING}/{folder.name}", tuple(f"{name}/" for name in keep)
        self.write(f"{staged}/{_KEEP}", json.dumps(keep).encode())
        files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        new = [name for name in files if not name.startswith(kept)]
        self._all(lambda name: self._fs.put_file(str(folder / name), self._new_path(f"{staged}/{name}")), new)
        shutil.rmtree(folder)

    def _copy(self, source: str, target: str, names: Iterable[str]) -> None:
        def copy(name: str) -> None:
            self._fs.cp_file(self._path(f"{source}/{name}"), self._new_path(f"{target}/{name}"))

        self._all(copy, names)

    def _delete(self, names: Iterable[str]) -> None:
        def remove(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

        self._all(remove, names)

    def _all(self, do: Callable, items: Iterable) -> None:
        for _ in self._each(do, items):
            pass

    def lock(self) -> None:
        """Object storage has no locks: one writer at a time is its user's duty."""

    def unlock(self) -> None:
        pass

    def tidy(self) -> None:
        """Remove what was staged and isn't to be published."""
        ordered = set(self.files(PUBLISHING))
        self._delete(f"{STAGING}/{name}" for name in self.files(STAGING) if name.split("/")[0] not in ordered)

    def recover(self) -> None:
        """Finish what a killed run had begun to publish."""
        for name in self.files(PUBLISHING):
            if name.startswith("."):  # cut off while it was written: nothing was done by it
                self._delete([f"{PUBLISHING}/{name}"])
            else:
                self._finish(f"{PUBLISHING}/{name}")
        self.tidy()

    def scenes(self) -> list[str]:
        """Names of the folders below scenes/, of which each may or may not hold a scene."""
        return scene_names([name for name in self.entries(SCENES) if name != "zarr.json"], f"{self.url}/{SCENES}")

    def size(self, name: str) -> int:
        """Bytes of all objects below a folder."""
        return sum(self.files(name).values())

    def free(self) -> int | None:
        """Bytes that can be written; None where there is no limit to speak of."""
        return None

    def publish(self, staged: str, home: str, root: bytes | None = None) -> None:
        """Copy what was staged to `home`, in place of what is there; `root`: the root's new zarr.json, of one step with
        it."""
        order = {"staged": staged, "home": home, "root": root and root.decode()}
        self.write(f"{PUBLISHING}/{staged}", json.dumps(order).encode())
        self._finish(f"{PUBLISHING}/{staged}")

    def remove(self, home: str) -> None:
        """Take a scene away; its zarr.json goes first, and with it the scene."""
        self._delete([f"{home}/zarr.json"])
        self._delete(f"{home}/{name}" for name in self.files(home))

    def _order(self, order: str) -> tuple[str, str, str | None, tuple[str, ...]]:
        """(what is staged, its home, the root's new zarr.json, names kept). Raises `HiclError` for any other order than
        a writer gives: it says what is deleted."""
        where = f"{self.url}/{order}"
        match parse_json(self.read(order) or b"", where):
            case {"staged": str() as staged, "home": str() as home, "root": str() | None as root}:
                pass
            case _:
                raise HiclError(f"{where}: not an order to publish; delete it")
        scene = home.removeprefix(f"{SCENES}/")
        if not is_plain(staged) or order != f"{PUBLISHING}/{staged}" or home not in (TEXT, f"{SCENES}/{scene}"):
            raise HiclError(f"{where}: an order to publish {staged!r} as {home!r}; delete it")
        assert_plain(scene, where)
        if root is not None:
            root_of(root.encode(), where)
        kept = parse_json(self.read(f"{STAGING}/{staged}/{_KEEP}") or b"", f"{self.url}/{STAGING}/{staged}/{_KEEP}")
        if not isinstance(kept, list) or not all(isinstance(name, str) and name in SCENE_ARRAYS for name in kept):
            raise HiclError(f"{self.url}/{STAGING}/{staged}/{_KEEP}: not a list of arrays; delete {where}")
        return f"{STAGING}/{staged}", home, root, tuple(f"{name}/" for name in kept)

    def _finish(self, order: str) -> None:
        """Publish by an order. Cut off anywhere and done again from the start, it comes to the same."""
        staged, home, root, keep = self._order(order)
        new = set(self.files(staged)) - {_KEEP}
        gone = [name for name in self.files(home) if name not in new and not name.startswith(keep)]
        self._delete([f"{home}/zarr.json"])
        self._delete(f"{home}/{name}" for name in gone)
        self._copy(staged, home, new - {"zarr.json"})
        self._copy(staged, home, ["zarr.json"])
        if root is not None:
            self.write("zarr.json", root.encode())
        self._delete([order])
        self._delete(f"{staged}/{name}" for name in (*new, _KEEP))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]
