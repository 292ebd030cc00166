"""COLMAP's sparse model, text or binary, with `images/` and a folder of depth beside it.

Poses are world to camera, as quaternions qw qx qy qz and translations, with x right, y down, z forward. Cameras without
distortion (SIMPLE_PINHOLE, PINHOLE) are taken as they are; of the others what is bent is passed over and said, and
fisheyes are refused: `colmap image_undistorter` writes both anew. The middle of the first pixel is at 0.5, half a pixel
from ours. (colmap.github.io: "Output Format", "Camera Models".) A reconstruction has a scale of its own: depth has to
be in it, and all is taken for metres. Depth is `depth/NAME.png`, or .tiff, .exr or .npy, for an image NAME.
"""

import struct
from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, bent, motion, rotation, rows
from hicl.pipeline.datasets.namings import DEPTHS
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "COLMAP's model"
_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", "dense/sparse", ".")
_DEPTHS = ("depth", "depths", "depth_maps")
WANTS = (
    tuple(f"{place}/cameras.{kind}" for place in _PLACES for kind in ("bin", "txt")),
    tuple(f"{place}/images.{kind}" for place in _PLACES for kind in ("bin", "txt")),
    tuple(f"{name}/*" for name in _DEPTHS),
)
# Of each model, by its number in binary files: its parameters.
_MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "fx fy cx cy omega",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
}
_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_SEEN = 0.5  # pixels


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    path = next(folder / name for name in WANTS[0] if (folder / name).exists())
    listed = path.with_name(f"images{path.suffix}")
    binary = path.suffix == ".bin"
    lenses = (_binary_cameras if binary else _text_cameras)(path)
    depths = next(folder / name for name in _DEPTHS if (folder / name).is_dir())
    shots, notes = {}, set()
    for name, camera_id, row in (_binary_images if binary else _text_images)(listed):
        if not Path(name).name or "\0" in name:
            raise HiclError(f"{listed}: an image is called {name!r}")
        if camera_id not in lenses:
            raise HiclError(f"{listed}: image {name} is of camera {camera_id}, which {path.name} doesn't have")
        camera, bends = _camera(*lenses[camera_id], f"{path}: camera {camera_id}")
        if bends > _SEEN:
            notes.add(f"{path}: camera {camera_id} bends corners by {bends:.0f} pixels, which is passed over")
        stem = (depths / name).with_suffix("")
        depth = next((d for e in DEPTHS for d in (Path(f"{stem}{e}"), depths / f"{name}{e}") if d.exists()), None)
        pose = partial(_pose, row, f"{listed}: {name}")
        shot = Shot(folder / "images" / name, depth or Path(f"{stem}.png"), pose, partial(_same, camera))
        shots[str(Path(name).with_suffix("")).replace("/", "_")] = shot.looked_for()
    if not shots:
        raise HiclError(f"{listed}: no images")
    return Capture(shots, (path, listed), Said(poses="world-to-camera"), notes=tuple(sorted(notes)))


def _same(camera: Camera) -> Camera:
    return camera


def _pose(row: tuple[float, ...], where: str) -> np.ndarray:
    w, x, y, z = row[:4]
    return motion(rotation(x, y, z, w, where), row[4:7])


def _camera(model: str, width: int, height: int, parameters: tuple[float, ...], where: str) -> tuple[Camera, float]:
    """A pinhole, and by how many pixels the lens bends its corners."""
    if model not in _MODELS or model not in _PINHOLES:
        raise HiclError(f"{where}: {model} is no pinhole; `colmap image_undistorter` makes it one")
    names = _MODELS[model].split()
    if len(parameters) != len(names):
        raise HiclError(f"{where}: {model} has {_MODELS[model]}, found {len(parameters)} numbers")
    value = dict(zip(names, parameters, strict=True))
    fx, fy = value.get("fx", value.get("f", 0.0)), value.get("fy", value.get("f", 0.0))
    if not (min(fx, fy) > 0 and width > 0 and height > 0):
        raise HiclError(f"{where}: focal lengths {fx:g} and {fy:g}, {width}x{height} pixels")
    camera = Camera(fx, fy, value["cx"] - 0.5, value["cy"] - 0.5, height, width)
    return camera, bent(camera, [value.get(name, 0.0) for name in ("k1", "k2", "k3")])


_Lens = tuple[str, int, int, tuple[float, ...]]  # model, width, height, parameters


def _text_cameras(path: Path) -> dict[int, _Lens]:
    found = {}
    for line in rows(path, 5, words=4):
        try:
            found[int(line[0])] = line[1], int(line[2]), int(line[3]), tuple(map(float, line[4:]))
        except ValueError:
            raise HiclError(f"{path}: camera {line[0]} isn't MODEL WIDTH HEIGHT and its numbers") from None
    return found


def _text_images(path: Path) -> list[tuple[str, int, tuple[float, ...]]]:
    """Every second line is the image's points, which may be empty."""
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        found = [line.split(maxsplit=9) for line in lines[::2] if line.strip()]
        return [(row[9].strip(), int(row[8]), tuple(map(float, row[1:8]))) for row in found]
    except (OSError, ValueError, IndexError) as error:
        why = getattr(error, "strerror", None) or "expected ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then its points"
        raise HiclError(f"{path}: {why}") from None


def _binary_cameras(path: Path) -> dict[int, _Lens]:
    data, at, names = _content(path), 8, list(_MODELS)
    found = {}
    try:
        for _ in range(struct.unpack_from("<Q", data)[0]):
            number, model, width, height = struct.unpack_from("<iiQQ", data, at)
            name = names[model] if 0 <= model < len(names) else f"model {model}"
            n = len(_MODELS[name].split()) if name in _MODELS else 0
            found[number] = name, width, height, struct.unpack_from(f"<{n}d", data, at + 24)
            at += 24 + 8 * n
    except struct.error:
        raise HiclError(f"{path}: truncated") from None
    return found


def _binary_images(path: Path) -> list[tuple[str, int, tuple[float, ...]]]:
    data, at, found = _content(path), 8, []
    try:
        for _ in range(struct.unpack_from("<Q", data)[0]):
            row = struct.unpack_from("<i7di", data, at)
            end = data.index(b"\0", at + 64)
            (points,) = struct.unpack_from("<Q", data, end + 1)
            found.append((data[at + 64 : end].decode(), row[8], row[1:8]))
            at = end + 9 + 24 * points  # x, y, and the point's number
    except (struct.error, ValueError, OverflowError):
        raise HiclError(f"{path}: truncated") from None
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
