"""Files of the data sets' formats, written from the formats' descriptions and not with the product's own writers."""

import io
import json
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

COLOR_SIZE, DEPTH_SIZE = (24, 32), (12, 16)  # height, width
COLOR_K, DEPTH_K = (30.0, 31.0, 15.5, 11.5), (15.0, 15.5, 7.5, 5.5)  # fx fy cx cy


def matrix(k, size=4):
    fx, fy, cx, cy = k
    full = np.eye(size)
    full[0, 0], full[1, 1], full[0, 2], full[1, 2] = fx, fy, cx, cy
    return full


def picture(seed=0, size=COLOR_SIZE):
    """Smooth, so that JPEG keeps it nearly as it is."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows * 5 + seed, columns * 4, rows + columns], axis=2).astype(np.uint8)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def millimetres(seed=0, size=DEPTH_SIZE):
    return np.random.default_rng(seed).integers(500, 4000, size).astype("<u2")


@dataclass(frozen=True)
class Sens:
    """A `.sens` file, version 4 (ScanNet/ScanNet SensReader/c++/sensorData.h). frames: (pose, colour, depth bytes)."""

    frames: list = field(default_factory=list)
    version: int = 4
    name: bytes = b"StructureSensor"
    color_k: tuple = COLOR_K
    depth_k: tuple = DEPTH_K
    color_extrinsics: np.ndarray = field(default_factory=lambda: np.eye(4))
    depth_extrinsics: np.ndarray = field(default_factory=lambda: np.eye(4))
    color_kind: int = 2  # 0 raw, 1 PNG, 2 JPEG
    depth_kind: int = 1  # 0 raw, 1 zlib
    color_size: tuple = COLOR_SIZE
    depth_size: tuple = DEPTH_SIZE
    shift: float = 1000.0
    count: int | None = None
    imu: bytes = struct.pack("<Q", 0)

    def header(self) -> bytes:
        parts = [struct.pack("<I", self.version), struct.pack("<Q", len(self.name)), self.name]
        for each in (matrix(self.color_k), self.color_extrinsics, matrix(self.depth_k), self.depth_extrinsics):
            parts.append(struct.pack("<16f", *np.asarray(each, float).ravel()))
        parts.append(struct.pack("<ii", self.color_kind, self.depth_kind))
        parts.append(struct.pack("<IIII", *self.color_size[::-1], *self.depth_size[::-1]))
        count = len(self.frames) if self.count is None else self.count
        return b"".join([*parts, struct.pack("<f", self.shift), struct.pack("<Q", count)])

    def body(self) -> bytes:
        parts = []
        for number, (pose, color, depth) in enumerate(self.frames):
            parts.append(struct.pack("<16f", *np.asarray(pose, float).ravel()))
            parts.append(struct.pack("<QQQQ", 1000 + number, 2000 + number, len(color), len(depth)))
            parts += [color, depth]
        return b"".join(parts)

    def bytes(self) -> bytes:
        return self.header() + self.body() + self.imu

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes())
        return path

    def but(self, **changes) -> "Sens":
        return replace(self, **changes)


def sens(n=3, lost=()) -> Sens:
    """n frames walking along x; -inf poses where tracking was lost."""
    frames = []
    for number in range(n):
        pose = np.full((4, 4), -np.inf) if number in lost else np.eye(4)
        pose[0, 3] += 0.1 * number
        frames.append((pose, encoded(picture(number), quality=95), zlib.compress(millimetres(number).tobytes())))
    return Sens(frames)


XYZ = np.array([[0, 0, 2], [0.2, 0, 2], [0, 0.2, 2], [0.2, 0.2, 2], [5, 5, 5]], "f4")
RGB = np.arange(15, dtype="u1").reshape(5, 3) * 10
FACES = [[0, 1, 2], [1, 3, 2], [2, 3, 4]]


def write_ply(path, xyz=XYZ, rgb=RGB, faces=FACES, text=False, order="<", label=None, normal=None):
    columns = [("x", "f4", xyz[:, 0]), ("y", "f4", xyz[:, 1]), ("z", "f4", xyz[:, 2])]
    if normal is not None:
        columns += [(name, "f4", normal[:, i]) for i, name in enumerate(("nx", "ny", "nz"))]
    if rgb is not None:
        columns += [(name, "u1", rgb[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    if label is not None:
        columns.append(("label", "u2", label))
    vertex = np.empty(len(xyz), [(name, dtype) for name, dtype, _ in columns])
    for name, _, values in columns:
        vertex[name] = values
    elements = [PlyElement.describe(vertex, "vertex")]
    if faces is not None:
        face = np.empty(len(faces), [("vertex_indices", "O")])
        face["vertex_indices"] = [np.array(f, "i4") for f in faces] if len(faces) else []
        types = {"len_types": {"vertex_indices": "u1"}, "val_types": {"vertex_indices": "i4"}}
        elements.append(PlyElement.describe(face, "face", **types))
    PlyData(elements, text=text, byte_order=order).write(str(path))
    return path


def write_mesh(folder: Path, label=None, segments=None, **mesh):
    """A scan's folder without its recording."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name
    write_ply(folder / f"{name}_vh_clean_2.ply", **mesh)
    if label is not None:
        grey = np.zeros((len(label), 3), "u1")
        xyz = np.zeros((len(label), 3), "f4")
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", xyz, grey, None, label=label)
    if segments is not None:
        text = json.dumps({"params": {"kThresh": "0.01"}, "sceneId": name, "segIndices": segments})
        (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(text)
    return folder


def write_matrix(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(repr(float(v)) for v in row) for row in np.atleast_2d(values)) + "\n")
    return path


def write_depth(path, raw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(raw, np.uint16)).save(path)
    return path


def write_color(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def write_frames_25k(folder: Path, ids=(0, 100, 200)):
    """scannet_frames_25k/<scene>."""
    write_matrix(folder / "intrinsics_color.txt", matrix(COLOR_K))
    write_matrix(folder / "intrinsics_depth.txt", matrix(DEPTH_K))
    for number, frame_id in enumerate(ids):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * number
        write_color(folder / "color" / f"{frame_id:06d}.jpg", picture(number), quality=95)
        write_depth(folder / "depth" / f"{frame_id:06d}.png", millimetres(number))
        write_matrix(folder / "pose" / f"{frame_id:06d}.txt", pose)
    return folder
