"""Which point of a LiDAR's sweep is seen at which pixel of a camera: there is no depth image to ask.

The LiDAR stands on the roof and sees over what stands before the cameras, so that some of its points fall on pixels
that show something nearer. What is nearer is known at the sweep's points only; between them a surface is taken to go on
as far as half way to the next ones.
"""

import numpy as np

from hicl.pipeline.datasets.scene import Camera, checked_pose
from hicl.pipeline.kernels import pinhole as kernels
from hicl.pipeline.projection import pinhole

NEAREST = 1.0  # metres of depth: nearer are points on the cameras' own housings
# Of the sensor that nuScenes has, a Velodyne HDL-32E at 20 Hz: radians between its columns and between its rings.
COLUMN_STEP, RING_STEP = np.deg2rad(0.332), np.deg2rad(1.333)
_CELL = 4  # pixels: half of what lies between two columns
_SHARE, _MARGIN = 0.1, 0.5  # of a point's depth, and metres, that it must lie behind another to be hidden by it


def project(
    xyz: np.ndarray, valid: np.ndarray, pose: np.ndarray, camera: Camera, sensor: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Pairs of one view: the points that the camera sees, and where; and how many more it would, if none were hidden.

    xyz: float32 [N, 3] metres. valid: bool [N], those that count. pose: float64 [4, 4], camera to the frame of the
    points. sensor: float64 [3], where the LiDAR was, or None: nothing hides anything.
    Returns point int32 [P], ascending, and pixel uint16 [P, 2] (row, column).

    A point is kept if its depth z > 1 m and its place is off the image's border, 1 < u < W - 1 and 1 < v < H - 1; its
    pixel is the nearest one, floor(x + 0.5), as integer coordinates are pixel centres. It is hidden if another that is
    nearer by more than 10 % and 0.5 m covers its pixel: a point covers the part of a surface square to the beam that is
    nearer to it than to the next column or ring.

    Source of depth and border: nuscenes-devkit, nuscenes.py (`map_pointcloud_to_image`), which tests no occlusion.
    Raises `FrameError` for a pose that is none.
    """
    xyz, to_camera = np.ascontiguousarray(xyz, np.float32), np.linalg.inv(checked_pose(pose))
    size = camera.height, camera.width
    point, place = kernels.project(xyz, valid, to_camera, pinhole(camera), size, NEAREST)
    if sensor is None:
        hidden = np.zeros(len(point), np.bool_)
    else:
        steps = COLUMN_STEP * camera.fx, RING_STEP * camera.fy
        wide, high = kernels.covered(xyz, point, place, sensor, *steps)
        hidden = kernels.hidden(place, wide, high, size, _CELL, _SHARE, _MARGIN)
    return *kernels.pixels(point, place, hidden), int(hidden.sum())
