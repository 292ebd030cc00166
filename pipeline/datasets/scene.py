"""What every dataset yields: a scene with its points and its posed RGB-D frames.

Conventions: metres; `pose` is camera to world with x right, y down, z forward; a pixel's centre has integer
coordinates, so a pinhole camera sees (x, y, z) at column fx·x/z + cx and row fy·y/z + cy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from hicl.errors import FrameError, HiclError


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; focal lengths and principal point in pixels of an image of this size."""

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int


@dataclass(frozen=True)
class Points:
    """A scene's surface.

    xyz: float32 [N, 3], the dataset's own frame, counted from the scene's `origin`. rgb: uint8 [N, 3]. faces: int32
    [T, 3], or None for a cloud. label: uint8 [N] in the dataset's class order, 255 = none, or None without ground
    truth; for evaluation only.
    normal: float32 [N, 3] of unit length when the source brings its own. sight: float32 [N, 3], any vector from the
    point towards the sensor that saw it, to orient estimated normals by. left_out: points of the source that had no
    finite place. keep_faces: a cache keeps the faces too, so that a user's own scan is exported as the mesh it is.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    faces: np.ndarray | None = None
    label: np.ndarray | None = None
    normal: np.ndarray | None = None
    sight: np.ndarray | None = None
    left_out: int = 0
    keep_faces: bool = False


@dataclass(frozen=True)
class Frame:
    """One posed RGB-D frame. image: uint8 [H, W, 3], or what decodes it, which takes longest of all and isn't always
    wanted; depth: float32 [h, w], metres along z, 0 = nothing measured; cameras: its own, of depth and of colour, where
    they aren't the scene's."""

    image: np.ndarray | Callable[[], np.ndarray]
    depth: np.ndarray
    pose: np.ndarray
    cameras: tuple[Camera, Camera] | None = None

    @cached_property
    def color(self) -> np.ndarray:
        """uint8 [H, W, 3]. Raises `FrameError` if it can't be decoded."""
        return self.image() if callable(self.image) else self.image


def checked_pose(pose: np.ndarray, where: str = "pose") -> np.ndarray:
    """A camera-to-world matrix as float64 [4, 4]. Raises `FrameError` unless it is finite and a rigid motion, roughly.

    ScanNet writes -inf where tracking was lost; zeros, transposed poses and intrinsics are met as well.
    """
    pose = np.asarray(pose, np.float64)
    if pose.shape != (4, 4):
        raise FrameError(f"{where}: pose has shape {pose.shape}, expected (4, 4)")
    (a, b, c, t), (d, e, f, u), (g, h, i, v), (x, y, z, w) = pose.tolist()
    # Python's own numbers: for nine of them NumPy takes ten times as long.
    lengths = max(abs(a * a + d * d + g * g - 1), abs(b * b + e * e + h * h - 1), abs(c * c + f * f + i * i - 1))
    angles = max(abs(a * b + d * e + g * h), abs(a * c + d * f + g * i), abs(b * c + e * f + h * i))
    handed = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) > 0
    last = max(abs(x), abs(y), abs(z), abs(w - 1))
    if not (lengths <= 0.1 and angles <= 0.1 and handed and last <= 1e-3 and math.isfinite(t + u + v + x + y + z + w)):
        if not np.isfinite(pose).all():
            raise FrameError(f"{where}: pose is not finite (the scanner lost track)")
        raise FrameError(f"{where}: pose is not a rigid motion, camera to world")
    return pose


# Share of an image's width or height: lenses are off by a few percent, while intrinsics of an image that is larger or
# smaller by a quarter are off by more than this.
_OFF_CENTRE = 0.1


def off_centre(camera: Camera) -> float:
    """How far the principal point lies from the middle of the image, as a share of its width or height."""
    across, down = (camera.cx + 0.5) / camera.width, (camera.cy + 0.5) / camera.height
    return max(abs(across - 0.5), abs(down - 0.5))


def checked_camera(camera: Camera, where: str) -> Camera:
    """The camera. Raises `HiclError` if its principal point is far from the middle of its images."""
    if off_centre(camera) > _OFF_CENTRE:
        raise HiclError(
            f"{where}: principal point ({camera.cx:g}, {camera.cy:g}) is far from the middle of images of "
            f"{camera.width}x{camera.height}; are they of another size than the intrinsics? Scale one to the other"
        )
    return camera


@dataclass(frozen=True)
class Readings:
    """How what stands in the files of an RGB-D folder is meant. depth_scale: units a metre.

    poses: "camera-to-world" or "world-to-camera". axes: "opencv", x right, y down, z forward, or "opengl", x right,
    y up, z back.
    """

    depth_scale: float = 1000.0
    poses: str = "camera-to-world"
    axes: str = "opencv"

    def camera_to_world(self, written: np.ndarray) -> np.ndarray:
        """float64 [4, 4] in our axes of a pose as it is written."""
        pose = np.linalg.inv(written) if self.poses == "world-to-camera" else written
        return pose @ _FLIP if self.axes == "opengl" else pose

    def written(self, pose: np.ndarray) -> np.ndarray:
        """The inverse of `camera_to_world`."""
        pose = pose @ _FLIP if self.axes == "opengl" else pose
        return np.linalg.inv(pose) if self.poses == "world-to-camera" else pose


_FLIP = np.diag([1.0, -1, -1, 1])


@dataclass(frozen=True)
class Said:
    """What is known of `Readings`, by a format or by the user; None: nothing."""

    depth_scale: float | None = None
    poses: str | None = None
    axes: str | None = None

    def over(self, readings: Readings) -> Readings:
        """The readings, with what is said in its place."""
        return replace(readings, **{name: value for name, value in vars(self).items() if value is not None})


class Listed(Protocol):
    """What is preprocessed as one: a scene or a group. A dataclass of little more than names, which other processes
    get. Everything is read when it is asked for, nothing before; what is kept of it is kept outside the fields, and
    stays behind in a copy by `dataclasses.replace`, and when it is pickled.

    color_camera: a `Camera`. frame_ids: int32 [F], the frames chosen by the data set's frame step; a frame that can't
    be used is still listed.
    """

    id: str
    if TYPE_CHECKING:  # fields or properties: a property that was there would be taken for a field's default

        @property
        def color_camera(self) -> Camera: ...

        @property
        def frame_ids(self) -> np.ndarray: ...

    @property
    def source(self) -> str:
        """Where the scan comes from, apart from its id: two of one id and different sources are not the same scan."""
        return self.id

    def missing(self) -> list[str]:
        """Look, without reading frames, whether all files are there: what is missing, for each frame that can't be used
        therefore. Raises `HiclError` where nothing can be made of the scene."""
        return []

    def point_files(self) -> list[Path]:
        """Files that points and sets are read from."""
        ...

    def frame_files(self) -> list[Path]:
        """Files that frames are read from."""
        ...


class Scene(Listed, Protocol):
    """A scene as the pipeline reads it. A data set's scenes derive from it, for what they have nothing of their own to
    say to. depth_camera: a `Camera`."""

    if TYPE_CHECKING:

        @property
        def depth_camera(self) -> Camera: ...

    @property
    def readings(self) -> Readings | None:
        """How its files are read, where the user has options to say so."""
        return None

    @property
    def origin(self) -> np.ndarray:
        """float64 [3]: what was taken off points and poses, for coordinates that float32 can't hold; mostly 0."""
        return np.zeros(3)

    @property
    def turn(self) -> np.ndarray:
        """float64 [3, 3]: the rotation about `origin` by which points and poses were levelled; mostly none."""
        return np.eye(3)

    def lying(self) -> "Scene":
        """The scene as its files have it, where it was levelled."""
        return self

    def frame_name(self, frame_id: int) -> str:
        """What the frame is called in the data set; mostly its number."""
        return str(frame_id)

    @property
    def fuses(self) -> bool:
        """Whether its surface is made of its frames, by a pass over all of them."""
        return False

    def points(self) -> Points: ...

    def fused(self, tick: Callable[[], None]) -> Points:
        """The same where it `fuses`. tick: called for each frame that was gone through."""
        return self.points()

    def frame(self, frame_id: int) -> Frame:
        """Read one frame. Raises `FrameError` where this frame alone is unusable (decoding, pose, size)."""
        ...

    def pose(self, frame_id: int) -> np.ndarray:
        """The pose of a frame alone. Raises `FrameError`."""
        return self.frame(frame_id).pose

    def shipped_sets(self) -> np.ndarray | None:
        """int32 [N] over-segmentation that came with the scan, or None."""
        return None


class Group(Listed):
    """Scenes that are stored together, as the key frames of a drive are: its items. A key frame has no surface and no
    depth images, but a sweep's points, seen by several cameras at once.

    n_points: about how many all its items have. described: a hash of what is known of it apart from its files' content.
    """

    if TYPE_CHECKING:

        @property
        def items(self) -> Sequence["Item"]: ...

        @property
        def n_points(self) -> int: ...

        @property
        def described(self) -> str: ...


class Item(Protocol):
    """A key frame of a group. token: what the data set calls it by. channels: the cameras that it has images of.
    occlusion: whether a camera may be kept from seeing a point by others before it."""

    if TYPE_CHECKING:

        @property
        def id(self) -> str: ...

        @property
        def token(self) -> str: ...

        @property
        def channels(self) -> list[str]: ...

        @property
        def occlusion(self) -> bool: ...

    def points(self) -> "Sweep":
        """Raises `HiclError` where the key frame can't be used."""
        ...

    def image(self, channel: str) -> tuple[np.ndarray, Camera, np.ndarray]:
        """(uint8 [H, W, 3], its camera, its pose float64 [4, 4], to the frame of the points). Raises `FrameError` where
        it alone can't be used."""
        ...

    def image_name(self, channel: str) -> str:
        """What the image's file is called, without its ending."""
        ...


@dataclass(frozen=True)
class Sweep:
    """Points of a key frame: of its own sweep of the LiDAR first, all of them in the file's order, then of others.

    xyz: float32 [N, 3] metres, z up, in multiples of 1/1024. intensity: uint8 [N]. valid: bool [N]; False: the car
    itself, no return, or not finite (then at 0 0 0). age: uint8 [N], 0 of its own sweep, n of the n-th before; None:
    all are its own. label: uint8 [N] in the data set's class order, 255 = none, or None without ground truth; for
    evaluation only. sensor: float64 [3], where the LiDAR was.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    valid: np.ndarray
    age: np.ndarray | None
    label: np.ndarray | None
    sensor: np.ndarray


L = TypeVar("L", bound=Listed)


def unread(scene: L) -> L:
    """A copy that has read nothing of its files yet, and takes with it what it will."""
    fields: Any = scene
    return replace(fields)


@dataclass(frozen=True)
class Source:
    """What to preprocess.

    scenes: each with its split. truth_classes: those that the data set's ground truth is in, none without. classes:
    prompted by `hicl preprocess` unless others are asked for. notes: lines about the root that its user should know.
    prompts: words of each class, where they aren't just its name. grouped: whether its scenes are groups.
    """

    dataset: str
    root: Path
    scenes: Sequence[tuple[Scene | Group, str]]
    truth_classes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    prompts: tuple[tuple[str, ...], ...] = ()
    grouped: bool = False
