"""How pictures look: exposure, white balance, contrast and sharpness that differ from picture to picture, or from room
to room, as those of real captures do.

A picture's look is five standard normal numbers, and `shared` the part of their variance that all pictures of a room
have in common. So over all rooms pictures differ as much whatever `shared` is, and a teacher reads them as well: what
changes is whether a room's pictures err alike, which votes within a room can't mend and other rooms might.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from hicl.errors import HiclError

_LOOK = 5  # exposure, red, blue, contrast, blur
_EXPOSURE, _CAST, _CONTRAST, _BLUR = 0.3, 0.12, 0.2, 0.8  # of spread 1: logarithms, and pixels


@dataclass(frozen=True)
class Style:
    """How much pictures differ (`spread`; 0: as one camera with one setting takes them), and the share of that which is
    the room's. Raises `HiclError` for a spread below 0 and a share outside 0 to 1."""

    spread: float = 0.0
    shared: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.spread <= 3 and 0 <= self.shared <= 1):
            raise HiclError(f"--style {self.spread:g} --shared {self.shared:g}: must be from 0 to 3, and from 0 to 1")

    def room(self, rng: np.random.Generator) -> np.ndarray:
        """The part of a look float64 [5] that is a room's."""
        return np.sqrt(self.shared) * rng.standard_normal(_LOOK)

    def picture(self, rng: np.random.Generator, room: np.ndarray) -> np.ndarray:
        """The look float64 [5] of a picture of a room, standard normal over rooms and pictures."""
        return room + np.sqrt(1 - self.shared) * rng.standard_normal(_LOOK)

    def developed(self, color: np.ndarray, look: np.ndarray) -> np.ndarray:
        """Light [..., 3], exact and not below 0, as this look shows it; without its blur, which is the lens'."""
        exposure, red, blue, contrast, _ = self.spread * look
        gain = np.exp(_EXPOSURE * exposure + _CAST * np.array([red, 0.0, blue]))
        return np.maximum(color, 0) ** np.exp(_CONTRAST * contrast) * gain

    def taken(self, color: np.ndarray, look: np.ndarray) -> np.ndarray:
        """An exact view [H, W, 3] as a camera with this look sees it."""
        blur = _BLUR * self.spread * abs(look[-1])
        return self.developed(gaussian_filter(color, (blur, blur, 0)), look).astype(color.dtype)
