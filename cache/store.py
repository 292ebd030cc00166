"""Where a cache is kept, as its writer sees it: a folder here, any file system of fsspec in `remote.py`.

Both take in a scene whole: `publish` moves what a worker built in `.staging` to its place, and `recover` undoes or
finishes what a killed run left halfway.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hicl import read
from hicl.cache.attributes import attributes_of
from hicl.cache.names import assert_plain
from hicl.errors import HiclError
from hicl.files import missing, naming, remove_empty

SCENES, STAGING, REPLACED = "scenes", ".staging", ".replaced"
TEXT = "text"
_TRIES = 20
_TEXT_ASIDE = ".text"  # in .replaced, where a scene may be called "text"


def is_url(location: str | Path) -> bool:
    """Whether a cache's location is a URL, like s3://bucket/prefix, and not a path."""
    return "://" in str(location)


def scene_names(entries: list[str], where: str | Path) -> list[str]:
    """Those of the names below scenes/ that may be scenes'. Raises `HiclError` for one that no scene can have."""
    names = [name for name in entries if not name.startswith(".")]
    for name in names:
        assert_plain(name, where)
    return names


def read_bytes(path: Path) -> bytes | None:
    """A file's content, or None if there is none."""
    try:
        return read.read_bytes(path)
    except FileNotFoundError:
        return None


class Folder:
    """A cache in a folder. Its writer holds a lock on it; publishing is a rename."""

    leftovers = (STAGING, REPLACED, SCENES, TEXT, ".zarr.json")
    """What a first run that was killed before its root was written may leave behind."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def entries(self) -> list[str]:
        """Names of what is there. Raises `HiclError` where a file is."""
        if self.path.exists() and not self.path.is_dir():
            raise HiclError(f"{self.path}: is a file; give --out a folder")
        return os.listdir(self.path) if self.path.is_dir() else []

    def lock(self) -> None:
        """Make the folder where it is missing. Raises `HiclError` if another process holds the lock."""
        self._made = missing(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (STAGING, REPLACED, SCENES, TEXT):
            if (self.path / name).is_symlink():
                raise HiclError(f"{self.path / name}: a link; hicl writes to no other folder than {self.path}")
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._lock), os.stat(self.path)):  # taken away and made anew meanwhile
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(self._lock)
            raise HiclError(f"{self.path}: another hicl preprocess is writing to it; wait for it to end") from None

    def unlock(self) -> None:
        """What was made by `lock` and is empty still is taken away again."""
        remove_empty(self._made)
        os.close(self._lock)

    def tidy(self) -> None:
        """Remove what was staged and never published, and what was replaced."""
        for folder in (self.path / STAGING, self.path / REPLACED):
            for _ in range(_TRIES):  # after one of Zarr's threads failed, the others may write for a moment still
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    break
                time.sleep(0.05)

    def recover(self) -> None:
        """Put back what a killed run moved aside and didn't replace."""
        replaced = self.path / REPLACED
        if replaced.is_dir():
            for old in replaced.iterdir():
                home = self.path / (TEXT if old.name == _TEXT_ASIDE else f"{SCENES}/{old.name}")
                if old.name == _TEXT_ASIDE and self._text_cut_off():
                    shutil.rmtree(home, ignore_errors=True)
                if not home.exists():
                    os.replace(old, home)
        self.tidy()

    def _text_cut_off(self) -> bool:
        """Whether the new text is in place but the root still speaks of the old one."""
        root, text = (self.read(name) for name in ("zarr.json", f"{TEXT}/zarr.json"))
        if root is None:
            return False
        try:
            fingerprint = attributes_of(text, self.path / TEXT).get("fingerprint")
        except HiclError:
            fingerprint = None
        return attributes_of(root, self.path)["text_fingerprint"] != fingerprint

    def read(self, name: str) -> bytes | None:
        return read_bytes(self.path / name)

    def read_many(self, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
        return ((name, self.read(name)) for name in names)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)  # a link would lead elsewhere
        with naming(path), open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)

    def scenes(self) -> list[str]:
        """Names of the folders below scenes/, of which each may or may not hold a scene."""
        scenes = self.path / SCENES
        entries = sorted(scenes.iterdir()) if scenes.is_dir() else []
        return scene_names([entry.name for entry in entries if entry.is_dir()], scenes)

    def size(self, name: str) -> int:
        """Bytes of all files below a folder."""
        return sum(file.stat().st_size for file in (self.path / name).rglob("*") if file.is_file())

    def free(self) -> int | None:
        """Bytes that can be written; None where there is no limit to speak of."""
        return shutil.disk_usage(self.path).free

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder on this machine to build in."""
        yield self.path / STAGING

    def stage(self, folder: Path, keep: list[str]) -> None:
        """Nothing to do: what was built in `workplace` is where `publish` takes it from, by its name."""

    def publish(self, staged: str, home: str, root: bytes | None = None) -> None:
        """Move what was staged to `home`, in place of what is there; `root`: the root's new zarr.json, of one step with
        it."""
        old, aside = self.path / home, self.path / REPLACED / (_TEXT_ASIDE if home == TEXT else Path(home).name)
        if old.exists():
            aside.parent.mkdir(exist_ok=True)
            os.replace(old, aside)
        os.replace(self.path / STAGING / staged, old)
        if root is not None:
            self.write("zarr.json", root)  # until the root says so, the old text is the one that counts
        shutil.rmtree(aside, ignore_errors=True)

    def remove(self, home: str) -> None:
        """Take a scene away."""
        aside = self.path / STAGING / Path(home).name
        aside.parent.mkdir(exist_ok=True)
        os.replace(self.path / home, aside)
        self.tidy()
