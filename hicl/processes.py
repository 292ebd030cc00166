"""Worker processes, the one way this project starts them, and what they must not do at the same time."""

import contextlib
import ctypes
import fcntl
import functools
import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

_WRITTEN_S = 60.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@functools.cache
def keep_freed_memory() -> None:
    """Have this process keep what it frees for its next arrays, so that its memory may stay as large as it ever was.

    glibc gives large arrays back to the system at once, and asks for their pages anew: on a virtual machine 2 to 3
    microseconds each, a quarter of the time of a kernel that makes a few. Where the C library is another, nothing
    changes.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # more is refused
        libc.mallopt(_TRIM_THRESHOLD, 256 << 20)


@functools.cache
def leave_imports_uncollected() -> None:
    """Have Python's collector pass over what is there now, mostly what imports left: some hundred thousand objects, the
    walks through which take a tenth of a training step of the miniature's."""
    gc.collect()
    gc.freeze()


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that end when their parent does, however it ends.

    Spawned: numba's threads and Zarr don't survive a fork. Ended with the parent: after a kill -9 they would otherwise
    go on writing beside the next run. (No max_tasks_per_child: it hangs on Python 3.11 to 3.13.)
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start)


def _start() -> None:
    keep_freed_memory()
    _end_with_parent()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def compiling(kernels: ModuleType, part: str = "hicl") -> Iterator[None]:
    """Wait for every other process that compiles the same part of what numba keeps in the folder of a module's kernels.

    Two that compile the same kernels at the same time can take each other's machine code for theirs.
    """
    folder = Path(next(kernel.stats.cache_path for kernel in vars(kernels).values() if hasattr(kernel, "stats")))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{part}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in folder.glob("*.nb?.tmp.*"):  # by one that was killed while it wrote, which takes milliseconds
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _WRITTEN_S:
                    left.unlink()
        yield
