"""Predictions as nuScenes-lidarseg's challenge takes them.

    DIR/lidarseg/<split>/<token>_lidarseg.bin   uint8, a class of 1 to 16 for each point of a sweep, in its file's order
    DIR/<split>/submission.json                 what they were made from

Source: nutonomy/nuscenes-devkit, python-sdk/nuscenes/eval/lidarseg (README, validate_submission.py).
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hicl.cache.names import assert_plain, item_of
from hicl.cache.reader import CacheReader, SceneReader
from hicl.errors import HiclError
from hicl.files import workplace
from hicl.pipeline.datasets.nuscenes_classes import CLASSES
from hicl.pipeline.datasets.nuscenes_splits import official

# The network reads LiDAR alone, but learnt from cameras, through a teacher that learnt from pictures of the web.
_META = {"use_camera": True, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": True}

Use = Callable[[SceneReader, np.ndarray], None]


@contextlib.contextmanager
def writing(out: Path, cache: CacheReader, split: str) -> Iterator[Use]:
    """Gives what writes a key frame's prediction, class ids [N]; all of them take their places at the end of the block.

    Raises `HiclError` for a cache of other classes than the challenge's, a scene that is no key frame of nuScenes, or
    where there is a submission of this split already. After an error nothing is left.
    """
    assert_classes(cache.classes, str(cache.path))
    name = eval_set(cache, split)
    homes = out / "lidarseg" / name, out / name
    for home in homes:
        if home.exists():
            raise HiclError(f"{home}: is there already; give another --submission")
    out.mkdir(parents=True, exist_ok=True)
    with workplace(out) as folder:
        (folder / "sweeps").mkdir()
        (folder / "about").mkdir()

        def use(scene: SceneReader, label: np.ndarray) -> None:
            token = scene.attributes.get("token")
            if token is None:
                raise HiclError(
                    f"{cache.path}: scene {scene.id}: no key frame of nuScenes; --submission is for its caches"
                )
            assert_plain(token, f"{cache.path}: scene {scene.id}")
            own = scene.read("points/sweep") == 0 if scene.has("points/sweep") else slice(None)
            write_labels(folder / "sweeps" / f"{token}_lidarseg.bin", label[own])

        yield use
        (folder / "about" / "submission.json").write_text(json.dumps({"meta": _META}, indent=1) + "\n")
        homes[0].parent.mkdir(exist_ok=True)
        os.rename(folder / "sweeps", homes[0])
        os.rename(folder / "about", homes[1])


def assert_classes(classes: tuple[str, ...], where: str) -> None:
    """Raise `HiclError` unless classes are nuScenes-lidarseg's 16, in its order."""
    if tuple(classes) != CLASSES:
        raise HiclError(f"{where}: its {len(classes)} classes are not nuScenes-lidarseg's 16 in their order")


def write_labels(path: Path, label: np.ndarray) -> None:
    """Places in `CLASSES` [N] as nuScenes-lidarseg writes them: a byte a point, 1 to 16."""
    path.write_bytes((label + 1).astype(np.uint8).tobytes())


def eval_set(cache: CacheReader, split: str) -> str:
    """What the devkit calls a split: that of v1.0-mini has another name, by its scenes."""
    groups = {(item_of(scene_id) or (scene_id, 0))[0] for scene_id in cache.scene_ids(split)}
    return next((name for name in ("mini_train", "mini_val") if groups == set(official(name))), split)
