"""Anyone's own scan: a folder of posed RGB-D frames, with a cloud or mesh or without.

Three namings are known (a scene is a folder; ROOT is one, or a folder of them):

    7-Scenes, tsdf-fusion      frame-NNNNNN.color.jpg|png  .depth.png  .pose.txt   camera-intrinsics.txt
    ScanNet exporter           color/N.jpg|png  depth/N.png  pose/N.txt            intrinsic/intrinsic_{color,depth}.txt
    mmdetection3d              NNNNN.jpg  NNNNN.png  NNNNN.txt                     intrinsic.txt

Colour is 8-bit, depth 16-bit in millimetres (`--depth-scale` for other units), a pose a 4x4 matrix from camera to world
in metres with x right, y down, z forward. One intrinsics file serves both cameras: it is taken to describe the image
size that its principal point is nearer to the middle of, and is scaled for the other. A single `.ply` in the folder is
the surface, else the cloud is fused from the depth frames.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.images import read_color, read_depth, read_intrinsics, read_pose
from hicl.pipeline.datasets.scene import Camera, Frame, Points

_COLOR = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class _Files:
    color: Path
    depth: Path
    pose: Path


def _seven_scenes(folder: Path) -> dict[int, _Files]:
    return {
        int(match[1]): _Files(color, folder / f"frame-{match[1]}.depth.png", folder / f"frame-{match[1]}.pose.txt")
        for color in folder.glob("frame-*.color.*")
        if (match := re.fullmatch(r"frame-(\d+)\.color", color.stem)) and color.suffix in _COLOR
    }


def _scannet_export(folder: Path) -> dict[int, _Files]:
    return {
        int(color.stem): _Files(color, folder / "depth" / f"{color.stem}.png", folder / "pose" / f"{color.stem}.txt")
        for color in (folder / "color").glob("*.*")
        if color.stem.isdigit() and color.suffix in _COLOR
    }


def _mmdetection(folder: Path) -> dict[int, _Files]:
    return {
        int(color.stem): _Files(color, color.with_suffix(".png"), color.with_suffix(".txt"))
        for color in folder.glob("*.jpg")
        if color.stem.isdigit()
    }


_NAMINGS = (_seven_scenes, _scannet_export, _mmdetection)
_INTRINSICS = tuple(
    f"{parent}{name}"
    for parent in ("intrinsic/", "")
    for name in ("intrinsic_{}.txt", "intrinsics_{}.txt", "camera-intrinsics.txt", "intrinsic.txt", "intrinsics.txt")
)


def _list_frames(folder: Path) -> dict[int, _Files]:
    return next((frames for naming in _NAMINGS if (frames := naming(folder))), {})


@dataclass(frozen=True)
class RGBDScene:
    """A posed RGB-D folder. Picklable: files are opened where they are read. See `scene.Scene`."""

    id: str
    folder: Path
    frame_step: int = 1
    depth_scale: float = 1000.0
    voxel: float = 0.02  # metres; of the cloud that is fused where there is no .ply

    @cached_property
    def _files(self) -> dict[int, _Files]:
        return _list_frames(self.folder)

    @cached_property
    def frame_ids(self) -> np.ndarray:
        return np.array(sorted(self._files), np.int32)[:: self.frame_step]

    def _intrinsics(self, kind: str) -> Path:
        found = [path for name in _INTRINSICS if (path := self.folder / name.format(kind)).exists()]
        if not found:
            raise HiclError(f"{self.folder}: no intrinsics; expected camera-intrinsics.txt with a 3x3 or 4x4 matrix")
        return found[0]

    @cached_property
    def _cameras(self) -> tuple[Camera, Camera]:
        sizes = self._image_sizes()
        paths = [self._intrinsics(kind) for kind in ("color", "depth")]
        if paths[0] != paths[1]:
            return read_intrinsics(paths[0], sizes[0]), read_intrinsics(paths[1], sizes[1])
        off_centre = []
        for size in sizes:
            camera = read_intrinsics(paths[0], size)
            off_centre.append(abs(camera.cx / camera.width - 0.5) + abs(camera.cy / camera.height - 0.5))
        own = sizes[int(off_centre[1] < off_centre[0])]
        if min(off_centre) > 0.5:
            raise HiclError(f"{paths[0]}: principal point lies outside images of {sizes[0]} and {sizes[1]} pixels")
        return tuple(_rescaled(read_intrinsics(paths[0], own), size) for size in sizes)

    def _image_sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        reasons = []
        for frame_id in self.frame_ids.tolist():
            try:
                files = self._files[frame_id]
                return read_color(files.color).shape[:2], read_depth(files.depth).shape
            except FrameError as error:
                reasons.append(str(error))
        raise HiclError(f"{self.folder}: none of its {len(reasons)} frames decodes; the first: {reasons[0]}")

    @property
    def color_camera(self) -> Camera:
        return self._cameras[0]

    @property
    def depth_camera(self) -> Camera:
        return self._cameras[1]

    def frame(self, frame_id: int) -> Frame:
        files = self._files[frame_id]
        pose = read_pose(files.pose)
        depth = read_depth(files.depth, self.depth_camera, self.depth_scale)
        if not depth.any():
            raise FrameError(f"{files.depth}: depth is zero everywhere")
        return Frame(read_color(files.color, self.color_camera), depth, pose)

    def _usable_frames(self) -> Iterator[Frame]:
        for frame_id in self.frame_ids.tolist():
            try:
                yield self.frame(frame_id)
            except FrameError:
                continue

    @cached_property
    def _ply(self) -> Path | None:
        found = sorted(self.folder.glob("*.ply"))
        if len(found) > 1:
            raise HiclError(f"{self.folder}: {found[0].name} and {found[1].name}: leave one .ply, the scan's surface")
        return found[0] if found else None

    def points(self) -> Points:
        from hicl.pipeline.fusion import fuse_depth
        from hicl.pipeline.normals import unit

        if self._ply is None:
            frames = ((frame.color, frame.depth, frame.pose) for frame in self._usable_frames())
            cameras = self.depth_camera, self.color_camera
            try:
                return fuse_depth(frames, *cameras, voxel=self.voxel)
            except HiclError as error:
                raise HiclError(f"{self.folder}: {error}; is --depth-scale right?") from None
        vertex, faces, left_out = ply.read_surface(self._ply)
        xyz, rgb = ply.xyz(vertex, self._ply), ply.rgb(vertex, self._ply)
        normal = None
        if {"nx", "ny", "nz"} <= set(vertex.dtype.names):
            normal = unit(np.stack([vertex[axis] for axis in ("nx", "ny", "nz")], axis=1).astype(np.float32))
            if (normal == 0).all(axis=1).mean() > 0.5:  # a column that nobody filled
                normal = None
        points = Points(xyz, np.zeros_like(xyz, np.uint8), faces, normal=normal, left_out=left_out)
        return replace(points, rgb=self._colors_from_frames(xyz) if rgb is None else rgb)

    def _colors_from_frames(self, xyz: np.ndarray) -> np.ndarray:
        """Mean colour over the views that see a point, uint8 [N, 3]; mid-grey where none does."""
        from hicl.pipeline.projection import Projector

        projector = Projector(xyz)
        sums, views = np.zeros((len(xyz), 3)), np.zeros(len(xyz))
        for frame in self._usable_frames():
            point, pixel = projector.project(frame.pose, frame.depth, self.depth_camera, self.color_camera)
            sums[point] += frame.color[pixel[:, 0], pixel[:, 1]]
            views[point] += 1
        return np.where(views[:, None] > 0, np.rint(sums / np.maximum(views, 1)[:, None]), 128).astype(np.uint8)

    def shipped_sets(self) -> None:
        return None

    def point_files(self) -> list[Path]:
        if self._ply and ply.has_colors(self._ply):
            return [self._ply]
        return [*filter(None, [self._ply]), *self.frame_files()]

    def frame_files(self) -> list[Path]:
        chosen = [self._files[i] for i in self.frame_ids.tolist()]
        intrinsics = {self._intrinsics("color"), self._intrinsics("depth")}
        return sorted(intrinsics) + [file for f in chosen for file in (f.color, f.depth, f.pose)]


def _rescaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view in an image of another size; pixel centres at integers, so the corner is at -0.5."""
    y, x = size[0] / camera.height, size[1] / camera.width
    cx, cy = (camera.cx + 0.5) * x - 0.5, (camera.cy + 0.5) * y - 0.5
    return Camera(camera.fx * x, camera.fy * y, cx, cy, *size)


def find_scenes(root: Path, frame_step: int = 1, depth_scale: float = 1000.0) -> list[RGBDScene]:
    """Scenes of a root: the root itself if it holds frames, else its folders that do. Raises `HiclError` if none do."""
    if not root.is_dir():
        raise HiclError(f"{root}: no such folder")
    folders = [root] if _list_frames(root) else [f for f in sorted(root.iterdir()) if f.is_dir() and _list_frames(f)]
    if not folders:
        raise HiclError(
            f"{root}: no posed RGB-D frames; expected frame-000000.color.jpg, or color/0.jpg, or 00000.jpg, each with "
            "its depth and pose"
        )
    return [RGBDScene(folder.resolve().name, folder, frame_step, depth_scale) for folder in folders]
