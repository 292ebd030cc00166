"""Masks of images by a segmenter that has seen no label: Felzenszwalb and Huttenlocher's graph segmentation of colours.

It stands where Segment Anything would, whose weights come of masks that people corrected; any segmenter's masks are
read alike (`--masks-dir`).
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from hicl.errors import FrameError, HiclError
from hicl.files import replacing
from hicl.pipeline.datasets.scene import Group, Scene, Source, unread
from hicl.pipeline.partition import felzenszwalb
from hicl.pipeline.warmup import compile_kernels
from hicl.processes import pool
from hicl.progress import Progress

_ROWS = 120  # of an image as it is segmented
_SIGMA = 0.8  # of the smoothing before it
_K, _SMALLEST = 300.0, 50  # in colours of 0 … 255, and in pixels


def colour_masks(image: np.ndarray) -> np.ndarray:
    """uint16 [h, w], at most 120 rows: the mask of each pixel of an image uint8 [H, W, 3], from 1.

    Source: Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004, section 6: pixels and
    their eight neighbours, weighed by the distance of their colours after a Gaussian of 0.8. k = 300 is theirs for
    larger images; on rooms of seed 5 the vote gains most with it, and with 120 rows (of 120 and 240, k 100 to 1000).
    """
    height = min(_ROWS, image.shape[0])
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    colour = np.asarray(small.filter(ImageFilter.GaussianBlur(_SIGMA)), np.float32)
    pixel = np.arange(height * width, dtype=np.int32).reshape(height, width)
    edges = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in _neighbours(pixel)])
    weights = np.concatenate([np.linalg.norm(a - b, axis=2).ravel() for a, b in _neighbours(colour)])
    found = felzenszwalb(height * width, edges, weights, _K, _SMALLEST)
    return (found + 1).astype(np.uint16).reshape(height, width)


def _neighbours(grid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """A grid and itself moved by one to the right, down, and both ways aslant, where both are."""
    return [
        (grid[:, :-1], grid[:, 1:]),
        (grid[:-1], grid[1:]),
        (grid[:-1, :-1], grid[1:, 1:]),
        (grid[:-1, 1:], grid[1:, :-1]),
    ]


def mask_images(source: Source, out: Path, workers: int) -> None:
    """Write out/<scene>/<frame>.png, as `--masks-dir` takes them, of all frames that can be read; one that is there
    already is left alone.

    Raises:
        HiclError: the source's images are of drives.
    """
    rooms = [scene for scene, _ in source.scenes if not isinstance(scene, Group)]
    if len(rooms) < len(source.scenes):
        raise HiclError(f"{source.root}: masks are of frames of rooms, not of drives")
    with pool(workers) as processes, Progress("masks", len(rooms), "scene") as bar:
        for _ in processes.map(partial(_of_scene, out), rooms):
            bar.update()


def _of_scene(out: Path, scene: Scene) -> None:
    compile_kernels(clouds=False)
    fresh = unread(scene)
    for frame in fresh.frame_ids.tolist():
        path = out / scene.id / f"{fresh.frame_name(frame)}.png"
        if path.exists():
            continue
        try:
            image = fresh.frame(frame).color
        except FrameError:  # as `hicl preprocess` does, which says so
            continue
        with replacing(path) as temporary:
            Image.fromarray(colour_masks(image)).save(temporary, "PNG")
