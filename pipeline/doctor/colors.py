"""Do colours belong to the depth? Of what two frames measure alike, each has the greys of its own image: if these
belong to it, they are alike as well, whatever the exposure."""

import math

from hicl.pipeline.doctor import lens, timing, turned
from hicl.pipeline.doctor.sample import Geometry, Sample
from hicl.pipeline.doctor.verdict import Verdict

_GAIN, _FITS, _LEAST = 0.2, 0.5, 0.25  # correlations
_LENS_GAIN, _LENS_APART = 0.15, 0.2  # what other focal lengths must win to be a fault, and how far off they must be
_WORTH_A_WORD = 0.05


def verdict(sample: Sample, geometry: Geometry, already: str = "") -> Verdict:
    """Of the first of turns, focal lengths and moments that fits clearly better. geometry: what depth and poses mean;
    already: what is to be done for that."""
    if len(geometry.depth) < len(sample.frames):  # other moments' poses, of some frames
        return Verdict(turned.NAME, "open", "can't be told before poses belong to their frames")
    likeness = turned.colors(sample, geometry)
    own = likeness[""]
    if math.isnan(own):
        return Verdict(turned.NAME, "open", "no two frames see enough of the same")
    told = f"colours of what two frames see correlate by {own:.2f}"
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] > max(own + _GAIN, _FITS):
        remedy = best.format("colour images")
        if best and already == best.format("depth images"):
            remedy += ", and depth images too"
        return Verdict(turned.NAME, "fault", f"{told}, and otherwise by {likeness[best]:.2f}", own, remedy, likeness)
    focal = lens.color_focal(sample, geometry)
    factor = max(focal, key=focal.__getitem__)
    gain, apart = focal[factor] - own, abs(math.log(factor))
    if gain > _LENS_GAIN and apart > _LENS_APART:
        remedy = f"colour fits with focal lengths times {factor:g}"
        return Verdict(lens.NAME, "fault", f"{told}, and otherwise by {focal[factor]:.2f}", own, remedy)
    if own < _FITS:
        for which, greys, chosen in timing.colors(sample):
            other = timing.likeness(sample, geometry, greys, chosen)
            if other > max(own + _GAIN, _FITS):
                return Verdict(timing.NAME, "fault", f"{told}, and otherwise by {other:.2f}", own, which)
    if own < _LEAST:
        return Verdict(turned.NAME, "fault", told, own, "do colour images and depth images belong together?")
    if gain > _WORTH_A_WORD:
        remedy = f"with the colour camera's focal lengths times {factor:g} it would be {focal[factor]:.2f}"
        return Verdict(turned.NAME, "remark", told, own, remedy)
    return Verdict(turned.NAME, "well", told, own)
