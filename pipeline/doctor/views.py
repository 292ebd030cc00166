"""Do views agree on what they see? If not, and no other reading fits, poses may drift or be another scan's."""

import numpy as np

from hicl.pipeline.doctor.sample import Sample
from hicl.pipeline.doctor.verdict import Verdict, percent

NAME = "views"
_NEARBY, _MORE = 0.75, 0.1  # of what frames that follow each other measure both, the same: poses are right, and drift


def verdict(sample: Sample) -> Verdict:
    fit = sample.as_it_is
    told = f"{percent(fit.share)} of what two frames measure both is the same"
    if not fit.enough:
        why = "no two frames see the same from different places" if sample.moved.any() else "the camera hardly moves"
        return Verdict(NAME, "open", why, fit.share)
    apart = np.abs(sample.at[:, None] - sample.at)
    near = apart <= max(int(np.sort(apart[apart > 0])[0]), 1)
    counts = sample.geometry.compared() * (near & sample.moved)[..., None]
    same, through, _ = counts.sum(axis=(0, 1)).tolist()
    if same > max(_NEARBY, fit.share + _MORE) * (same + through) > 0:
        told += f", but {percent(same / (same + through))} of frames that follow each other: poses drift"
        return Verdict(NAME, "fault", told, fit.share, "close loops when tracking, or use a part of the capture")
    if sample.agree:
        return Verdict(NAME, "well", told, fit.share)
    return Verdict(NAME, "fault", told, fit.share, "no other reading fits: do the poses belong to these frames?")
