"""Do the parts of a capture fit together? Poses, depth, intrinsics, colours and surface are each sound by themselves,
and may still not belong together: told by a few frames, held against each other.

What one frame measured is carried into another by their poses. Where that one measured something farther, it saw
through what should be there: a contradiction, of which right readings have next to none. (Something nearer may
hide it.) Each check is a file; those of a reading list the others, and that one is named which fits.
"""

from types import ModuleType
from typing import NamedTuple

from hicl.errors import HiclError
from hicl.pipeline.datasets.scene import Points, Scene
from hicl.pipeline.doctor import colors, frames, lens, poses, scale, surface, timing, turned, upward, views
from hicl.pipeline.doctor.sample import Fit, Geometry, Sample
from hicl.pipeline.doctor.verdict import Verdict, percent

_OF_DEPTH = (poses, scale, turned, lens, timing)  # the readings that depth and poses tell
_ALWAYS = (scale, timing)  # may be a little off where views still agree
_GAIN, _BETTER = 0.15, 0.04  # of the share that agrees: what a reading must win, where views don't agree, or do
_FITS = 0.7
_OPEN = "can't be told before {} fit"


def examine(scene: Scene, points: Points | None = None, with_colors: bool = True) -> list[Verdict]:
    """A verdict of each check. points: the surface that came with the scene; None: it has none of its own.
    with_colors: False: no colour image is decoded, and nothing said of them.

    Reads a few frames of the scene; takes seconds at most. Doesn't raise: frames or intrinsics that can't be read are a
    verdict.
    """
    check = lens.NAME
    try:
        _ = scene.depth_camera, scene.color_camera
        check = frames.NAME
        sample = Sample(scene, with_colors)
    except HiclError as error:
        return [Verdict(check, "fault", str(error))]
    own = frames.verdict(sample)
    best = _explanation(sample) if own.state != "fault" else None
    found = {verdict.check: verdict for verdict in [own, *_of_depth(sample, best, own.state == "fault")]}
    alone = lens.verdict(sample)
    if alone is not None:
        found[lens.NAME] = alone
    elif with_colors and (best is not None or sample.agree):
        told = colors.verdict(sample, best.geometry if best else sample.geometry, best.told if best else "")
        if found[told.check].state != "fault":
            found[told.check] = told
    found[upward.NAME] = upward.verdict(sample)
    if points is not None:
        found[surface.NAME] = surface.verdict(sample, points, best is None)
    return list(found.values())


def faults(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.state == "fault"]


class _Reading(NamedTuple):
    """Of a check: what to do, what the frames mean then, and how well they agree."""

    check: ModuleType
    told: str
    geometry: Geometry
    fit: Fit


def _explanation(sample: Sample) -> _Reading | None:
    """The reading that fits clearly better than the present one, if there is one."""
    now, agree = sample.as_it_is, sample.agree
    found = [
        _Reading(check, told, geometry, sample.fit(geometry, *chosen))
        for check in (_ALWAYS if agree else _OF_DEPTH)
        for told, geometry, *chosen in check.readings(sample)
    ]
    best = max(found, key=lambda reading: reading.fit.share, default=None)
    if not agree and (best is None or best.fit.share < _FITS):
        best = max([*_two_at_once(sample), *filter(None, [best])], key=lambda reading: reading.fit.share)
    if best is None:
        return None
    if agree:
        clearly = best.fit.share - now.share > _BETTER and 1 - best.fit.share < (1 - now.share) / 2
    else:
        clearly = best.fit.enough and best.fit.share > max(_FITS, now.share + _GAIN)
    return best if clearly else None


def _two_at_once(sample: Sample) -> list[_Reading]:
    """Poses that are written otherwise, and depth in another unit."""
    found = []
    for told, geometry in poses.readings(sample):
        for factor in scale.known_factors(sample):
            both = scale.scaled(geometry, factor)
            found.append(_Reading(poses, f"{told}, and {scale.remedy(sample, factor)}", both, sample.fit(both)))
    return found


def _of_depth(sample: Sample, best: _Reading | None, unfit: bool) -> list[Verdict]:
    """unfit: whether the frames themselves can't be used."""
    now, before = sample.as_it_is, frames.NAME if unfit else best.check.NAME if best else views.NAME
    found = []
    for check in _OF_DEPTH:
        if best is not None and check is best.check:
            then = percent(best.fit.share)
            told = f"{percent(now.share)} of what two frames measure both is the same, and otherwise {then}"
            found.append(Verdict(check.NAME, "fault", told, now.share, best.told))
        elif sample.agree and best is None:
            found.append(Verdict(check.NAME, "well", "no other reading fits better", now.share))
        else:
            found.append(Verdict(check.NAME, "open", _OPEN.format(before)))
    seen = views.verdict(sample)
    if best is not None or (unfit and seen.state == "fault"):
        seen = Verdict(views.NAME, "open", _OPEN.format(before), now.share)
    return [*found, seen]
