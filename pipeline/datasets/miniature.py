"""Rooms of `hicl miniature`, through the ScanNet reader, labelled by the miniature's own teacher."""

from pathlib import Path

from hicl.errors import HiclError
from hicl.pipeline.datasets import scannet
from hicl.pipeline.datasets.scannet import Settings, defaults, miniature_settings
from hicl.pipeline.datasets.scene import Source

__all__ = ["Settings", "defaults", "source"]


def source(root: Path, settings: Settings) -> Source:
    """The rooms below a root. Raises `HiclError` if it isn't a miniature."""
    if miniature_settings(root) is None:
        raise HiclError(f"{root}: no miniature; `hicl miniature --out {root}` writes one")
    return scannet.source(root, settings)
