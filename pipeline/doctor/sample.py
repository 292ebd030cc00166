"""A few frames of a capture, read once for all checks, and how well they agree under one reading or another."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera, Frame, Scene
from hicl.pipeline.kernels import doctor as kernels
from hicl.pipeline.kernels.fuse import sound

_PLACES, _FARTHEST_PARTNER = 8, 20  # along the capture, each with a frame soon after it: 20 are 0.7 s of a video
_WIDTH, _GREY = 320, (120, 160)  # depth images are thinned to this width, colour images averaged to this size
_PIXELS = 500  # of a frame that are compared
_SHARE = 0.03  # of its depth that a measurement may be off: of 3 m, 9 cm for noise and poses together
_JUMP = 0.05  # between neighbours, of their depth: more is an outline
_PAIR = 50  # pixels that two frames must both see for their colours to be compared
_STILL = 0.7  # of two depth images that is the same without any motion: they tell nothing of poses
_SOUND = 0.8  # of what two frames measure both, the same: right readings have 0.95, wrong ones half of it
_DOUBT = 0.005  # of all pixels: so many count as contradicting, for readings that hardly compare any


@dataclass(frozen=True)
class Geometry:
    """What F depth images mean by one reading: depth float32 [F, h, w] metres; keep bool [F, h, w], pixels that don't
    lie on outlines; pose float64 [F, 4, 4], camera to world; pinhole float64 [F, 4], fx fy cx cy."""

    depth: np.ndarray
    keep: np.ndarray
    pose: np.ndarray
    pinhole: np.ndarray

    @property
    def step(self) -> int:
        return max(1, int((self.depth[0].size / _PIXELS) ** 0.5))

    def of(self, chosen: np.ndarray) -> "Geometry":
        """Only some of the frames."""
        return Geometry(self.depth[chosen], self.keep[chosen], self.pose[chosen], self.pinhole[chosen])

    def compared(self) -> np.ndarray:
        """int64 [F, F, 3]; see `kernels.compare`."""
        pose, step = np.ascontiguousarray(self.pose), self.step
        return kernels.compare(self.depth, self.keep, pose, np.linalg.inv(pose), self.pinhole, step, _SHARE)

    def likeness(self, grey: np.ndarray, lens: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """float64 [T]: correlation of the greys of what two frames measure alike, by each turn of the colour images;
        NaN where too little is. See `kernels.likeness`."""
        pose, step = np.ascontiguousarray(self.pose), self.step
        frames = self.depth, self.keep, pose, np.linalg.inv(pose), self.pinhole
        found = kernels.likeness(*frames, grey, lens, turns, step, _SHARE, _PAIR)
        return found[:, 0] / np.where(found[:, 1] > 0, found[:, 1], np.nan)


class Fit(NamedTuple):
    """Of what frames measure where others measured too: pixels with the same depth, and pixels that lie before what the
    other frame measured, so that it saw through them. (Behind, they may well be hidden.) doubt: pixels that are taken
    to contradict in any case."""

    same: float
    through: float
    doubt: float

    @property
    def share(self) -> float:
        """0 … 1, near 1 where frames agree, and near 0 where hardly anything is compared."""
        return self.same / max(self.same + self.through + self.doubt, 1.0)

    @property
    def enough(self) -> bool:
        return self.same + self.through > 2 * self.doubt


class Sample:
    """The frames of a scene that its checks look at. at: their places in `scene.frame_ids`, int [F]; frames: those;
    unread: why others can't be read; with_colors: whether their colour images are wanted, and have to decode. Raises
    `HiclError` if none can, or there are no intrinsics."""

    def __init__(self, scene: Scene, with_colors: bool = True):
        self.scene, self.with_colors = scene, with_colors
        self.cameras: tuple[Camera, Camera] = scene.depth_camera, scene.color_camera
        n = len(scene.frame_ids)
        first = np.linspace(0, max(n - 2, 0), _PLACES).astype(int)
        places = np.unique(np.minimum(np.concatenate([first, first + min(max(1, n // 64), _FARTHEST_PARTNER)]), n - 1))
        self.frames: list[Frame] = []
        self.unread: list[str] = []
        at = []
        for place in places.tolist():
            try:
                frame = scene.frame(int(scene.frame_ids[place]))
                _ = with_colors and frame.color
                if self.frames and frame.depth.shape != self.frames[0].depth.shape:
                    raise FrameError(f"{scene.id}: depth images of different sizes")
            except FrameError as error:
                self.unread.append(str(error))
            else:
                self.frames.append(frame)
                at.append(place)
        if not at:
            raise HiclError(f"{scene.id}: none of {len(places)} frames can be read; the first: {self.unread[0]}")
        self.at = np.array(at)

    @cached_property
    def geometry(self) -> Geometry:
        """As it stands."""
        thin = max(1, self.cameras[0].width // _WIDTH)
        begin = thin // 2
        depth = np.ascontiguousarray([frame.depth[begin::thin, begin::thin] for frame in self.frames], np.float32)
        keep = np.stack([sound(image, 0.0, np.inf, _JUMP) for image in depth])
        cameras = [frame.cameras[0] if frame.cameras else self.cameras[0] for frame in self.frames]
        pinhole = np.array([[c.fx, c.fy, c.cx - begin, c.cy - begin] for c in cameras]) / thin
        return Geometry(depth, keep, np.stack([frame.pose for frame in self.frames]), pinhole)

    @cached_property
    def greys(self) -> np.ndarray:
        """float32 [F, 120, 160]."""
        return np.stack([shrunk(frame.color) for frame in self.frames])

    @cached_property
    def lens(self) -> np.ndarray:
        """float64 [F, 4]: the colour camera's fx fy cx cy as shares of its image's sides, corners at 0 and 1."""
        cameras = [frame.cameras[1] if frame.cameras else self.cameras[1] for frame in self.frames]
        return np.array(
            [[c.fx / c.width, c.fy / c.height, (c.cx + 0.5) / c.width, (c.cy + 0.5) / c.height] for c in cameras]
        )

    @cached_property
    def moved(self) -> np.ndarray:
        """bool [F, F]: pairs of frames whose depth images differ, so that poses matter."""
        still = replace(self.geometry, pose=np.tile(np.eye(4), (len(self.at), 1, 1))).compared()
        return ~np.eye(len(self.at), dtype=bool) & (still[..., 0] < _STILL * np.maximum(still.sum(axis=-1), 1))

    def fit(self, geometry: Geometry, chosen: np.ndarray | None = None) -> Fit:
        """How well frames agree by a reading; chosen: it is of these frames only."""
        moved = self.moved if chosen is None else self.moved[np.ix_(chosen, chosen)]
        same, through, _ = (geometry.compared() * moved[..., None]).sum(axis=(0, 1)).tolist()
        pixels = geometry.keep[:, :: geometry.step, :: geometry.step].sum(axis=(1, 2)) @ moved.sum(axis=1)
        return Fit(same, through, _DOUBT * float(pixels))

    @cached_property
    def as_it_is(self) -> Fit:
        return self.fit(self.geometry)

    @property
    def agree(self) -> bool:
        """Whether the frames agree as they stand."""
        return self.as_it_is.enough and self.as_it_is.share >= _SOUND


def shrunk(color: np.ndarray) -> np.ndarray:
    """A colour image's greys, averaged: float32 [120, 160]."""
    small = Image.fromarray(color).convert("L").resize(_GREY[::-1], Image.Resampling.BOX)
    return np.asarray(small, np.float32)
