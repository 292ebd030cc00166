"""What a network reads of a voxel: its points' colour or intensity, and where it is asked for, its height."""

import numpy as np

from hicl.train.config import FEATURES, StreamConfig

# Of a scan's points lie below its floor: what mirrors and tracking leave there must not move it.
_BELOW_FLOOR = 0.01
_MIDDLE, _MOST = 1.2, 4.8  # metres above the floor


def point_features(values: np.ndarray) -> np.ndarray:
    """Colours [N, 3] or intensities [N], uint8, as [N, 3 or 1] float32 in -1..1.

    So CLIP2Scene has colours (`pretrain/dataloader_scannet.py`); its intensities it takes as they are, 0 to 255. At 0 a
    return that is weak would be no voxel at all to a convolution without bias.
    """
    return np.asarray(values, np.float32).reshape(len(values), -1) / np.float32(127.5) - np.float32(1)


def height_features(z: np.ndarray, representative: np.ndarray) -> np.ndarray:
    """Heights above the floor, float32 [V, 1]: -1 on it and 1 at 2.4 m, but at most 3, of 4.8 m and all above.

    A sparse convolution looks the same everywhere, so a network that reads colours alone has to find the floor before
    it can tell a table's top from it.

    Args:
        z: [N] float32, of all the scan's points, metres, upwards. representative: int [V], a point of each voxel.
    """
    height = z[representative] - np.quantile(z, _BELOW_FLOOR)
    return (np.clip(height, 0, _MOST) / _MIDDLE - 1).astype(np.float32)[:, None]


def network_input(read: np.ndarray, xyz: np.ndarray, representative: np.ndarray, config: StreamConfig) -> np.ndarray:
    """What a network reads of each voxel: float32 [V, c].

    Args:
        read: [V, 3 or 1] float32, its colour or intensity. xyz: [N, 3] float32, the points. representative: of
            `voxelise`.
    """
    if not FEATURES[config.features].height:
        return read
    return np.hstack([read, height_features(xyz[:, 2], representative)])
