"""Are images turned or mirrored: depth against the poses, or colour against depth?"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from hicl.pipeline.doctor.sample import Geometry, Sample

NAME = "colour and depth"
# What is to be done to an image, how, and where in it as it is stored, a square with corners at 0 and 1, to find what
# belongs to (x, y).
TURNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], list[list[float]]]] = {
    "": (lambda image: image, [[1, 0, 0], [0, 1, 0]]),
    "turn {} by 180 degrees": (lambda image: image[::-1, ::-1], [[-1, 0, 1], [0, -1, 1]]),
    "turn {} by 90 degrees clockwise": (lambda image: np.rot90(image, -1), [[0, 1, 0], [-1, 0, 1]]),
    "turn {} by 90 degrees counter-clockwise": (lambda image: np.rot90(image), [[0, -1, 1], [1, 0, 0]]),
    "mirror {}, left to right": (lambda image: image[:, ::-1], [[-1, 0, 1], [0, 1, 0]]),
    "mirror {}, top to bottom": (lambda image: image[::-1], [[1, 0, 0], [0, -1, 1]]),
    "transpose {}": (lambda image: image.T, [[0, 1, 0], [1, 0, 0]]),
    "transpose {}, and turn them by 180 degrees": (lambda image: image[::-1, ::-1].T, [[0, -1, 1], [-1, 0, 1]]),
}


def readings(sample: Sample) -> Iterator[tuple[str, Geometry]]:
    """(what to do, what the frames mean then), for each way to turn the depth images."""
    own = sample.geometry
    height, width = own.depth.shape[1:]
    for told, (turn, _) in list(TURNS.items())[1:]:
        depth = np.stack([turn(image) for image in own.depth])
        keep = np.stack([turn(image) for image in own.keep])
        # The camera sees the same square, of other sides where the images lay on theirs; its focal lengths may be
        # those of images that lie so, too.
        across, down = depth.shape[2] / width, depth.shape[1] / height
        fx, fy, cx, cy = own.pinhole.T
        middle = (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5
        for focal in [(fx * across, fy * down), (fy, fx)][: 1 if across == down else 2]:
            pinhole = np.stack([*focal, *middle], axis=1)
            yield told.format("depth images"), replace(own, depth=depth, keep=keep, pinhole=pinhole)


def colors(sample: Sample, geometry: Geometry) -> dict[str, float]:
    """How alike the colours of what two frames both see are, by what is done to colour images; NaN where too little is
    seen twice."""
    turns = np.array([place for _, place in TURNS.values()], np.float64)
    likeness = geometry.likeness(sample.greys, sample.lens, turns)
    lying = geometry.likeness(
        sample.greys, np.ascontiguousarray(sample.lens[:, [1, 0, 2, 3]]), turns
    )  # intrinsics of images that lie so, too
    transposes = turns[:, 0, 0] == 0
    return dict(zip(TURNS, np.where(transposes, np.fmax(likeness, lying), likeness).tolist(), strict=True))
