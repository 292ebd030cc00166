"""Which store a location is."""

from pathlib import Path
from typing import TYPE_CHECKING

from hicl.cache.store import Folder, is_url

if TYPE_CHECKING:  # fsspec is for URLs only
    from hicl.cache.remote import RemoteStore


def open_store(location: str | Path) -> "Folder | RemoteStore":
    """The `Folder` or the `remote.RemoteStore` at a location. Raises `HiclError` for a URL of no known file system."""
    if not is_url(location):
        return Folder(location)
    from hicl.cache.remote import RemoteStore

    return RemoteStore(str(location))
