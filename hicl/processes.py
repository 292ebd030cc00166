"""Worker processes, the one way this project starts them, and what they must not do at the same time."""

import contextlib
import fcntl
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that end when their parent does, however it ends.

    Spawned: numba's threads and Zarr don't survive a fork. Ended with the parent: after a kill -9 they would otherwise
    go on writing beside the next run. (No max_tasks_per_child: it hangs on Python 3.11 to 3.13.)
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def compiling(kernels: ModuleType) -> Iterator[None]:
    """Wait for every other process that compiles into the folder where numba keeps a module's kernels.

    Two that write there at the same time can take each other's machine code for theirs.
    """
    folder = Path(next(kernel.stats.cache_path for kernel in vars(kernels).values() if hasattr(kernel, "stats")))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "hicl.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
