"""Which way is up? Cameras are mostly held upright, and what they see mostly lies flat or stands."""

import numpy as np

from hicl.pipeline.doctor.sample import Geometry, Sample
from hicl.pipeline.doctor.surface import measured
from hicl.pipeline.doctor.verdict import Verdict
from hicl.upright import TILTED, Surfaces, held, nearest_axis

NAME = "up"
_PIXELS = 16  # a pixel of so many, of images that were thinned already
_LEVEL = 0.3  # of the mean of what unit vectors cameras hold up: less is said by them of no side


def find(geometry: Geometry) -> np.ndarray | None:
    """Up in the poses' frame, a unit vector float64 [3], by what frames measure, near what their cameras hold up; None
    where that doesn't tell. See `hicl.upright`."""
    places = measured(geometry, int(_PIXELS**0.5))
    if not len(places):
        return None
    surfaces = Surfaces.of((places - places.mean(axis=0)).astype(np.float32))
    up = -geometry.pose[:, :3, 1].mean(axis=0)
    return surfaces.along(up) if np.linalg.norm(up) > _LEVEL else surfaces.up


def verdict(sample: Sample) -> Verdict:
    name, up = held(sample.geometry.pose), find(sample.geometry) if sample.agree else None
    held_so, tilt = nearest_axis(up) if up is not None else (name or "z", 0.0)
    if name is not None or tilt > TILTED:
        said = f"cameras hold {name or held_so} up" + ", not z" * (name is not None)
        said += f", and floors are {tilt:.0f} degrees off it" * (tilt > TILTED)
        why = "a network that learns from it fits only scans that lie so; --level turns it"
        return Verdict(NAME, "remark", said, tilt, why)
    if up is None:
        return Verdict(NAME, "well", "cameras hold no other axis than z up")
    return Verdict(NAME, "well", f"floors are within {max(tilt, 0.1):.1f} degrees of level", tilt)
