"""Compile the kernels by running the stages once over a scene of a few points."""

import functools
from pathlib import Path

import numpy as np

from hicl.pipeline import doctor, stages
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Scene
from hicl.pipeline.fusion import fuse_depth
from hicl.pipeline.kernels import lists, vote
from hicl.processes import compiling


class _Plane(Scene):
    """A square patch seen by one camera. See `datasets.scene.Scene`."""

    id = "warm-up"
    color_camera = depth_camera = Camera(8.0, 8.0, 3.5, 3.5, 8, 8)
    frame_ids = np.array([0], np.int32)

    def __init__(self, meshed: bool):
        column, row = np.meshgrid(np.arange(6, dtype=np.float32), np.arange(6, dtype=np.float32))
        xyz = np.stack([column.ravel() / 10, row.ravel() / 10, np.ones(36, np.float32)], axis=1)
        corner = np.array([6 * r + c for r in range(5) for c in range(5)])
        faces = np.concatenate([corner[:, None] + [0, 1, 6], corner[:, None] + [1, 7, 6]]).astype(np.int32)
        rgb = np.zeros((36, 3), np.uint8)
        self._points = Points(xyz, rgb, faces if meshed else None, sight=None if meshed else -xyz)

    def points(self) -> Points:
        return self._points

    def frame(self, _: int) -> Frame:
        return Frame(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32), np.eye(4))

    def point_files(self) -> list[Path]:
        return []

    def frame_files(self) -> list[Path]:
        return []


@functools.cache
def compile_kernels(clouds: bool = True) -> None:
    """Compile the kernels of the pipeline into numba's cache on disk, or load them from there: once a process, and one
    process at a time, so that of many which start together the first compiles and the others load.

    clouds: what scans without a mesh need as well, which the others needn't wait for.
    """
    with compiling(vote):
        _read_lists()
        _run_stages(meshed=True)
    if clouds:
        with compiling(vote, "clouds"):
            _run_stages(meshed=False)
            frame, camera = _Plane(False).frame(0), _Plane.color_camera
            fuse_depth([(frame.color, frame.depth, frame.pose)], camera, camera, min_hits=1)


def _read_lists() -> None:
    data, fields = np.array([3, 0, 1, 2], np.uint8), np.array([[1, 0, 1]])
    found, _ = lists.locate(data, 0, 1, fields, 0, False)
    lists.fans(data, found, fields[0], False, False, 3)


def _run_stages(meshed: bool) -> None:
    config, scene = PreprocessConfig(), _Plane(meshed)
    doctor.examine(scene, scene.points())
    arrays = stages.make_points(scene.points())
    views = stages.Views(scene, arrays["points/xyz"], None, config)
    views.add(0, scene.frame(0))
    arrays |= views.arrays({})
    arrays |= stages.make_sets(scene, scene.points(), arrays, config)
    codes, scale = np.ones((1, 2, 2, 4), np.int8), np.ones((1, 2, 2), np.float32)
    seen = arrays | {"features/grid": codes, "features/scale": scale}
    raw, votes = stages.label_from_features(np.zeros((2, 4), np.float32), seen, config)
    for scope in ("image", "scene"):
        stages.make_labels(raw, votes, arrays, PreprocessConfig(vote=scope))
    stages.make_labels(raw, votes, arrays | {"pairs/mask": arrays["pairs/point"]}, config)
