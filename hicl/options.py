"""Options that commands share."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from hicl.errors import HiclError

# Text and not a path: pathlib makes s3:/bucket of s3://bucket.
Cache = Annotated[str, typer.Option(help="A cache of `hicl preprocess`: a folder, or a URL like s3://bucket/cache.")]
Scheduler = Annotated[str | None, typer.Option(help="Let the workers of this Dask scheduler do it, tcp://HOST:PORT.")]


def cluster(scheduler: str | None, workers: int | None):
    """The executor that --scheduler names, to be used as a context manager; gives None where it isn't asked for."""
    if scheduler is None:
        return contextlib.nullcontext()
    if workers is not None:
        raise HiclError("--workers are this machine's; --scheduler's cluster has its own: leave one of the two out")
    from hicl.pipeline.workers import DaskExecutor

    return DaskExecutor(scheduler)


def everywhere(cache: str) -> str | Path:
    """A cache's location, as workers with other working directories find it."""
    from hicl.cache.store import is_url

    return cache if is_url(cache) else Path(cache).absolute()
