"""Which way is up? Cameras are mostly held upright."""

import numpy as np

from hicl.pipeline.doctor.sample import Sample
from hicl.pipeline.doctor.verdict import Verdict
from hicl.upright import UPRIGHT

NAME = "up"


def verdict(sample: Sample) -> Verdict:
    up = -sample.geometry.pose[:, :3, 1].mean(axis=0)
    axis = int(np.abs(up).argmax())
    name = "-" * bool(up[axis] < 0) + "xyz"[axis]
    if (axis < 2 or up[2] < 0) and abs(up[axis]) > UPRIGHT:
        return Verdict(
            NAME,
            "remark",
            f"cameras hold {name} up, not z",
            float(up[axis]),
            "a network that learns from it fits only scans that lie so",
        )
    return Verdict(NAME, "well", "cameras hold z up" if name == "z" else "cameras are held in no way of their own")
