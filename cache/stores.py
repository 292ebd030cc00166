"""Which store a location is."""

from pathlib import Path

from hicl.cache.store import Folder, is_url


def open_store(location: str | Path):
    """The `Folder` or the `remote.RemoteStore` at a location. Raises `HiclError` for a URL of no known file system."""
    if not is_url(location):
        return Folder(location)
    from hicl.cache.remote import RemoteStore

    return RemoteStore(str(location))
