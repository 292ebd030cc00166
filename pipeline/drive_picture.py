"""Pictures of a key frame: what its cameras show, with the labels of the points that they see."""

from pathlib import Path

import numpy as np
from PIL import Image

from hicl.cache.reader import SceneReader
from hicl.errors import FrameError
from hicl.pipeline.datasets.images import read_color
from hicl.pipeline.kernels.splat import splat

_WIDTH = 560  # pixels of a panel
_DARK = 24

Panel = tuple[str, Image.Image]


def cameras(scene: SceneReader, what: str, rgb: np.ndarray, root: Path | None) -> list[Panel]:
    """A panel a camera: its pairs in colours uint8 [P, 3], over its image where that is below a root."""
    indptr, pixel, point = (scene.read(f"pairs/{name}") for name in ("indptr", "pixel", "point"))
    xyz, panels = scene.read("points/xyz").astype(np.float64), []
    for view in range(len(indptr) - 1):
        height, width = scene.read("views/size")[view].tolist()
        own = slice(indptr[view], indptr[view + 1])
        scale = _WIDTH / width
        image = _image(scene, view, root, (_WIDTH, round(height * scale)))
        row, column = ((pixel[own] + 0.5) * scale).T
        depth = np.linalg.norm(xyz[point[own]] - scene.read("views/pose")[view, :3, 3], axis=1)
        splat(image, row, column, depth, np.ascontiguousarray(rgb[own]), 2)
        panels.append((f"{_channel(scene, view)}, {what}", Image.fromarray(image)))
    return panels


def _channel(scene: SceneReader, view: int) -> str:
    names = scene.attributes.get("frame_names")
    return names[view] if names else str(scene.read("views/frame")[view])


def _image(scene: SceneReader, view: int, root: Path | None, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] of size (W, H): the view's image, darkened, or where it isn't at hand nothing but dark."""
    names = scene.attributes.get("images", [])
    if root is not None and names:
        for path in sorted((root / "samples" / _channel(scene, view)).glob(f"{names[view]}.*")):
            try:
                shown = Image.fromarray(read_color(path)).resize(size)
                return np.asarray(shown) // 2
            except FrameError:
                continue
    return np.full((size[1], size[0], 3), _DARK, np.uint8)
