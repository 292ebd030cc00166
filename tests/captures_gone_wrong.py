"""Captures whose parts don't fit together, each made of a sound one, and what is right to say of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from hicl.clouds import Cloud, write_ply
from hicl.errors import FrameError

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
    """A tracker that loses 4 cm and a degree from one frame to the next."""
    pose = capture.pose.copy()
    angle = np.radians(1.0) * np.arange(len(pose))
    for n, a in enumerate(angle):
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        turn[:3, 3] = 0.04 * n, 0.02 * n, 0
        pose[n] = turn @ pose[n]
    return replace(capture, pose=pose)


def _shuffled(capture: Capture) -> Capture:
    return replace(capture, pose=capture.pose[np.random.default_rng(3).permutation(len(capture.pose))])


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
    Case("poses in OpenGL's axes", _poses(lambda pose: pose @ _FLIP), "poses", "--axes opengl"),
    Case("both", _poses(lambda pose: np.linalg.inv(pose @ _FLIP)), "poses", "--poses world-to-camera --axes opengl"),
    Case("the same without a surface", _without_surface(_poses(np.linalg.inv)), "poses", "--poses world-to-camera"),
    Case("rotations transposed, places right", _poses(_transposed_rotation), "poses", "transposed"),
    Case("poses of other frames", _shuffled, "views", "no other reading fits"),
    Case("poses drift by 4 cm and a degree a frame", _drift, "views", ""),
    Case("world to camera, depth for 5000 a metre",
         lambda c: _in_units(5000)(_poses(np.linalg.inv)(c)), "poses", "--depth-scale 5000"),
    Case("depth for 5000 a metre", _in_units(5000), "depth scale", "--depth-scale 5000"),
    Case("depth for 4000 a metre", _in_units(4000), "depth scale", "--depth-scale 4000"),
    Case("depth for 6553.5 a metre", _in_units(6553.5), "depth scale", "--depth-scale 6553.5"),
    Case("depth for 256 a metre", _in_units(256), "depth scale", "--depth-scale 256"),
    Case("depth too large by a quarter", _in_units(1250), "depth scale", "--depth-scale 1"),
    Case("poses in millimetres", _poses(lambda pose: _moved(pose, 1000)), "depth scale", "write them in metres"),
    Case("depth turned by 180 degrees", _depths(lambda d: d[::-1, ::-1]), "colour and depth", "180 degrees"),
    Case("depth mirrored", _depths(lambda d: d[:, ::-1]), "colour and depth", "mirror depth images, left to right"),
    Case("colour turned by 180 degrees", _colors(lambda c: c[::-1, ::-1]), "colour and depth", "turn colour images by 180"),
    Case("colour mirrored", _colors(lambda c: c[:, ::-1]), "colour and depth", "mirror colour images, left to right"),
    Case("colour upside down", _colors(lambda c: c[::-1]), "colour and depth", "mirror colour images, top to bottom"),
    Case("colour stored upright, a phone's",
         lambda c: replace(_colors(lambda image: np.rot90(image))(c), color_k=_swapped(c.color_k)),
         "colour and depth", "turn colour images by 90 degrees clockwise"),
    Case("colour images resized, their intrinsics not",
         _colors(lambda c: np.asarray(Image.fromarray(c).resize((160, 120)))), "intrinsics", "Scale one to the other"),
    Case("depth intrinsics of half size", _k("depth_k", 0.5, 0.5), "intrinsics", ""),
    Case("focal lengths of depth too long by a half", _k("depth_k", 1.5, 1.5, False), "intrinsics", "focal lengths times"),
    Case("focal lengths of colour too short by a third", _k("color_k", 0.667, 0.667, False), "intrinsics", "focal lengths times"),
    Case("focal lengths in millimetres", _k("color_k", 0.012, 0.012, False), "intrinsics", "in pixels"),
    Case("poses one frame late", lambda c: replace(c, pose=np.roll(c.pose, 1, axis=0)), "time", "1. frame behind it"),
    Case("poses two frames early", lambda c: replace(c, pose=np.roll(c.pose, -2, axis=0)), "time", "2. frame before it"),
    Case("colours one frame late", lambda c: replace(c, color=np.roll(c.color, 1, axis=0)), "time", "1. frame behind it"),
    Case("a tracker that stands still", _stuck, "frames", "leave those frames out"),
    Case("a surface with y up", _surface(_y_up), "surface", "(x, "),
    Case("a surface upside down", _surface(lambda xyz: xyz * (1, -1, -1)), "surface", "taken as (x, -y, -z)"),
    Case("a surface in millimetres", _surface(lambda xyz: 1000 * xyz), "surface", "in millimetres"),
    Case("a surface in centimetres", _surface(lambda xyz: 100 * xyz), "surface", "in centimetres"),
    Case("another room's surface", _surface(lambda xyz: xyz + (9, 7, 1)), "surface", "another frame than the poses"),
]  # fmt: skip
# Nothing is wrong with these, but there is something to know.
REMARKS = [
    Case("y is up, of everything", _all_y_up, "up", "--level"),
    Case("blurred images", _colors(_blurred), "frames", "poor"),
]


def _swapped(k: np.ndarray) -> np.ndarray:
    return np.array([[k[1, 1], 0, k[1, 2]], [0, k[0, 0], k[0, 2]], [0, 0, 1]])
