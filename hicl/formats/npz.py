"""NumPy's .npz, for programs of one's own."""

from pathlib import Path
from typing import Any

import numpy as np

from hicl.files import replacing
from hicl.formats.labelled import Labelled


def write(path: Path, labelled: Labelled) -> None:
    """xyz float64 [N, 3] where the cloud lies far from 0, else float32, metres; rgb uint8 [N, 3]; label [N] and classes
    [C]; and where they are known, faces int32 [T, 3], score float32 [N], instance int32 [N], -1 for none."""
    cloud = labelled.cloud
    xyz = cloud.xyz + cloud.origin if cloud.origin.any() else cloud.xyz
    known = {"faces": cloud.faces, "score": labelled.score, "instance": labelled.instance}
    arrays: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    arrays |= {"xyz": xyz, "rgb": cloud.rgb, "label": labelled.label, "classes": np.array(labelled.classes)}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
