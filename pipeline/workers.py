"""Jobs in this process, or in any `concurrent.futures.Executor`: this machine's processes, or a Dask cluster's."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from functools import partial
from typing import Any, TypeVar

from hicl.errors import HiclError

Job = TypeVar("Job")
Result = TypeVar("Result")

CONNECT_S, WITHOUT_WORKERS_S = 5.0, 60.0  # how long a scheduler may take to answer, and to have workers again
_LOOK_S = 2.0


def completed(
    jobs: list[Job], work: Callable[..., Result], executor: Executor | None, tick: Callable[[], object]
) -> Iterator[tuple[Job, Callable[[], Result]]]:
    """Yield (job, how to get its result) as results come; getting it raises what the work raised.

    Without an executor the work is done here, when its result is asked for, and gets `tick` to report its progress by.
    Raises `HiclError` where an executor has lost all that could work.
    """
    if executor is None:
        for job in jobs:
            yield job, partial(work, job, tick)
        return
    pending = {executor.submit(work, job): job for job in jobs}
    try:
        while pending:
            done = wait(pending, _LOOK_S, FIRST_COMPLETED).done
            given_up = {future for future in done if future.cancelled()}
            for future in done - given_up:
                yield pending.pop(future), future.result
            if isinstance(executor, DaskExecutor):
                executor.assert_workers(at_work=len(done) > len(given_up))
            if given_up:
                raise HiclError("the executor gave up its jobs; run the command again")
    finally:
        for future in pending:
            future.cancel()


def was_killed(error: Exception) -> bool:
    """Whether an error says that a worker died at its work, and not the work's own."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"  # Dask's


class DaskExecutor(Executor):
    """The workers of a Dask cluster. A job whose worker dies is done again by another, three times at most."""

    def __init__(self, address: str):
        """Raises `HiclError` if Dask isn't installed, or no scheduler answers."""
        try:
            from distributed import Client
        except ImportError:
            raise HiclError("--scheduler needs Dask: pip install 'hicl[dask]', on all machines") from None
        for name in ("distributed", "distributed.client"):  # what ends a run is said in one line, below
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise HiclError(f"--scheduler {address}: no Dask scheduler answers ({reason}); is it running?") from None
        self._address, self._executor = address, self._client.get_executor(pure=False)
        self._seen = time.monotonic()

    def submit(self, work: Callable, /, *args: Any, **kwargs: Any) -> Future:
        self._seen = time.monotonic()
        return self._executor.submit(work, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._client.close()

    def assert_workers(self, at_work: bool) -> None:
        """Raise `HiclError` once the scheduler is gone, or has had no worker for a while. at_work: one did a job."""
        now = time.monotonic()
        if at_work:
            self._seen = now
            return
        if self._client.status != "running":
            raise HiclError(f"--scheduler {self._address}: the scheduler is gone; start it and run the command again")
        if self._client.scheduler_info()["workers"]:
            self._seen = now
        elif now - self._seen > WITHOUT_WORKERS_S:
            raise HiclError(f"--scheduler {self._address}: no worker is left; start some and run the command again")
