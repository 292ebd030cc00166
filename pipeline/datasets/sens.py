"""ScanNet's `.sens` recordings, one frame at a time.

Format, version 4 (facts from ScanNet/ScanNet `SensReader/c++/sensorData.h`), little endian throughout:

    u32 version, u64 n, n bytes sensor name,
    f32[4,4] colour intrinsics, colour extrinsics, depth intrinsics, depth extrinsics,
    i32 colour compression (0 raw, 1 PNG, 2 JPEG), i32 depth compression (0 raw, 1 zlib, 2 OpenNI),
    u32 colour width, height, u32 depth width, height, f32 depth units a metre, u64 number of frames,
    then a frame: f32[4,4] camera to world, u64 colour time, u64 depth time, u64 colour bytes, u64 depth bytes, both;
    u64 number of IMU frames and the IMU frames close the file.

Opening a file reads its header alone. The first frame asked for makes it hop over the frames' own headers (96 bytes
each); images are read from the disk when they are asked for, and not kept.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.scene import Camera, checked_camera
from hicl.read import told_apart

_FRAME = struct.Struct("<16f4Q")
_COLOR_RAW, _COLOR_PNG, _COLOR_JPEG = 0, 1, 2
_DEPTH_RAW, _DEPTH_ZLIB = 0, 1


class SensFile:
    """A seekable `.sens` recording.

    Attributes: color_camera, depth_camera: `Camera`; len(): number of frames. Raises `HiclError` if the file is
    missing, of a kind it doesn't know, or too short for its frames; one that is cut off says so at its first frame.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                self._read_header(file)
                self._body = file.tell()
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise HiclError(f"{self.path}: can't be read ({error.strerror})") from None
        if self._count > size // _FRAME.size:
            raise HiclError(f"{self.path}: truncated, {self._count} frames can't fit in {size} bytes")

    @property
    def poses(self) -> np.ndarray:
        """float64 [F, 4, 4], camera to world, as recorded: a frame without tracking is -inf."""
        return self._frames[0]

    def _take(self, file: BinaryIO, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        data = file.read(size)
        if len(data) < size:
            raise HiclError(f"{self.path}: truncated inside the header; fetch the file again")
        return struct.unpack("<" + layout, data)

    def _read_header(self, file: BinaryIO) -> None:
        (version,) = self._take(file, "I")
        if version != 4:
            raise HiclError(f"{self.path}: .sens version {version}, only version 4 is known; is this a .sens file?")
        (name_bytes,) = self._take(file, "Q")
        if name_bytes > 4096:
            raise HiclError(f"{self.path}: sensor name of {name_bytes} bytes; the header is damaged")
        file.seek(name_bytes, os.SEEK_CUR)
        color_intrinsics, color_extrinsics, depth_intrinsics, depth_extrinsics = (
            np.array(self._take(file, "16f"), np.float64).reshape(4, 4) for _ in range(4)
        )
        for name, extrinsics in (("colour", color_extrinsics), ("depth", depth_extrinsics)):
            if not np.allclose(extrinsics, np.eye(4), atol=1e-6):
                raise HiclError(
                    f"{self.path}: {name} extrinsics other than the identity; ScanNet's frames share one pose. "
                    "Export the frames registered to one camera and use `hicl preprocess rgbd`"
                )
        self._color_kind, self._depth_kind = self._take(file, "2i")
        if self._color_kind not in (_COLOR_RAW, _COLOR_PNG, _COLOR_JPEG):
            raise HiclError(f"{self.path}: colour compression {self._color_kind} is not raw, PNG or JPEG")
        if self._depth_kind not in (_DEPTH_RAW, _DEPTH_ZLIB):
            raise HiclError(f"{self.path}: depth compression {self._depth_kind} is not raw or zlib")
        color_width, color_height, depth_width, depth_height = self._take(file, "4I")
        (self._depth_shift,) = self._take(file, "f")
        (self._count,) = self._take(file, "Q")
        if not 0 < self._depth_shift < np.inf:
            raise HiclError(f"{self.path}: depth units of {self._depth_shift} a metre; the header is damaged")
        self.color_camera = _camera(self.path, "colour", color_intrinsics, color_height, color_width)
        self.depth_camera = _camera(self.path, "depth", depth_intrinsics, depth_height, depth_width)

    @cached_property
    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Poses, and int64 [F, 3]: offset of the colour image, colour bytes, depth bytes."""
        try:
            with open(self.path, "rb") as file:
                return self._index_frames(file.fileno())
        except OSError as error:
            raise HiclError(f"{self.path}: can't be read ({error.strerror})") from None

    def _index_frames(self, file: int) -> tuple[np.ndarray, np.ndarray]:
        size, offset = os.fstat(file).st_size, self._body
        poses, blobs = np.empty((self._count, 4, 4)), np.empty((self._count, 3), np.int64)
        for index in range(self._count):
            data = os.pread(file, _FRAME.size, offset)  # a buffered file would read 8 KB
            offset += len(data)
            if len(data) == _FRAME.size:
                *pose, _, _, color_bytes, depth_bytes = _FRAME.unpack(data)
            if len(data) < _FRAME.size or offset + color_bytes + depth_bytes > size:
                raise HiclError(f"{self.path}: truncated in frame {index} of {self._count}; fetch the file again")
            poses[index] = np.array(pose).reshape(4, 4)
            blobs[index] = offset, color_bytes, depth_bytes
            offset += color_bytes + depth_bytes
        return poses, blobs

    def __len__(self) -> int:
        return self._count

    def color(self, index: int) -> np.ndarray:
        """Colour image uint8 [H, W, 3]. Raises `FrameError` if it doesn't decode to the header's size."""
        offset, color_bytes, _ = self._frames[1][index]
        data = self._read(offset, color_bytes)
        camera = self.color_camera
        if self._color_kind == _COLOR_RAW:
            if len(data) != camera.height * camera.width * 3:
                raise FrameError(f"{self.path}: frame {index}: raw colour of {len(data)} bytes")
            return np.frombuffer(data, np.uint8).reshape(camera.height, camera.width, 3)
        return decode_color(data, f"{self.path}: frame {index}", (camera.height, camera.width))

    def depth(self, index: int) -> np.ndarray:
        """Depth float32 [h, w], metres, 0 = nothing measured. Raises `FrameError` if it doesn't decode."""
        offset, color_bytes, depth_bytes = self._frames[1][index]
        data = self._read(offset + color_bytes, depth_bytes)
        camera = self.depth_camera
        expected = camera.height * camera.width * 2
        if self._depth_kind == _DEPTH_ZLIB:
            try:
                # A limit, so that a damaged stream can't unpack into all memory.
                data = zlib.decompressobj().decompress(data, expected + 1)
            except zlib.error as error:
                raise FrameError(f"{self.path}: frame {index}: depth doesn't decode ({error})") from None
        if len(data) != expected:
            raise FrameError(f"{self.path}: frame {index}: depth of {len(data)} bytes, expected {expected}")
        depth = np.frombuffer(data, "<u2").reshape(camera.height, camera.width)
        return depth.astype(np.float32) / np.float32(self._depth_shift)

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                return os.pread(file.fileno(), int(size), int(offset))
        except OSError as error:
            raise HiclError(f"{self.path}: can't be read ({error.strerror})") from None


def assert_plausible(image: Image.Image, size: int) -> None:
    """Raises `ValueError` where a file of `size` bytes can't hold an image as large as its header says: Pillow asks for
    the memory before it decodes. Deflate shrinks to no less than 1/1032."""
    if image.width * image.height > max(1 << 22, 2048 * size):
        raise ValueError(f"{image.height}x{image.width} pixels in {size} bytes")


def decode_color(data: bytes, where: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an encoded image to uint8 [H, W, 3]; `FrameError` if it doesn't decode or isn't `size` (H, W)."""
    try:
        encoded = Image.open(io.BytesIO(data))
        assert_plausible(encoded, len(data))
        image = encoded.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = told_apart(data) or f" ({str(error).split(' <_io.BytesIO')[0]})"  # Pillow names what it was handed
        raise FrameError(f"{where}: colour doesn't decode{said}") from None
    if size is not None and image.size != size[::-1]:
        raise FrameError(f"{where}: colour is {image.height}x{image.width}, expected {size[0]}x{size[1]}")
    return np.asarray(image)


def _camera(path: Path, name: str, intrinsics: np.ndarray, height: int, width: int) -> Camera:
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise HiclError(f"{path}: {name} focal lengths {fx:g}, {fy:g}; the header is damaged")
    if not (0 < height < 65536 and 0 < width < 65536):
        raise HiclError(f"{path}: {name} image of {height}x{width} pixels; the header is damaged")
    return checked_camera(Camera(float(fx), float(fy), float(cx), float(cy), height, width), f"{path}: {name}")


def write_sens(
    path: Path,
    color_camera: Camera,
    depth_camera: Camera,
    frames: Iterable[tuple[bytes, np.ndarray, np.ndarray]],
    sensor_name: str = "hicl miniature",
) -> None:
    """Write frames of (JPEG bytes, depth uint16 [h, w] in millimetres, pose float32 [4, 4]) as a `.sens` file."""
    frames = list(frames)
    name = sensor_name.encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<IQ", 4, len(name)) + name)
        for camera in (color_camera, depth_camera):
            matrix = np.eye(4, dtype="<f4")
            matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2] = camera.fx, camera.fy, camera.cx, camera.cy
            file.write(matrix.tobytes() + np.eye(4, dtype="<f4").tobytes())
        file.write(struct.pack("<2i", _COLOR_JPEG, _DEPTH_ZLIB))
        for camera in (color_camera, depth_camera):
            file.write(struct.pack("<2I", camera.width, camera.height))
        file.write(struct.pack("<fQ", 1000.0, len(frames)))
        for time, (jpeg, depth, pose) in enumerate(frames):
            packed = zlib.compress(np.ascontiguousarray(depth, "<u2").tobytes(), 6)
            file.write(np.ascontiguousarray(pose, "<f4").tobytes())
            file.write(struct.pack("<4Q", time, time, len(jpeg), len(packed)) + jpeg + packed)
        file.write(struct.pack("<Q", 0))
