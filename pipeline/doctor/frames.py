"""Are frames what they should be: each its own, and sharp?"""

import numpy as np
from PIL import Image

from hicl.pipeline.doctor.sample import Sample
from hicl.pipeline.doctor.verdict import Verdict, percent

NAME = "frames"
_STUCK = 0.25  # of the frames
_SHARP = 0.08  # of the squared gradients' ratio between two sizes; images of 320 pixels with edges of one have 0.25


def verdict(sample: Sample) -> Verdict:
    tried = len(sample.frames) + len(sample.unread)
    if 2 * len(sample.unread) > tried:
        return Verdict(NAME, "fault", f"{len(sample.unread)} of {tried} can't be read; the first: {sample.unread[0]}")
    stuck = {
        "poses": _repeated(sample, sample.geometry.pose),
        "depth images": _repeated(sample, sample.geometry.depth, sample.geometry.pose),
    }
    if sample.with_colors:
        stuck["colour images"] = _repeated(sample, sample.greys)
    worst = max(stuck, key=stuck.__getitem__)
    if stuck[worst] > _STUCK:
        told = f"{percent(stuck[worst])} of the {worst} are another frame's, though the rest of the frame isn't"
        return Verdict(NAME, "fault", told, stuck[worst], "leave those frames out, or write them anew")
    usable = f"{len(sample.frames)} of {tried} looked at are usable"
    if not sample.with_colors:
        return Verdict(NAME, "well", usable)
    sharp = float(np.median([sharpness(frame.color) for frame in sample.frames]))
    if sharp < _SHARP:
        told = f"most are blurred (sharpness {sharp:.2f}, below {_SHARP})"
        return Verdict(NAME, "remark", told, sharp, "labels of small things will be poor")
    return Verdict(NAME, "well", f"{usable}, sharpness {sharp:.2f}", sharp)


def _repeated(sample: Sample, own: np.ndarray, other: np.ndarray | None = None) -> float:
    """Share of frames of which this is exactly another's, though their depth images differ; or, where this is the
    depth, though their poses do."""
    flat = own.reshape(len(own), -1)
    same = np.array([[i != j and np.array_equal(a, b) for j, b in enumerate(flat)] for i, a in enumerate(flat)])
    if other is None:
        differ = sample.moved
    else:
        differ = np.linalg.norm(other[:, None, :3] - other[None, :, :3], axis=(2, 3)) > 0.05
    return float((same & differ).any(axis=1).mean())


def sharpness(color: np.ndarray) -> float:
    """The mean squared gradient of an image of 320 pixels' width, by that of one of 80."""
    grey = Image.fromarray(color).convert("L")
    energy = []
    for width in (320, 80):
        height = max(2, round(width * grey.height / grey.width))
        small = np.asarray(grey.resize((width, height), Image.Resampling.BOX), np.float32)
        energy.append(float(np.mean(np.diff(small, axis=0) ** 2) + np.mean(np.diff(small, axis=1) ** 2)))
    return energy[0] / max(energy[1], 1e-6)
