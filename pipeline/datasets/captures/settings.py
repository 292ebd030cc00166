"""Settings of one's own scans. Apart from what reads them, so that the command line needn't load that."""

from dataclasses import dataclass

from hicl.config import setting
from hicl.pipeline.config import PreprocessConfig

POSES, AXES = ("camera-to-world", "world-to-camera"), ("opencv", "opengl")
TRAINING = ("--epochs", "500", "--set", "stream.voxel_size=0.05")


@dataclass(frozen=True)
class Settings(PreprocessConfig):
    """An own scan's."""

    depth_scale: float = setting(1000.0, "Units of depth images a metre", above=0)
    poses: str = setting("camera-to-world", "What poses are", choices=POSES)
    axes: str = setting("opencv", "Camera axes: y down and z ahead, or opengl: y up and z behind", choices=AXES)
    into_split: str = setting("train", "Split that the scenes go into; `hicl train` learns from train", recorded=False)
