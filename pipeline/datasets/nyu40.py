"""NYU40 category ids, in which ScanNet's `labels.ply` and label images count, and the 20 classes of its benchmark."""

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError

# The benchmark's 20 classes and their NYU40 ids (ScanNet/ScanNet BenchmarkScripts; names as CLIP2Scene prompts them).
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub", "other furniture",
)  # fmt: skip
NYU40_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
MOST = 40


def to_classes(ids: np.ndarray, where: str, names: tuple[str, ...] = CLASSES) -> np.ndarray:
    """uint8, the shape of `ids`: places in `names` of NYU40 ids; 255 for none (0) and for classes not in the list.

    Raises `HiclError` naming `where` for ids above 40: ScanNet v1 has raw category ids there, of a list of its own.
    """
    odd = ids[(ids < 0) | (ids > MOST)]
    if len(odd):
        raise HiclError(
            f"{where}: label {odd.flat[0]}, but NYU40 ends at {MOST}; raw category ids, as of ScanNet v1? "
            "Take version 2's file, or leave it out"
        )
    table = np.full(MOST + 1, NO_LABEL, np.uint8)
    for nyu, name in zip(NYU40_IDS, CLASSES, strict=True):
        if name in names:
            table[nyu] = names.index(name)
    return table[ids.astype(np.int64)]
