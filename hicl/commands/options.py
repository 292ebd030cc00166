"""Options that commands share, and those that a settings dataclass declares."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Annotated, Any

import typer

from hicl.config import settings_of
from hicl.errors import HiclError

# Text and not a path: pathlib makes s3:/bucket of s3://bucket.
Cache = Annotated[str, typer.Option(help="A cache of `hicl preprocess`: a folder, or a URL like s3://bucket/cache.")]
Scene = Annotated[str | None, typer.Option(help="Which scene of the cache. [default: the first]")]
Model = Annotated[Path, typer.Option("--model", help="A trained run's folder, or its model.safetensors.")]
OptionalModel = Annotated[
    Path | None, typer.Option("--model", help="A trained run's folder, or its model.safetensors. [default: none]")
]
PlyOut = Annotated[Path, typer.Option("-o", "--out", help="The .ply to write.")]
PictureOut = Annotated[Path, typer.Option("-o", "--out", help="The .png, .pdf or .svg to write.")]
Classes = Annotated[
    str, typer.Option("--classes", help="Names behind commas, or a file with a class a line, synonyms behind commas.")
]
Clip = Annotated[str | None, typer.Option(help="The teacher's open_clip config, where it came from a file.")]
Weights = Annotated[str | None, typer.Option(help="The teacher's weights, where they came from a file.")]
Scale = Annotated[float | None, typer.Option(help="Metres a unit of the scan: 0.001 for millimetres. [default: 1]")]
Up = Annotated[str | None, typer.Option(help="The scan's upward axis: x, y, z, -x, -y or -z. [default: z]")]
Level = Annotated[
    bool, typer.Option("--level", help="Find the floor, and level the scan for the network. [default: as it lies]")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Scenes at a time; the bytes don't depend on it. [default: cores]")
]
Scheduler = Annotated[str | None, typer.Option(help="Let the workers of this Dask scheduler do it, tcp://HOST:PORT.")]
Pool = Annotated[
    str,
    typer.Option(
        help="sets: a geometric set has one answer, its points' mean log-probability; none: a voxel has its own."
    ),
]
Ensemble = Annotated[
    str,
    typer.Option(
        help="Join the network with the scene's own labels: product, average, surer (the more probable), or none."
    ),
]
Labels = Annotated[str, typer.Option(help="Without a model: spread, refined or raw labels.")]
Gap = Annotated[
    float | None, typer.Option(help="Metres up to which points of one class are of one object. [default: 0.2]")
]
Device = Annotated[str, typer.Option(help="Where the networks run: auto, cpu or cuda.")]


def chosen(option: str, value: str, *known: str) -> Any:
    """A value of an option that has choices. Raises `HiclError` for another."""
    if value not in known:
        raise HiclError(f"{option} {value}: unknown; known are {', '.join(known)}")
    return value


def pooling(pool: str, ensemble: str = "none") -> tuple[Any, Any]:
    """--pool and --ensemble, checked."""
    return chosen("--pool", pool, "sets", "none"), chosen("--ensemble", ensemble, "none", "product", "average", "surer")


def say(text: str) -> None:
    """A line beside a command's result."""
    typer.echo(text, err=True)


def with_settings(kind: type) -> Callable[[Callable], Callable]:
    """Give a command an option for each setting of a dataclass without sections; it gets those that were given, by
    their keys, as its argument `given`, and None for the others."""
    declared = list(settings_of(kind))
    options = {
        setting.key: Annotated[setting.kind | None, typer.Option(help=setting.describe())] for setting in declared
    }

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            given = {key: values.pop(key) for key in options}
            return command(**values, given=given)

        own = inspect.signature(command).parameters
        named = inspect.Parameter.KEYWORD_ONLY
        kept = [own[name].replace(kind=named) for name in own if name != "given"]
        added = [inspect.Parameter(key, named, default=None, annotation=kind) for key, kind in options.items()]
        run.__dict__["__signature__"] = inspect.Signature([*kept, *added])
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *added)}
        del run.__wrapped__  # Typer would read the annotations there
        return run

    return decorate


def cluster(scheduler: str | None, workers: int | None) -> contextlib.AbstractContextManager[Executor | None]:
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
