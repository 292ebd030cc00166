"""RTAB-Map's export: `NAME_rgb/`, `NAME_depth/`, `NAME_calib/` and `NAME_camera_poses.txt`; NAME may be missing.

    rtabmap-export --images_id --poses_camera --poses_format 11 NAME.db

A line of the poses is "time x y z qx qy qz qw id" (format 11; 10 lacks the id) or twelve numbers of a 3x4 matrix in
rows (format 0). They are camera to world in a world whose z is up, of a camera with x right, y down, z forward;
`NAME_poses.txt`, of `--poses`, has the robot's, x ahead and z up, and `local_transform` of the calibration is the
camera's place on it. Images are called by the ids, or with `--images` by their times; where nothing tells, poses stand
in the images' order. Depth is in millimetres. A calibration is OpenCV's YAML, for the size of the colour image: of an
image by its name, or one for all, as exports before 2021 had it; where it has a `projection_matrix`, images were
rectified to that. (introlab/rtabmap: tools/Export/main.cpp, corelib/src/CameraModel.cpp, and issues 563, 567 and 749.)
Images of several cameras at once are refused.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, bent, motion, nearest, rotation, rows
from hicl.pipeline.datasets.namings import by_name, in_order
from hicl.pipeline.datasets.scene import Camera, Said
from hicl.read import read_bytes

NAME = "RTAB-Map's export"
WANTS = (("*poses.txt",), ("*rgb/*.jpg",), ("*depth/*.png",), ("*calib/*.yaml", "*calib*.yaml"))
_EXPORT = "export with `rtabmap-export --images_id --poses_camera --poses_format 11`"
_SAME = 5e-4  # seconds: times are written to the microsecond, some through floats
_SEEN = 0.5  # pixels: a lens that bends less isn't worth a word
_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0]])  # a camera that looks ahead, on its robot


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    parents = sorted(path.parent for path in folder.glob("*rgb/*.jpg"))
    prefix = parents[0].name.removesuffix("rgb")
    if parents[-1] != parents[0]:
        raise HiclError(f"{folder}: {parents[0].name}/ and {parents[-1].name}/: leave the files of one export")
    found = [folder / f"{prefix}{name}poses.txt" for name in ("camera_", "")] + sorted(folder.glob("*poses.txt"))
    path = next(path for path in found if path.exists())
    images, depths = by_name(parents[0], (".jpg",)), by_name(folder / f"{prefix}depth", (".png",))
    lenses = by_name(folder / f"{prefix}calib", (".yaml",))
    shared = next(iter(sorted(folder.glob("*calib*.yaml"))), None)
    if any(f"{name}_0" in lenses for name in images):
        raise HiclError(f"{folder}: {prefix}calib/ has several cameras an image, which isn't read; export one camera's")
    poses = rows(path, 8)
    shots, bends = {}, 0.0
    for name, row in _associated(in_order(list(images)), poses, path).items():
        lens = lenses.get(name) or shared or folder / f"{prefix}calib" / f"{name}.yaml"
        of_robot = lens if "camera" not in path.name else None
        pose = partial(_pose, list(map(float, row)), of_robot, f"{path}: {name}")
        depth = depths.get(name, folder / f"{prefix}depth" / f"{name}.png")
        shots[name] = Shot(images[name], depth, pose, partial(_camera, lens), files=(lens,)).looked_for()
        if not bends and lens.exists():
            bends = _bends(lens)
    notes = (f"{folder}: its lens bends corners by {bends:.0f} pixels, which is passed over; undistorted images fit",)
    return Capture(shots, (path,), Said(1000.0), notes=notes if bends > _SEEN else ())


def _associated(names: list[str], poses: list[list[str]], path: Path) -> dict[str, list[str]]:
    """Each image's line of the poses. Raises `HiclError` where nothing tells."""
    if all(len(row) == 9 for row in poses) and names[0].isdecimal():
        by_id = {row[8]: row for row in poses}
        found = {name: by_id[name] for name in names if name in by_id}
    elif poses and len(poses[0]) < 12 and all("." in name and _is_number(name) for name in names):
        times = np.array([float(row[0]) for row in poses])
        place = nearest(times, np.array(list(map(float, names))), _SAME)
        found = {name: poses[at] for name, at in zip(names, place.tolist(), strict=True) if at >= 0}
    elif len(poses) == len(names):
        found = dict(zip(names, poses, strict=True))
    else:
        raise HiclError(f"{path}: {len(poses)} poses for {len(names)} images, and no ids to tell by; {_EXPORT}")
    if not found:
        raise HiclError(f"{path}: none of its {len(poses)} poses is of an image; {_EXPORT}")
    return found


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[0-9]+\.[0-9]+", name) is not None


def _pose(row: list[float], of_robot: Path | None, where: str) -> np.ndarray:
    if len(row) < 12:
        x, y, z, w = row[4:8]
        pose = motion(rotation(x, y, z, w, where), row[1:4])
    else:
        pose = np.vstack([np.array(row[:12]).reshape(3, 4), [0, 0, 0, 1]])
    if of_robot is None:
        return pose
    try:
        mounted = _matrix(_text(of_robot), "local_transform", (3, 4))
    except HiclError as error:
        raise FrameError(str(error)) from None
    return pose @ np.vstack([_OPTICAL if mounted is None else mounted, [0, 0, 0, 1]])


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except FileNotFoundError:
        raise HiclError(f"{path}: missing") from None


def _matrix(text: str, name: str, shape: tuple[int, int]) -> np.ndarray | None:
    """A matrix of OpenCV's YAML, "name: rows cols data: [ … ]"; None where there is none of these sizes."""
    found = re.search(rf"^{name}:\s+rows:\s*\d+\s+cols:\s*\d+\s+(?:dt:\s*\w+\s+)?data:\s*\[([^\]]*)\]", text, re.M)
    try:
        return np.array([float(word) for word in found[1].split(",")]).reshape(shape) if found else None
    except ValueError:
        return None


def _camera(path: Path) -> Camera:
    """Raises `FrameError`."""
    text = _text(path)
    size = [re.search(rf"^image_{side}:\s*(\d+)\s*$", text, re.M) for side in ("height", "width")]
    k = _matrix(text, "projection_matrix", (3, 4))
    k = k if k is not None else _matrix(text, "camera_matrix", (3, 3))
    if k is None or not (k[0, 0] > 0 and k[1, 1] > 0 and np.isfinite(k).all()) or not all(size):
        raise FrameError(f"{path}: no calibration; expected camera_matrix, image_width and image_height")
    height, width = (int(found[1]) for found in size if found)
    return Camera(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), height, width)


def _bends(path: Path) -> float:
    """By how many pixels the lens bends images that weren't rectified."""
    text = _text(path)
    found = re.search(r"^distortion_coefficients:\s+rows:\s*\d+\s+cols:\s*(\d+)", text, re.M)
    known = _matrix(text, "distortion_coefficients", (1, int(found[1]))) if found else None
    if known is None or known.shape[1] < 2 or _matrix(text, "projection_matrix", (3, 4)) is not None:
        return 0.0
    radial = known[0, [0, 1, 4]] if known.shape[1] > 4 else known[0, :2]  # k1 k2 p1 p2 k3
    try:
        return bent(_camera(path), radial.tolist())
    except FrameError:  # said when a frame is read
        return 0.0
