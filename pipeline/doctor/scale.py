"""Are depth and poses in one unit? Where a second view sees a point hangs on its depth and on the camera's way."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hicl.pipeline.doctor.sample import Geometry, Sample

NAME = "depth scale"
# Units a metre: metres, bytes of a fisheye's 8 bits, millimetres, Matterport3D, TUM, Replica's renderings, 0.1 mm.
KNOWN = (1.0, 100.0, 256.0, 1000.0, 4000.0, 5000.0, 6553.5, 10_000.0)
_APART = 0.1  # a scale that is less off than this makes no difference that frames could tell
_PLAUSIBLE = 0.15, 15.0  # metres; the median depth of rooms
_ROOM = 100.0  # metres between cameras, beyond which poses are likelier to be in another unit


def readings(sample: Sample) -> Iterator[tuple[str, Geometry]]:
    """(what to do, what the frames mean then), for the factor of the depth that fits best, if it isn't about 1."""
    own = sample.geometry
    factors = {*(2.0 ** (np.arange(-4, 5) / 4)).tolist(), *(() if sample.agree else known_factors(sample))}
    fits = {factor: sample.fit(scaled(own, factor)).share for factor in factors}
    coarse = max(fits, key=fits.__getitem__)
    if coarse == 1:
        return
    near = coarse * np.exp(np.linspace(-_APART, _APART, 11))
    shares = np.array([sample.fit(scaled(own, factor)).share for factor in near])
    best = float(np.exp(np.log(near[shares > shares.max() - 0.01]).mean()))  # the middle of what is about as good
    if abs(np.log(best)) > _APART:
        yield remedy(sample, best), scaled(own, best)


def known_factors(sample: Sample) -> list[float]:
    """Of the depth, if it were in another known unit, or the poses were."""
    now = sample.scene.readings.depth_scale if sample.scene.readings else 1000.0
    return sorted({now / known for known in KNOWN} | {0.001, 0.01, 100.0, 1000.0})


def scaled(geometry: Geometry, factor: float) -> Geometry:
    return replace(geometry, depth=geometry.depth * np.float32(factor))


def remedy(sample: Sample, factor: float) -> str:
    """Which of the two to change for depth that fits when multiplied by a factor, and how."""
    own = sample.geometry
    depth = float(np.median(own.depth[own.keep]))
    apart = float(np.ptp(own.pose[:, :3, 3], axis=0).max())
    known = min((0.001, 0.01, 100.0, 1000.0), key=lambda known: abs(np.log(known / factor)))
    factor = known if abs(np.log(known / factor)) < _APART else factor
    plausible = _PLAUSIBLE[0] < depth < _PLAUSIBLE[1]
    if plausible and (apart > _ROOM or not _PLAUSIBLE[0] < depth * factor < _PLAUSIBLE[1]):
        return f"the poses fit when what they move by is divided by {factor:.4g}: write them in metres"
    if sample.scene.readings is None:
        return f"the depth fits when it is multiplied by {factor:.4g}"
    units = sample.scene.readings.depth_scale / factor
    known = min(KNOWN, key=lambda known: abs(np.log(known / units)))
    return f"read it with --depth-scale {known if abs(np.log(known / units)) < _APART else float(f'{units:.3g}'):g}"
