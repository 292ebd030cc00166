"""Settings of one's own scans. Apart from what reads them, so that the command line needn't load that."""

from dataclasses import dataclass

from hicl.config import setting
from hicl.pipeline.config import PreprocessConfig

POSES, AXES = ("camera-to-world", "world-to-camera"), ("opencv", "opengl")
TRAINING = ("--epochs", "500", "--set", "stream.voxel_size=0.05")


@dataclass(frozen=True)
class Settings(PreprocessConfig):
    """An own scan's."""

    depth_scale: float | None = setting(
        None, "Units of depth a metre", above=0, shown="the capture's; else 1000, of floats 1"
    )
    poses: str | None = setting(None, "What poses are", choices=POSES, shown="the capture's; else camera-to-world")
    axes: str | None = setting(
        None,
        "Camera axes: y down and z ahead, or opengl: y up and z behind",
        choices=AXES,
        shown="the capture's; else opencv",
    )
    surface: str = setting("cloud", "What is fused from the depth where there is no .ply", choices=("cloud", "mesh"))
    voxel: float = setting(0.02, "Voxel of what is fused", unit="metres", above=0)
    max_depth: float = setting(4.0, "Farthest depth that is fused", unit="metres", above=0)
    min_piece: int = setting(100, "Vertices in the smallest piece of a fused mesh; smaller ones are left out", above=0)
    level: bool = setting(False, "Find the floor by what frames measure, and turn the scan so that it is level, z up")
    into_split: str = setting("train", "Split that the scenes go into; `hicl train` learns from train", recorded=False)
