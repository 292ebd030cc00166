"""A capture's frames, one at a time: the part that anyone's own scans and exports of ScanNet share."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import captures, depths
from hicl.pipeline.datasets.captures.capture import Capture, Shot, rescaled
from hicl.pipeline.datasets.images import read_color
from hicl.pipeline.datasets.namings import numbered
from hicl.pipeline.datasets.scene import Camera, Frame, Readings, Said, checked_camera, checked_pose


@dataclass(frozen=True)
class FrameFolder:
    """Frames of a capture. said: what the user says of its files. What is read of the folder is kept, outside the
    fields."""

    folder: Path
    frame_step: int = 1
    said: Said = Said()

    @cached_property
    def capture(self) -> Capture:
        """Raises `HiclError`."""
        capture = captures.read(self.folder)
        if not capture.shots:
            raise HiclError(f"{self.folder}: {captures.name_of(self.folder)}, but without a frame")
        return capture

    @cached_property
    def readings(self) -> Readings:
        """How the files are meant: as the user says, else as the format does, else as most are."""
        floats = any(depths.is_float(shot.depth) for shot in list(self.capture.shots.values())[:1])
        return self.said.over(self.capture.said.over(Readings(1.0 if floats else 1000.0)))

    @cached_property
    def _names(self) -> dict[int, str]:
        return numbered(list(self.capture.shots))

    def _shot(self, frame_id: int) -> Shot:
        return self.capture.shots[self._names[frame_id]]

    @cached_property
    def frame_ids(self) -> np.ndarray:
        """int32 [F], ascending."""
        return np.array(list(self._names), np.int32)[:: self.frame_step]

    def frame_name(self, frame_id: int) -> str:
        name = self._names[frame_id]
        return str(frame_id) if name.isdecimal() and int(name) == frame_id else name

    def missing(self) -> list[str]:
        """For each frame that lacks a file, which. None is opened. Raises `HiclError` without frames or intrinsics."""
        chosen = [self._shot(i) for i in self.frame_ids.tolist()]
        lacking = [f"{shot.color}: no {shot.missing[0].name}" for shot in chosen if shot.missing]
        if len(lacking) == len(chosen):
            raise HiclError(f"{lacking[0]}, and none of its {len(chosen)} frames has all of colour, depth and pose")
        return lacking

    @cached_property
    def _cameras(self) -> tuple[Camera, Camera]:
        """Of colour and depth."""
        reasons = []
        for frame_id in self.frame_ids.tolist():
            shot = self._shot(frame_id)
            try:
                sizes = read_color(shot.color).shape[:2], self._depth(shot).shape
                if self.capture.cameras is None:
                    return self._own(shot, *sizes)
            except FrameError as error:
                reasons.append(str(error))
                continue
            return self.capture.cameras(*sizes)
        raise HiclError(f"{self.folder}: none of its {len(reasons)} frames decodes; the first: {reasons[0]}")

    @staticmethod
    def _own(shot: Shot, color: tuple[int, int], depth: tuple[int, int]) -> tuple[Camera, Camera]:
        """Both cameras of a frame that brings its own. Raises `FrameError`."""
        assert shot.camera is not None
        try:
            camera = checked_camera(shot.camera(), str(shot.color))
        except HiclError as error:
            raise FrameError(str(error)) from None
        return rescaled(camera, color), rescaled(camera, depth)

    @property
    def color_camera(self) -> Camera:
        return self._cameras[0]

    @property
    def depth_camera(self) -> Camera:
        return self._cameras[1]

    def pose(self, frame_id: int) -> np.ndarray:
        """Camera to world, float64 [4, 4]. Raises `FrameError`."""
        shot = self._shot(frame_id)
        where = str(shot.files[0] if shot.files else shot.color)
        return self.readings.camera_to_world(checked_pose(shot.pose(), where))

    def _depth(self, shot: Shot, camera: Camera | None = None) -> np.ndarray:
        raw = shot.raw_depth() if shot.raw_depth else depths.read_raw(shot.depth)
        return depths.metres(raw, self.readings.depth_scale, str(shot.depth), camera)

    def frame(self, frame_id: int) -> Frame:
        """Raises `FrameError` where this frame alone is unusable."""
        shot, pose = self._shot(frame_id), self.pose(frame_id)
        color, depth_camera = self._cameras
        depth = self._depth(shot, depth_camera)
        if not depth.any():
            raise FrameError(f"{shot.depth}: depth is zero everywhere")
        own = None
        if shot.camera is not None:
            size = color.height, color.width
            own = self._own(shot, size, depth.shape)[::-1]
        return Frame(partial(read_color, shot.color, color), depth, pose, own)

    def frame_files(self) -> list[Path]:
        """Files that `frame` reads."""
        chosen = [self._shot(i) for i in self.frame_ids.tolist()]
        return sorted(self.capture.files) + [file for shot in chosen for file in (shot.color, shot.depth, *shot.files)]

    def first_position(self) -> np.ndarray:
        """float64 [3]: where the first camera stood whose pose can be read; 0 if there is none."""
        return next((pose[:3, 3] for pose in self._poses()), np.zeros(3))

    def _poses(self) -> Iterator[np.ndarray]:
        for frame_id in self.frame_ids.tolist():
            try:
                yield self.pose(frame_id)
            except FrameError:
                continue
