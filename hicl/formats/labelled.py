"""What the files say of a scene."""

from dataclasses import dataclass

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.clouds import Cloud


@dataclass(frozen=True)
class Labelled:
    """cloud: with a colour a point. label: uint8 or uint16 [N], places in `classes`; 255 = none where it is uint8.
    score: float32 [N], how sure the label is, 0..1. instance: int32 [N], the object, -1 for none; None: not asked for.
    """

    cloud: Cloud
    label: np.ndarray
    classes: tuple[str, ...]
    score: np.ndarray | None = None
    instance: np.ndarray | None = None

    @property
    def named(self) -> np.ndarray:
        """Which points have a class, bool [N]."""
        return (self.label < len(self.classes)) & ((self.label != NO_LABEL) | (self.label.dtype != np.uint8))
