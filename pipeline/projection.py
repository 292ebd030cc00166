"""Which point of the scene is seen at which pixel of a posed RGB-D frame (HICL section 3.1: "depth filtering")."""

import functools

import numpy as np

from hicl.errors import FrameError
from hicl.pipeline.datasets.scene import Camera, checked_pose
from hicl.pipeline.kernels import project as kernels
from hicl.pipeline.kernels.sort import radix_order


def pinhole(camera: Camera) -> np.ndarray:
    """float64 [4]: fx, fy, cx, cy."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float64)


class Projector:
    """A scene's points, laid out once so that each of many frames looks at a part of them only.

    xyz: float32 [N, 3] metres. The points are cut into blocks of neighbours; a frame passes over every block that lies
    outside of what its cameras and its farthest depth can see, and computes the others as vectors. In float64: the
    coordinates are a small part of the work, and in float32 a few points in a million fall on the pixel beside.
    """

    def __init__(self, xyz: np.ndarray):
        xyz = np.ascontiguousarray(xyz, np.float32)
        keys, finite = kernels.curve_keys(xyz)
        order = radix_order(keys)
        order = order if len(finite) == len(xyz) else finite[order]
        placed, box = kernels.blocks(xyz, order)
        self._blocks = order, placed, box
        self._room = np.zeros((len(xyz) // 64 + 1) * 64, np.uint8), np.empty((len(xyz) // 64 + 1) * 64, np.uint32)

    def project(
        self,
        pose: np.ndarray,
        depth: np.ndarray,
        depth_camera: Camera,
        color_camera: Camera,
        max_gap: float = 0.05,
        gap_growth: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of one view: the points that the frame sees, and where in its colour image.

        pose: float64 [4, 4], camera to world. depth: float32 [h, w] metres along z, 0 = nothing measured. Returns point
        int32 [P], ascending, and pixel uint16 [P, 2] (row, column) in the colour image.

        A point is kept if its camera z > 0, its depth pixel lies in the depth image, the depth measured there is > 0
        and |depth - z| <= max_gap metres, or gap_growth · depth² where that is more, and its colour pixel lies in the
        colour image. Both pixels are the nearest one, floor(x + 0.5), as integer coordinates are pixel centres. Depth
        and colour are taken to be registered, that is, to share the pose; each has its own intrinsics.

        The pose is inverted as a general matrix, in float64: poses that trackers and exporters write are rotations to
        four or five digits only, and the true inverse leads back to exactly the pixel that a back-projection with the
        same pose came from, while the transpose is off by that error times the distance from the world's origin.

        gap_growth: a share a metre. What structured light measures scatters by 0.0014 · depth² (Khoshelham and Oude
        Elberink, Sensors 12, 2012: half a pixel of disparity), three times which is more than 5 cm beyond 3.4 m.

        Raises `FrameError` for a pose that is none (see `checked_pose`) and for a depth image of another size than its
        camera's.

        Source: CLIP2Scene (runnanchen/CLIP2Scene f37dae7, pretrain/dataloader_scannet.py:139-197), from which 5 cm
        comes. There, the depth pixel is rounded but the colour pixel truncated, z <= 0 isn't tested, the colour image
        is resized and read with the depth camera's intrinsics, and a pose of -inf leads to an endless search for a
        crop.
        """
        if max(color_camera.height, color_camera.width) > 65536:
            raise ValueError(f"colour image {color_camera.height} x {color_camera.width}: pixels are stored in 16 bits")
        pose = checked_pose(pose)
        if depth.shape != (depth_camera.height, depth_camera.width):
            raise FrameError(
                f"depth image: expected {depth_camera.height} x {depth_camera.width} (height x width) as its camera"
                f" says, found {' x '.join(map(str, depth.shape))}; correct the intrinsics or leave this frame out"
            )
        to_camera = np.linalg.inv(pose)
        frustum, of_depth, of_color = _sight(depth_camera, color_camera)
        depth = np.ascontiguousarray(depth, np.float32)
        size = color_camera.height, color_camera.width
        sight = frustum, to_camera, depth, of_depth, of_color
        return kernels.project(*self._blocks, *self._room, *sight, size, float(max_gap), float(gap_growth))


@functools.lru_cache(64)  # of captures whose every frame has its own
def _sight(*cameras: Camera) -> tuple[np.ndarray, ...]:
    """Planes float64 [S, 4], a·p + d = 0, positive where all of the cameras see: nearer than what is added to the first
    one's d, before them, within their borders; and each camera's pinhole."""
    sides, pinholes = [[0, 0, -1, 0], [0, 0, 1, 0]], [pinhole(camera) for camera in cameras]
    for camera, (fx, fy, cx, cy) in zip(cameras, pinholes, strict=True):
        sides += [
            [fx, 0, cx + 0.5, 0],
            [-fx, 0, camera.width - 0.5 - cx, 0],
            [0, fy, cy + 0.5, 0],
            [0, -fy, camera.height - 0.5 - cy, 0],
        ]
    return np.array(sides, np.float64), *pinholes
