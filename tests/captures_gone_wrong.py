"""Captures whose parts don't fit together, each made of a sound one, and what is right to say of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from hicl.clouds import Cloud, write_ply
from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Readings, Scene, checked_camera

_TURNED = "colour and depth"
_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # x ahead, y left, z up, in a camera
_FLIP = np.diag([1.0, -1, -1, 1])  # y up and z back, in place of y down and z ahead


@dataclass(frozen=True)
class Capture:
    """Frames and surface: color uint8 [F, H, W, 3]; depth uint16 [F, h, w], millimetres; pose float64 [F, 4, 4], camera
    to world; intrinsics [3, 3] of both cameras; cloud: the surface, or None."""

    color: np.ndarray
    depth: np.ndarray
    pose: np.ndarray
    color_k: np.ndarray
    depth_k: np.ndarray
    cloud: Cloud | None


def of_scene(scene) -> Capture:
    """What a scene of any data set holds, of the frames that can be used."""
    frames = []
    for frame_id in scene.frame_ids.tolist():
        try:
            frames.append(scene.frame(frame_id))
        except FrameError:
            continue
    points = scene.points()
    return Capture(
        np.stack([frame.color for frame in frames]),
        np.stack([np.rint(1000 * frame.depth).astype(np.uint16) for frame in frames]),
        np.stack([frame.pose for frame in frames]),
        *(np.array([[c.fx, 0, c.cx], [0, c.fy, c.cy], [0, 0, 1]]) for c in (scene.color_camera, scene.depth_camera)),
        Cloud(points.xyz, points.rgb, points.faces),
    )


def write(capture: Capture, folder: Path) -> Path:
    """As ScanNet's exporters do, the surface beside."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", capture.color_k)
    np.savetxt(folder / "intrinsic/intrinsic_depth.txt", capture.depth_k)
    for n, (color, depth, pose) in enumerate(zip(capture.color, capture.depth, capture.pose, strict=True)):
        Image.fromarray(color).save(folder / f"color/{n}.jpg", quality=92)
        Image.fromarray(depth).save(folder / f"depth/{n}.png", compress_level=1)
        np.savetxt(folder / f"pose/{n}.txt", pose)
    if capture.cloud is not None:
        write_ply(folder / "scan.ply", capture.cloud)
    return folder


@dataclass(frozen=True)
class Case:
    """name; how the sound capture is changed; the check whose verdict is a fault then; words of its remedy."""

    name: str
    change: Callable[[Capture], Capture]
    check: str
    remedy: str


def _poses(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Capture], Capture]:
    return lambda capture: replace(capture, pose=np.stack([change(pose) for pose in capture.pose]))


def _depths(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Capture], Capture]:
    return lambda capture: replace(capture, depth=np.ascontiguousarray([change(depth) for depth in capture.depth]))


def _colors(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Capture], Capture]:
    return lambda capture: replace(capture, color=np.ascontiguousarray([change(color) for color in capture.color]))


def _surface(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Capture], Capture]:
    def changed(capture: Capture) -> Capture:
        return replace(capture, cloud=replace(capture.cloud, xyz=change(capture.cloud.xyz).astype(np.float32)))

    return changed


def _in_units(scale: float) -> Callable[[Capture], Capture]:
    return _depths(lambda depth: np.minimum(np.rint(depth * (scale / 1000)), 65535).astype(np.uint16))


def _moved(pose: np.ndarray, factor: float) -> np.ndarray:
    pose = pose.copy()
    pose[:3, 3] *= factor
    return pose


def _transposed_rotation(pose: np.ndarray) -> np.ndarray:
    pose = pose.copy()
    pose[:3, :3] = pose[:3, :3].T
    return pose


def _k(which: str, sx: float, sy: float, shifted: bool = True) -> Callable[[Capture], Capture]:
    factor = np.array([[sx, 1, sx if shifted else 1], [1, sy, sy if shifted else 1], [1, 1, 1]])
    return lambda capture: replace(capture, **{which: getattr(capture, which) * factor})


def _drift(capture: Capture) -> Capture:
    """A tracker that loses 3 cm and a third of a degree from one frame to the next."""
    pose = capture.pose.copy()
    for n, angle in enumerate(np.radians(1 / 3) * np.arange(len(pose))):
        turn, first = np.eye(4), np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        first[:3, 3] = capture.pose[0, :3, 3]
        pose[n] = first @ turn @ np.linalg.inv(first) @ pose[n]
        pose[n, :2, 3] += 0.03 * n, 0.01 * n
    return replace(capture, pose=pose)


def _shuffled(capture: Capture) -> Capture:
    return replace(capture, pose=capture.pose[np.random.default_rng(3).permutation(len(capture.pose))])


def _both(capture: Capture) -> Capture:
    return _in_units(5000)(_poses(np.linalg.inv)(capture))


def _rolled(what: str, by: int) -> Callable[[Capture], Capture]:
    return lambda capture: replace(capture, **{what: np.roll(getattr(capture, what), by, axis=0)})


def _halved(color: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(color).resize((color.shape[1] // 2, color.shape[0] // 2)))


def _upright(which: str) -> Callable[[Capture], Capture]:
    """Images of a camera that was held upright, turned counter-clockwise, with intrinsics that fit them."""

    def changed(capture: Capture) -> Capture:
        turned = np.ascontiguousarray(np.rot90(getattr(capture, which), axes=(1, 2)))
        k = getattr(capture, f"{which}_k")
        swapped = np.array([[k[1, 1], 0, k[1, 2]], [0, k[0, 0], k[0, 2]], [0, 0, 1]])
        return replace(capture, **{which: turned, f"{which}_k": swapped})

    return changed


def _still_colors(capture: Capture) -> Capture:
    held = np.arange(len(capture.color))
    return replace(capture, color=capture.color[np.where(held // 4 % 2 == 0, held, held // 4 * 4)])


def _blurred(color: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(color).filter(ImageFilter.GaussianBlur(5)))


def _stuck(capture: Capture) -> Capture:
    """A tracker that repeats its last pose when it is lost, as in every other stretch of four frames."""
    held = np.arange(len(capture.pose))
    return replace(capture, pose=capture.pose[np.where(held // 4 % 2 == 0, held, held // 4 * 4)])


def _y_up(xyz: np.ndarray) -> np.ndarray:
    return xyz[:, [0, 2, 1]] * (1, 1, -1)


def _all_y_up(capture: Capture) -> Capture:
    turn = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    return _surface(_y_up)(_poses(lambda pose: turn @ pose)(capture))


def _without_surface(change: Callable[[Capture], Capture]) -> Callable[[Capture], Capture]:
    return lambda capture: change(replace(capture, cloud=None))


CASES = [
    Case("poses world to camera", _poses(np.linalg.inv), "poses", "--poses world-to-camera"),
    Case("poses in OpenGL's axes", _poses(lambda p: p @ _FLIP), "poses", "--axes opengl"),
    Case("both", _poses(lambda p: np.linalg.inv(p @ _FLIP)), "poses", "--poses world-to-camera --axes opengl"),
    Case("the same without a surface", _without_surface(_poses(np.linalg.inv)), "poses", "--poses world-to-camera"),
    Case("rotations transposed, places right", _poses(_transposed_rotation), "poses", "transposed"),
    Case("poses of a robot's body", _poses(lambda p: p @ np.linalg.inv(_BODY)), "poses", "a robot's body"),
    Case("poses of other frames", _shuffled, "views", "no other reading fits"),
    Case("poses drift by 3 cm and a third of a degree a frame", _drift, "views", "drift"),
    Case("world to camera, and depth in 1/5000 m", _both, "poses", "--depth-scale 5000"),
    Case("depth in 1/5000 m", _in_units(5000), "depth scale", "--depth-scale 5000"),
    Case("depth in 1/4000 m", _in_units(4000), "depth scale", "--depth-scale 4000"),
    Case("depth in 1/6553.5 m", _in_units(6553.5), "depth scale", "--depth-scale 6553.5"),
    Case("depth in 1/256 m", _in_units(256), "depth scale", "--depth-scale 256"),
    Case("depth too large by a quarter", _in_units(1250), "depth scale", "--depth-scale 12"),
    Case("poses in millimetres", _poses(lambda p: _moved(p, 1000)), "depth scale", "write them in metres"),
    Case("depth turned by 180 degrees", _depths(lambda d: d[::-1, ::-1]), _TURNED, "turn depth images by 180 degrees"),
    Case("depth mirrored", _depths(lambda d: d[:, ::-1]), _TURNED, "mirror depth images, left to right"),
    Case("depth stored upright", _upright("depth"), _TURNED, "turn depth images by 90 degrees clockwise"),
    Case("colour turned by 180 degrees", _colors(lambda c: c[::-1, ::-1]), _TURNED, "turn colour images by 180"),
    Case("colour mirrored", _colors(lambda c: c[:, ::-1]), _TURNED, "mirror colour images, left to right"),
    Case("colour upside down", _colors(lambda c: c[::-1]), _TURNED, "mirror colour images, top to bottom"),
    Case("colour stored upright, a phone's", _upright("color"), _TURNED, "turn colour images by 90 degrees clockwise"),
    Case("colour images resized, their intrinsics not", _colors(_halved), "intrinsics", "Scale one to the other"),
    Case("depth intrinsics of half size", _k("depth_k", 0.5, 0.5), "intrinsics", "Scale one to the other"),
    Case("a transposed matrix", lambda c: replace(c, color_k=c.color_k.T), "intrinsics", ""),
    Case("focal lengths of depth too long", _k("depth_k", 1.5, 1.5, False), "intrinsics", "lengths times 0.667"),
    Case("focal lengths of colour too short", _k("color_k", 0.667, 0.667, False), "intrinsics", "lengths times 1.5"),
    Case("focal lengths in millimetres", _k("color_k", 0.012, 0.012, False), "intrinsics", "in pixels"),
    Case("poses one frame late", _rolled("pose", 1), "time", "1. frame behind it"),
    Case("poses two frames early", _rolled("pose", -2), "time", "2. frame before it"),
    Case("colours one frame late", _rolled("color", 1), "time", "1. frame behind it"),
    Case("a tracker that stands still", _stuck, "frames", "leave those frames out"),
    Case("a camera whose colours stand still", _still_colors, "frames", "leave those frames out"),
    Case("a surface with y up", _surface(_y_up), "surface", "taken as (x, -z, y)"),
    Case("a surface upside down", _surface(lambda xyz: xyz * (1, -1, -1)), "surface", "taken as (x, -y, -z)"),
    Case("a surface in millimetres", _surface(lambda xyz: 1000 * xyz), "surface", "in millimetres"),
    Case("a surface in centimetres", _surface(lambda xyz: 100 * xyz), "surface", "in centimetres"),
    Case("another room's surface", _surface(lambda xyz: xyz + (9, 7, 1)), "surface", "another frame than the poses"),
]
# Nothing is wrong with these, but there is something to know.
REMARKS = [
    Case("y is up, of everything", _all_y_up, "up", "y up, not z"),
    Case("blurred images", _colors(_blurred), "frames", "poor"),
]


class _InMemory(Scene):
    """A capture as a scene, without files."""

    id = "capture"
    readings = Readings()

    def __init__(self, capture: Capture):
        self._capture = capture
        self.frame_ids = np.arange(len(capture.pose), dtype=np.int32)

    def _camera(self, k: np.ndarray, images: np.ndarray) -> Camera:
        if k[2, 0]:
            raise HiclError("the matrix is transposed")
        return checked_camera(Camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], *images.shape[1:3]), "intrinsics")

    @property
    def color_camera(self) -> Camera:
        return self._camera(self._capture.color_k, self._capture.color)

    @property
    def depth_camera(self) -> Camera:
        return self._camera(self._capture.depth_k, self._capture.depth)

    def frame(self, frame_id: int) -> Frame:
        capture = self._capture
        return Frame(capture.color[frame_id], capture.depth[frame_id] / np.float32(1000), capture.pose[frame_id])

    def points(self) -> Points:
        return Points(self._capture.cloud.xyz, self._capture.cloud.rgb, self._capture.cloud.faces)


def in_memory(capture: Capture) -> Scene:
    """The capture as a scene that has read it."""
    return _InMemory(capture)
