"""Jobs in this process or in several."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from typing import TypeVar

from hicl.processes import pool

Job = TypeVar("Job")
Result = TypeVar("Result")


def completed(
    jobs: list[Job],
    work: Callable[..., Result],
    workers: int,
    before_workers: Callable[[], None],
    tick: Callable[[], object],
) -> Iterator[tuple[Job, Callable[[], Result]]]:
    """Yield (job, how to get its result) as results come; getting it raises what the work raised.

    With one worker the work is done here, when its result is asked for, and gets `tick` to report its progress by. With
    more, in processes of their own.
    """
    if min(workers, len(jobs)) == 1:
        for job in jobs:
            yield job, partial(work, job, tick)
        return
    before_workers()
    with pool(min(workers, len(jobs))) as processes:
        pending = {processes.submit(work, job): job for job in jobs}
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result
        finally:
            processes.shutdown(cancel_futures=True)
