"""ScanNet++'s iPhone stream: `iphone/pose_intrinsic_imu.json`, `rgb/`, and `depth/` or `depth.bin`.

`aligned_pose` is camera to world with x right, y down, z forward, in the frame of `scans/mesh_aligned_0.05.ply`;
`intrinsic` is of the 1920x1440 images, and depth is the same view, 256x192 in millimetres. In `depth.bin` a frame is
four bytes of length and so many of depth: uint16 millimetres by LZ4, or float32 metres by deflate without a header.
Images are in a video, which `ffmpeg` takes out. (scannetpp/scannetpp: prepare_iphone_data.py and arkit_pcl.py of
iphone/.)
"""

import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, read_json
from hicl.pipeline.datasets.captures.lens import camera_of
from hicl.pipeline.datasets.namings import by_name
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "ScanNet++'s iPhone stream"
_FOLDERS = ("iphone/", "")
_POSES, _VIDEOS, _PACKED = "pose_intrinsic_imu.json", ("rgb.mkv", "rgb.mp4"), "depth.bin"
WANTS = (
    tuple(f"{folder}{_POSES}" for folder in _FOLDERS),
    tuple(f"{folder}{name}" for folder in _FOLDERS for name in ("rgb/*.jpg", *_VIDEOS)),
    tuple(f"{folder}{name}" for folder in _FOLDERS for name in ("depth/*.png", _PACKED)),
)
_COLOR, _DEPTH = (1440, 1920), (192, 256)


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    place = folder / "iphone" if (folder / "iphone" / _POSES).exists() else folder
    path, packed = place / _POSES, place / _PACKED
    about, images = read_json(path), by_name(place / "rgb", (".jpg",))
    if not isinstance(about, dict):
        raise HiclError(f"{path}: expected an object with a frame each")
    if not images:
        video = next((name for name in _VIDEOS if (place / name).exists()), _VIDEOS[0])
        command = f"mkdir rgb && ffmpeg -i {video} -start_number 0 -q:v 1 rgb/frame_%06d.jpg"
        raise HiclError(f"{place}: its images are still in {video}; take them out there: {command}")
    depths = by_name(place / "depth", (".png",))
    offsets = [] if depths else _index(packed)
    shots = {}
    for name, image in images.items():
        number = name.rpartition("_")[2]
        frame, where = about.get(name), f"{path}: {name}"
        if not isinstance(frame, dict) or not number.isdecimal():
            continue
        raw = None if depths else partial(_unpacked, packed, offsets, int(number))
        depth = place / "depth" / f"{name}.png" if depths else packed
        pose, lens = partial(_pose, frame, where), partial(_camera, frame, where)
        shots[number] = Shot(image, depth, pose, lens, raw).looked_for()
    if not shots:
        raise HiclError(f"{path}: none of the {len(images)} images in rgb/ is a frame in it")
    mesh = place.parent / "scans" / "mesh_aligned_0.05.ply"
    return Capture(shots, (path,), Said(1000.0), surface=mesh if place != folder and mesh.exists() else None)


def _pose(frame: dict, where: str) -> np.ndarray:
    try:
        return np.array(frame.get("aligned_pose", frame.get("pose")), float).reshape(4, 4)
    except (TypeError, ValueError):
        raise FrameError(f"{where}: no aligned_pose of 4x4 numbers") from None


def _camera(frame: dict, where: str) -> Camera:
    found = camera_of({"K": frame.get("intrinsic")}, _COLOR)
    if found is None:
        raise FrameError(f"{where}: no intrinsic of 3x3 numbers")
    return found


def _index(path: Path) -> list[tuple[int, int]]:
    """(offset, bytes) of each frame, found by hopping from length to length."""
    found: list[tuple[int, int]] = []
    try:
        with open(path, "rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            while at < size:
                length = int.from_bytes(os.pread(file.fileno(), 4, at), "little")
                if not 0 < length <= size - at - 4:
                    raise HiclError(
                        f"{path}: not compressed frame by frame, as an older release; take depth out of it with "
                        "iphone/prepare_iphone_data.py of scannetpp's toolkit"
                    )
                found.append((at + 4, length))
                at += 4 + length
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
    return found


def _unpacked(path: Path, frames: list[tuple[int, int]], number: int) -> np.ndarray:
    """uint16 [192, 256] millimetres of a frame of `depth.bin`."""
    if number >= len(frames):
        raise FrameError(f"{path}: no frame {number}, it has {len(frames)}")
    offset, length = frames[number]
    with open(path, "rb") as file:
        data = os.pread(file.fileno(), length, offset)
    pixels = _DEPTH[0] * _DEPTH[1]
    try:
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, 4 * pixels + 1)
        if len(plain) == 4 * pixels:
            metres = np.frombuffer(plain, "<f4").reshape(_DEPTH)
            return np.nan_to_num(np.clip(np.rint(metres * 1000), 0, 65535)).astype(np.uint16)
    except zlib.error:
        pass  # the other kind
    try:
        import lz4.block
    except ImportError:
        raise HiclError(f"{path}: compressed by LZ4: pip install 'hicl[captures]'") from None
    try:
        plain = lz4.block.decompress(data, uncompressed_size=2 * pixels)
        return np.frombuffer(plain, "<u2").reshape(_DEPTH)
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise FrameError(f"{path}: frame {number}: depth doesn't decode ({error})") from None
