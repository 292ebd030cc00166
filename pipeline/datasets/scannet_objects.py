"""ScanNet's annotated objects.

`<scene>.aggregation.json` lists them in `segGroups`, each with the segments that it is made of, by their numbers in
`<scene>_vh_clean_2.0.010000.segs.json`. Source: the README of ScanNet/ScanNet, "Data Formats".
"""

from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.scannet import find_scenes
from hicl.read import read_json


def read_objects(root: Path, scene_id: str) -> np.ndarray:
    """The object that each vertex of a scan's mesh is of, int32 [N], -1 for none; of two that claim a segment, the
    later in the file. Raises `HiclError` where the scan or its annotation is missing or damaged."""
    scene = next((scene for scene, _ in find_scenes(root)[0] if scene.id == scene_id), None)
    if scene is None:
        raise HiclError(f"{root}: holds no scan {scene_id}")
    path, segments = scene.folder / f"{scene_id}.aggregation.json", scene.shipped_sets()
    if segments is None or not path.is_file():
        missing = path.name if segments is not None else f"{scene_id}_vh_clean_2.0.010000.segs.json"
        raise HiclError(f"{scene.folder}: no {missing}, so its objects aren't known")
    object_of = np.full(int(segments.max(initial=-1)) + 1, -1, np.int32)
    try:
        for group in read_json(path)["segGroups"]:
            own = np.array(group["segments"], np.uint64)
            object_of[own] = int(group["objectId"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise HiclError(f"{path}: not ScanNet's: no segGroups of objectId and segments of {segments.max()}") from None
    return object_of[segments]
