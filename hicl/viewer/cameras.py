"""The cameras that saw a scene, and thumbnails of what they saw."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hicl.cache.reader import CacheReader, SceneReader
from hicl.config import settings_of, updated
from hicl.errors import FrameError, HiclError

_MADE = "the folder the cache was made from"
THUMBNAIL = 160  # pixels, the longer side of a frame's image in its frustum


@dataclass(frozen=True)
class View:
    """A camera that saw the scene.

    pose: float64 [4, 4], camera to world. fov: vertical, radians. aspect: width over height. image: uint8 [h, w, 3] of
    at most `THUMBNAIL` pixels, or None.
    """

    frame: int
    pose: np.ndarray
    fov: float
    aspect: float
    image: np.ndarray | None = None


def views_of(scene: SceneReader, images: dict[int, np.ndarray]) -> tuple[View, ...]:
    """The views of a cached scene, with the images there are."""
    arrays = (scene.read(f"views/{name}") for name in ("frame", "pose", "intrinsics", "size"))
    return tuple(
        View(int(frame), pose, float(2 * np.arctan(height / (2 * fy))), width / height, images.get(int(frame)))
        for frame, pose, (_, fy, _, _), (height, width) in zip(*arrays, strict=True)
    )


def read_images(cache: CacheReader, scene: SceneReader, root: Path) -> dict[int, np.ndarray]:
    """Thumbnails uint8 [h, w, 3] by frame, read from the raw scans; frames that can't be read are left out.

    Raises `HiclError` if the scan isn't below root, is damaged as a whole, or is another of the same name.
    """
    from PIL import Image

    from hicl.pipeline import datasets
    from hicl.pipeline.datasets.scene import Scene

    if cache.dataset not in datasets.DATASETS:
        raise HiclError(f"--root {root}: no reader for frames of data set {cache.dataset!r}; leave the option out")
    dataset = datasets.load(cache.dataset)
    known = {setting.key for setting in settings_of(dataset.Settings)} - {"teacher"}  # nothing is labelled here
    made = {key: value for key, value in scene.attributes["settings"].items() if key in known and value is not None}
    settings = updated(dataset.Settings(), made, f"{cache.path}: scene {scene.id}: settings")
    scans: list[Scene] = [scan for scan, _ in dataset.source(root, settings).scenes]
    scan = next((scan for scan in scans if scan.id == scene.id), None)
    if scan is None:
        raise HiclError(f"--root {root}: no scan {scene.id} there; give {_MADE}")
    images = {}
    for frame, pose in zip(scene.read("views/frame").tolist(), scene.read("views/pose"), strict=True):
        try:
            read = scan.frame(frame)
        except (FrameError, KeyError, IndexError):  # gone since the cache was made
            continue
        if not np.allclose(read.pose, pose, atol=1e-6):
            raise HiclError(
                f"--root {root}: frame {frame} of {scene.id} has another pose than in {cache.path}; give {_MADE}"
            )
        image = Image.fromarray(read.color)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        images[frame] = np.asarray(image)
    return images
