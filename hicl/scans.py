"""A file for a trained network, a coloured PLY or a sweep of a LiDAR, and whose answer each of its points gets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hicl.clouds import Cloud, label_names, read_cloud
from hicl.errors import HiclError
from hicl.pipeline import stages
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.nuscenes_points import read_sweep, taking_part
from hicl.pipeline.datasets.scene import Points, Sweep
from hicl.pipeline.picture import heat
from hicl.train.config import FEATURES
from hicl.train.inference import Model, nearest_of
from hicl.train.kernels import voxelise
from hicl.upright import TILTED, Surfaces, axis, levelling, nearest_axis, told_of, upright


@dataclass(frozen=True)
class Scan:
    """cloud: all points of the file, as they lie there. xyz, values: of the M points that a network is given, z up and
    as `Model.predict` takes them. place: int [N], whose answer a point gets: its own, or of one that takes no part the
    nearest one's. sets: makes their geometric sets, int32 [M]. doubts: what a user should know, a line each.
    """

    cloud: Cloud
    xyz: np.ndarray
    values: np.ndarray
    place: np.ndarray
    sets: Callable[[], np.ndarray]
    doubts: list[str]


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep as nuScenes writes it, by its name."""
    return path.suffix.lower() == ".bin"


def read_scan(path: Path, model: Model, scale: float | None = None, up: str | None = None, level: bool = False) -> Scan:
    """What a model needs of a file. scale: as of `read_cloud`. up: its axis that points upwards, like y or -z; None: z,
    with a doubt where that seems wrong. level: find out what is up, near `up` if that is given, and level the scan.

    Raises `HiclError` for a file that can't be used, or holds not what the model reads, or doesn't tell what is up.
    """
    reads = FEATURES[model.stream.features].array
    if is_sweep(path):
        if reads != "points/intensity":
            raise HiclError(f"{path}: a LiDAR's sweep, and the model reads colours; take one trained on key frames")
        if scale is not None:
            raise HiclError(f"{path}: --scale goes with a .ply; a sweep is in metres")
        return _sweep(path, up, level)
    if reads != "points/rgb":
        raise HiclError(f"{path}: the model reads the intensity of a LiDAR's sweep: give it a .pcd.bin")
    cloud = read_cloud(path, model.voxel_size, scale)
    doubts = []
    if label_names(path):
        doubts.append(f"{path} was written by hicl: its colours are those of classes, not what a camera saw")
    if cloud.left_out:
        doubts.append(f"{cloud.left_out:,} points without finite coordinates are left out")
    turned, told = _stood_up(cloud.xyz, cloud.xyz, up, level, path)
    doubts += told
    return Scan(cloud, turned, cloud.rgb, np.arange(len(turned)), lambda: sets_of(cloud), doubts)


def _sweep(path: Path, up: str | None, level: bool) -> Scan:
    """nuScenes' own: z is up, and what lies next to the sensor is the car, or no return."""
    rows = read_sweep(path)
    near, usable = taking_part(rows)
    if not usable.any():
        raise HiclError(f"{path}: no point that is finite and not of the car itself")
    xyz = np.where(near[:, None], rows[:, :3], 0)
    intensity = np.clip(np.rint(np.nan_to_num(rows[:, 3])), 0, 255).astype(np.uint8)
    cloud = Cloud(rows[:, :3], heat(intensity.astype(float)))
    sweep = Sweep(xyz, intensity, usable, None, None, np.zeros(3))

    def sets() -> np.ndarray:
        return stages.make_sweep_sets(sweep, PreprocessConfig())["sets/id"][usable]

    turned, doubts = _stood_up(xyz, xyz[usable], up, level, path)
    if (~near).any():
        doubts.append(
            f"{(~near).sum():,} points have no finite place; their class is that of the nearest to the sensor"
        )
    return Scan(cloud, turned[usable], intensity[usable], nearest_of(turned, usable), sets, doubts)


def sets_of(cloud: Cloud) -> np.ndarray:
    """The geometric sets of a scan, by its faces if it has some, as `hicl preprocess` makes them: int32 [N], from 0."""
    xyz, rgb, config = cloud.xyz, cloud.rgb, PreprocessConfig()
    if cloud.faces is not None:
        return stages.sets_of(Points(xyz, rgb, cloud.faces), config)
    # Nearest neighbours reach no farther than a cloud is dense, and closer than this they tell noise from noise.
    _, chosen, cell = voxelise(xyz, _SPACING)
    return stages.sets_of(Points(xyz[chosen], rgb[chosen]), config)[cell]


_SPACING = 0.02  # metres, about what lies between the vertices of ScanNet's meshes, for which the constants were chosen


def _stood_up(
    xyz: np.ndarray, usable: np.ndarray, up: str | None, level: bool, path: Path
) -> tuple[np.ndarray, list[str]]:
    """(points [N, 3] with z up, what a user should know of that). usable: those that tell which way is up.

    Raises `HiclError` where that is asked for and they don't tell.
    """
    if up is not None and not level:
        return upright(xyz, up), []
    surfaces = Surfaces.of(usable)
    found = surfaces.up if up is None else surfaces.along(axis(up))
    if level:
        if found is None:
            raise HiclError(f"{path}: too little of it is level or upright to tell which way is up; leave --level out")
        turn = levelling(found)
        told = [f"{told_of(turn)} for the network; what is written lies as it lay"] if told_of(turn) else []
        return (xyz @ turn.T).astype(np.float32), told
    name, tilt = nearest_axis(found) if found is not None else ("z", 0.0)
    if name != "z":
        lying = f"is {name} up? the floor seems to lie across it, and the network takes z to be up: give --up {name}, "
        return xyz, [f"{lying}or --level, or --up z if all is well"]
    if tilt > TILTED:
        return xyz, [f"its floor seems to be {tilt:.0f} degrees off level: give --level, or --up z if all is well"]
    return xyz, []
