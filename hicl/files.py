"""Files that are there whole or not at all, and folders that one process at a time works in.

What is being made is kept under a name of its own beside its place, with the kernel's lock on it. The lock goes with
its process, however that ends: so what a dead one left can be told from what a living one works on, from other machines
and after its process id was given out again too.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hicl.errors import HiclError

_PART = ".part."
_PATIENCE_S = 3.0  # so long the workers of a killed run may take to end
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EBADF)  # of cluster file systems; EBADF: NFS, of a folder


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to; what is there at the end of the block takes its place in one step.

    After an error nothing is left of it, and `path` is as it was. What a kill leaves goes when `path` is written next.
    Two that write it at the same time wait for each other. An OSError, as of a full disk, names `path`.
    Raises `HiclError` where a folder, a pipe or a device is there, such as /dev/null: it would be gone.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise HiclError(f"{path}: is there and no regular file; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = part_of(path)
    with naming(path):
        lock = None
        while lock is None:  # whoever was waited for has moved the file away
            if temporary.is_symlink():  # it would lead elsewhere
                temporary.unlink()
            temporary.touch()
            lock = _lock(temporary, wait=True)
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # only now: once it has moved, the name is the next one's
            raise
        finally:
            os.close(lock)


def part_of(path: Path) -> Path:
    """The name that a file is written by before it takes its place; it ends as the file's own does."""
    return path.with_name(f"{_PART}{path.name}")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError that names no file, as those of writing do, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        elif error.errno is None:  # of a library that tells in words what it couldn't write
            raise OSError(errno.EIO, str(error), str(path)) from error
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a folder, made where it is missing, to oneself as long as the block lasts. What was made and is empty at its
    end is taken away again.

    Raises `HiclError` if another process has it.
    """
    until, made = time.monotonic() + _PATIENCE_S, missing(folder)
    while (lock := _make_and_lock(folder)) is None:
        if time.monotonic() > until:
            raise HiclError(f"{folder}: another hicl is writing to it; wait for it to end, or choose another --out")
        time.sleep(0.05)
    try:
        yield
    finally:
        remove_empty(made)  # while it is locked: who waits for it looks whether it is still there
        os.close(lock)


def missing(folder: Path) -> list[Path]:
    """Those of a folder and the folders above that don't exist, the lowest first."""
    return list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, of which each lies in the next, up to the first that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _make_and_lock(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HiclError(f"{folder}: no folder to write to: {error.strerror}; choose another --out") from None
    return _lock(folder)


@contextlib.contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, gone at the end of the block; with it go those that killed processes left there."""
    lock = None
    while lock is None:  # taken for a dead one's before it was locked
        folder = Path(tempfile.mkdtemp(prefix=f"{_PART}hicl-", dir=parent))
        lock = _lock(folder, wait=True)
    try:
        for other in parent.glob(f"{_PART}hicl-*"):
            _remove_if_dead(other)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's
        if (lock := _lock(folder, blindly=False)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(path: Path, wait: bool = False, blindly: bool = True) -> int | None:
    """Lock what is at a path: a descriptor to close; None where another process has it or nothing is there any more.

    blindly: do as if there were a lock where the file system knows none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks no file that is only read
    except FileNotFoundError:
        return None
    held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        held = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        held = blindly
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None
