"""PLY: MeshLab, CloudCompare, Blender, Open3D."""

from pathlib import Path

import numpy as np

from hicl.clouds import write_ply
from hicl.formats.labelled import Labelled


def write(path: Path, labelled: Labelled) -> None:
    """As `write_ply` does, with the properties `score` and `instance` where they are known."""
    known = {"score": labelled.score, "instance": labelled.instance}
    values: dict[str, np.ndarray] = {name: value for name, value in known.items() if value is not None}
    write_ply(path, labelled.cloud, labelled.label, labelled.classes, values)
