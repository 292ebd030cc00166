"""The way in for whoever reads a cache."""

from pathlib import Path

from hicl.cache.reader import CacheReader
from hicl.cache.store import is_url
from hicl.errors import HiclError


def open_cache(location: str | Path, mirror: Path | None = None) -> CacheReader:
    """Open a cache: a folder, or a URL of any file system that fsspec knows.

    mirror: where a remote cache is fetched to; None: the user's cache folder.
    Raises `HiclError` if there is none, or one of another version.
    """
    if is_url(location):
        from hicl.cache.mirror import MirroredCache

        return MirroredCache(str(location), mirror)
    if not Path(location).is_dir():
        raise HiclError(f"{location}: no such folder; make a cache with `hicl preprocess`")
    return CacheReader(location)
