"""Pictures of a scene's points, drawn without a window: a view from above, near walls taken away."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hicl.pipeline.kernels.splat import splat

# The benchmark's colours (ScanNet/ScanNet BenchmarkScripts/util.py), by class name.
_SCANNET_COLORS = {
    "wall": (174, 199, 232), "floor": (152, 223, 138), "cabinet": (31, 119, 180), "bed": (255, 187, 120),
    "chair": (188, 189, 34), "sofa": (140, 86, 75), "table": (255, 152, 150), "door": (214, 39, 40),
    "window": (197, 176, 213), "bookshelf": (148, 103, 189), "picture": (196, 156, 148), "counter": (23, 190, 207),
    "desk": (247, 182, 210), "curtain": (219, 219, 141), "refrigerator": (255, 127, 14),
    "shower curtain": (158, 218, 229), "toilet": (44, 160, 44), "sink": (112, 128, 144), "bathtub": (227, 119, 194),
    "other furniture": (82, 84, 163),
}  # fmt: skip
# nuScenes-lidarseg's (nutonomy/nuscenes-devkit, python-sdk/nuscenes/eval/lidarseg/utils.py).
_LIDARSEG_COLORS = {
    "barrier": (112, 128, 144), "bicycle": (220, 20, 60), "bus": (255, 127, 80), "car": (255, 158, 0),
    "construction_vehicle": (233, 150, 70), "motorcycle": (255, 61, 99), "pedestrian": (0, 0, 230),
    "traffic_cone": (47, 79, 79), "trailer": (255, 140, 0), "truck": (255, 99, 71),
    "driveable_surface": (0, 207, 191), "other_flat": (175, 0, 75), "sidewalk": (75, 0, 75),
    "terrain": (112, 180, 60), "manmade": (222, 184, 135), "vegetation": (0, 175, 0),
}  # fmt: skip
_KNOWN_COLORS = _SCANNET_COLORS | _LIDARSEG_COLORS
_NONE = (90, 90, 90)
_PAPER = 255
# Dark blue over violet and orange to light yellow, each step as much brighter as the last.
_HEAT = np.array([(13, 8, 80), (92, 20, 140), (170, 45, 120), (225, 95, 80), (250, 165, 55), (250, 240, 130)])


def class_colors(classes: tuple[str, ...]) -> np.ndarray:
    """uint8 [max(256, C), 3]: a colour a class, the benchmark's where it has one; the rest grey, as 255 = none."""
    table = np.full((max(256, len(classes)), 3), _NONE, np.uint8)
    for index, name in enumerate(classes):
        hue = (index * 0.61803) % 1  # golden ratio: neighbours in the list lie far apart
        other = [round(255 * x) for x in colorsys.hsv_to_rgb(hue, 0.55, 0.9)]
        table[index] = _KNOWN_COLORS.get(name, other)
    return table


def set_colors(set_id: np.ndarray) -> np.ndarray:
    """uint8 [N, 3]: a random colour a set."""
    table = np.random.default_rng(0).integers(60, 256, (int(set_id.max()) + 1, 3)).astype(np.uint8)
    return table[set_id]


HEAT_RANGE = (0.02, 0.99)  # quantiles: a few stray points must not take the contrast


def heat(value: np.ndarray) -> np.ndarray:
    """uint8 [N, 3] of float [N]: dark to bright between the quantiles `HEAT_RANGE`; grey where it is NaN."""
    colors = np.full((len(value), 3), _NONE, np.uint8)
    known = np.isfinite(value)
    if known.any():
        low, high = np.quantile(value[known], HEAT_RANGE)
        share = np.clip((value[known] - low) / max(high - low, 1e-12), 0, 1) * (len(_HEAT) - 1)
        colors[known] = np.stack([np.interp(share, range(len(_HEAT)), _HEAT[:, c]) for c in range(3)], axis=1)
    return colors


class View:
    """A camera above and outside the scene, looking at its middle. Draws any colouring of the same points.

    xyz: float32 [N, 3]; normal: float32 [N, 3], None to draw surfaces from behind as well; up, ahead: float64 [3],
    what is up, and roughly the direction to look in; tilt: how far down the camera looks, degrees, 90: from above.
    """

    def __init__(
        self,
        xyz: np.ndarray,
        normal: np.ndarray | None,
        up: np.ndarray,
        ahead: np.ndarray,
        width: int = 560,
        tilt: float = 50,
    ):
        up = up / np.linalg.norm(up)
        aside = np.cross(ahead, up)
        if np.linalg.norm(aside) < 1e-3:  # looking straight down: any side will do
            aside = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
        aside /= np.linalg.norm(aside)
        forward = np.cross(up, aside)
        angle = np.deg2rad(tilt)
        gaze = np.cos(angle) * forward - np.sin(angle) * up
        down = np.cross(gaze, aside)
        low, high = np.quantile(xyz, [0.005, 0.995], axis=0)
        inside = ((xyz >= low - 0.3) & (xyz <= high + 0.3)).all(axis=1)  # stray points must not shrink the picture
        if normal is not None and (toward := normal @ gaze < 0.1)[inside].any():
            inside &= toward
        self._shown = np.flatnonzero(inside)
        seen = xyz[self._shown]
        x, y, z = (seen @ axis for axis in (aside, down, gaze))
        scale = (width - 20) / max(np.ptp(x), np.ptp(y), 1e-6)
        self._column = (x - x.min()) * scale + 10
        self._row = (y - y.min()) * scale + 10
        self._depth = z
        self.size = (int(np.ptp(y) * scale) + 21, width)
        # A splat covers the spacing of the points, so that surfaces look closed.
        area = np.ptp(x) * np.ptp(y) * scale**2
        self._radius = int(np.clip(np.ceil(np.sqrt(area / len(seen))), 1, 6))

    def draw(self, rgb: np.ndarray) -> Image.Image:
        """rgb: uint8 [N, 3]."""
        image = np.full((*self.size, 3), _PAPER, np.uint8)
        splat(image, self._row, self._column, self._depth, np.ascontiguousarray(rgb[self._shown]), self._radius)
        return Image.fromarray(image)


def sheet(panels: list[tuple[str, Image.Image]], legend: list[tuple[str, tuple]], columns: int = 3) -> Image.Image:
    """Titled panels in a grid, the legend of (name, colour) below. Without panels the legend alone."""
    title = ImageFont.load_default(20)
    width = max((panel.width for _, panel in panels), default=600)
    height = max((panel.height for _, panel in panels), default=-34) + 34
    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    key = _legend(legend, columns * width)
    image = Image.new("RGB", (columns * width, rows * height + key.height), "white")
    draw = ImageDraw.Draw(image)
    for index, (name, panel) in enumerate(panels):
        x, y = index % columns * width, index // columns * height
        draw.text((x + 10, y + 6), name, fill="black", font=title)
        image.paste(panel, (x, y + 34))
    image.paste(key, (0, rows * height))
    return image


def stacked(sheets: list[Image.Image]) -> Image.Image:
    """One below the other."""
    image = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        image.paste(sheet, (0, top))
        top += sheet.height
    return image


def _legend(entries: list[tuple[str, tuple]], width: int) -> Image.Image:
    font = ImageFont.load_default(15)
    longest = max((font.getlength(name) for name, _ in entries), default=0)
    across = max(1, int(width // max(150, longest + 40)))
    image = Image.new("RGB", (width, 22 * -(-len(entries) // across) + 12), "white")
    draw = ImageDraw.Draw(image)
    for index, (name, color) in enumerate(entries):
        x, y = index % across * (width // across) + 10, index // across * 22 + 4
        draw.rectangle((x, y, x + 14, y + 14), fill=tuple(int(c) for c in color))
        draw.text((x + 20, y - 2), name, fill="black", font=font)
    return image
