"""Do intrinsics fit the images? How far a point moves from view to view hangs on focal lengths, in depth and colour."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.doctor.sample import Geometry, Sample
from hicl.pipeline.doctor.verdict import Verdict

NAME = "intrinsics"
FACTORS = (0.5, 0.6, 0.667, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.11, 1.18, 1.25, 1.333, 1.5, 1.667, 2.0)
_WIDEST, _NARROWEST = 140.0, 15.0  # degrees that a camera without a fisheye sees from side to side


def field_of_view(camera: Camera) -> float:
    """Degrees from side to side."""
    return 2 * float(np.degrees(np.arctan(camera.width / 2 / camera.fx)))


def verdict(sample: Sample) -> Verdict | None:
    """What is wrong with a camera by itself; None where nothing is."""
    for camera, name in zip(sample.cameras, ("depth", "colour"), strict=True):
        degrees = field_of_view(camera)
        if not _NARROWEST < degrees < _WIDEST:
            told = f"the {name} camera would see {degrees:.0f} degrees from side to side"
            return Verdict(NAME, "fault", told, degrees, "are focal lengths in pixels?")
    return None


def readings(sample: Sample) -> Iterator[tuple[str, Geometry]]:
    """(what to do, what the frames mean then), for other focal lengths of the depth camera."""
    own = sample.geometry
    for factor in FACTORS:
        if abs(np.log(factor)) > 0.1:
            focal = np.array([factor, factor, 1, 1])
            yield f"depth fits with focal lengths times {factor:g}", replace(own, pinhole=own.pinhole * focal)


def color_focal(sample: Sample, geometry: Geometry) -> dict[float, float]:
    """How alike the colours of what two frames both see are, by a factor of the colour camera's focal lengths."""
    straight = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    return {
        factor: float(geometry.likeness(sample.greys, sample.lens * np.array([factor, factor, 1, 1]), straight)[0])
        for factor in FACTORS
    }
