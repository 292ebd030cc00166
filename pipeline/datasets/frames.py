"""A folder of posed RGB-D frames, one at a time: the part that anyone's own scans and exports of ScanNet share."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.images import read_3rscan_intrinsics, read_color, read_depth, read_intrinsics, read_pose
from hicl.pipeline.datasets.namings import FrameFiles, entries, list_frames, numbered
from hicl.pipeline.datasets.scene import Camera, Frame, Readings, checked_camera, off_centre

_3RSCAN = "_info.txt"
_INTRINSICS = "intrinsic_{}.txt intrinsics_{}.txt camera-intrinsics.txt intrinsic.txt intrinsics.txt".split() + [
    _3RSCAN
]


@dataclass(frozen=True)
class FrameFolder:
    """Frames by one of the known namings. What is read of the folder is kept, outside the fields."""

    folder: Path
    frame_step: int = 1
    readings: Readings = Readings()

    @cached_property
    def _names(self) -> dict[int, str]:
        return numbered(list(self._by_name))

    @cached_property
    def _by_name(self) -> dict[str, FrameFiles]:
        frames = list_frames(self.folder)
        if not frames:
            raise HiclError(f"{self.folder}: holds no frames with colour, depth and pose")
        return frames

    def _files(self, frame_id: int) -> FrameFiles:
        return self._by_name[self._names[frame_id]]

    @cached_property
    def frame_ids(self) -> np.ndarray:
        """int32 [F], ascending."""
        return np.array(list(self._names), np.int32)[:: self.frame_step]

    def frame_name(self, frame_id: int) -> str:
        name = self._names[frame_id]
        return str(frame_id) if name.isdecimal() and int(name) == frame_id else name

    def missing(self) -> list[str]:
        """For each frame that lacks a file, which. None is opened. Raises `HiclError` without frames or intrinsics."""
        _ = self._intrinsics
        chosen = [self._files(i) for i in self.frame_ids.tolist()]
        lacking = [f"{files.color}: no {files.missing[0].name}" for files in chosen if files.missing]
        if len(lacking) == len(chosen):
            raise HiclError(f"{lacking[0]}, and none of its {len(chosen)} frames has all of colour, depth and pose")
        return lacking

    @cached_property
    def _intrinsics(self) -> tuple[Path, Path]:
        """The files for colour and depth; of two cameras or the same."""
        there = [parent / name for parent in (self.folder / "intrinsic", self.folder) for name in entries(parent)]
        by_kind = []
        for kind in ("color", "depth"):
            names = [name.format(kind) for name in _INTRINSICS]
            found = [path for path in there if path.name in names]
            if not found:
                raise HiclError(
                    f"{self.folder}: no intrinsics; expected camera-intrinsics.txt with a 3x3 or 4x4 matrix, or "
                    "intrinsic_color.txt and intrinsic_depth.txt"
                )
            # Those in a folder of their own go first, then the more telling name.
            by_kind.append(min(found, key=lambda path: (path.parent == self.folder, names.index(path.name))))
        return by_kind[0], by_kind[1]

    @cached_property
    def _cameras(self) -> tuple[Camera, Camera]:
        kinds, sizes = ("color", "depth"), self._image_sizes()
        paths = self._intrinsics
        if paths[0].name == _3RSCAN:
            color, depth = (read_3rscan_intrinsics(paths[0], *about) for about in zip(kinds, sizes, strict=True))
            return color, depth
        if paths[0] != paths[1]:
            color, depth = (read_intrinsics(path, size) for path, size in zip(paths, sizes, strict=True))
            return checked_camera(color, str(paths[0])), checked_camera(depth, str(paths[1]))
        own = min((read_intrinsics(paths[0], size) for size in sizes), key=off_centre)
        checked_camera(own, str(paths[0]))
        return _rescaled(own, sizes[0]), _rescaled(own, sizes[1])

    def _image_sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        reasons = []
        for frame_id in self.frame_ids.tolist():
            try:
                files = self._files(frame_id)
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

    def pose(self, frame_id: int) -> np.ndarray:
        """Camera to world, float64 [4, 4]. Raises `FrameError`."""
        return self.readings.camera_to_world(read_pose(self._files(frame_id).pose))

    def frame(self, frame_id: int) -> Frame:
        """Raises `FrameError` where this frame alone is unusable."""
        files, pose = self._files(frame_id), self.pose(frame_id)
        depth = read_depth(files.depth, self.depth_camera, self.readings.depth_scale)
        if not depth.any():
            raise FrameError(f"{files.depth}: depth is zero everywhere")
        return Frame(partial(read_color, files.color, self.color_camera), depth, pose)

    def frame_files(self) -> list[Path]:
        """Files that `frame` reads."""
        chosen = [self._files(i) for i in self.frame_ids.tolist()]
        return sorted(set(self._intrinsics)) + [file for f in chosen for file in (f.color, f.depth, f.pose)]

    def first_position(self) -> np.ndarray:
        """float64 [3]: where the first camera stood whose pose can be read; 0 if there is none."""
        return next((pose[:3, 3] for pose in self._poses()), np.zeros(3))

    def _poses(self) -> Iterator[np.ndarray]:
        for frame_id in self.frame_ids.tolist():
            try:
                yield self.pose(frame_id)
            except FrameError:
                continue


def _rescaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view in an image of another size; pixel centres at integers, so the corner is at -0.5."""
    y, x = size[0] / camera.height, size[1] / camera.width
    cx, cy = (camera.cx + 0.5) * x - 0.5, (camera.cy + 0.5) * y - 0.5
    return Camera(camera.fx * x, camera.fy * y, cx, cy, *size)
