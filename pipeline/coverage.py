"""How much of a scene its frames see."""

from typing import NamedTuple

import numpy as np

LEAST_COVERAGE = 0.15
# Pairs a covered point, where frames see all of a surface and none sees what another one does.
_ALONE = 1.3
_FEWEST_FRAMES = 3


class Seen(NamedTuple):
    """How much of a scene its frames see: points, those that have a pair, pairs; and what is to be said of it."""

    points: int
    covered: int
    pairs: int
    doubt: str = ""

    @property
    def coverage(self) -> float:
        return self.covered / self.points

    @property
    def views(self) -> float:
        """Pairs a covered point."""
        return self.pairs / max(self.covered, 1)


def seen(n_points: int, point: np.ndarray, frames: int) -> Seen:
    """Of the points of all pairs, int32 [P], of so many frames. Its doubt: that they see suspiciously little."""
    found = Seen(n_points, int(np.count_nonzero(np.bincount(point, minlength=n_points))), len(point))
    if found.coverage < LEAST_COVERAGE:
        return found._replace(doubt=f"only {100 * found.coverage:.1f} % of its points are seen by any frame")
    if frames >= _FEWEST_FRAMES and found.coverage > 0.9 and found.views < _ALONE:
        return found._replace(doubt="most of its points are seen by one frame only")
    return found


def told(scenes: dict[str, Seen], faults: dict[str, list[str]], each: int = 6, warnings: int = 10) -> list[str]:
    """Lines for the end of a run: what the frames see of each scene, or of many what they mostly and at least see; and
    a warning of each scene of which they see suspiciously little, or that has faults: why."""
    lines = []
    if len(scenes) <= each:
        lines += [f"  {scene}: {_told(one.coverage, one.views)}" for scene, one in sorted(scenes.items())]
    else:
        middle = (float(np.median([getattr(one, what) for one in scenes.values()])) for what in ("coverage", "views"))
        least = min(scenes, key=lambda scene: scenes[scene].coverage)
        lines.append(f"  mostly {_told(*middle)}; least in {least}, {100 * scenes[least].coverage:.1f} %")
    said = {scene: [one.doubt, *faults.get(scene, [])] for scene, one in sorted(scenes.items())}
    doubts = [
        f"hicl: warning: {scene}: {'; '.join(filter(None, parts))}" for scene, parts in said.items() if any(parts)
    ]
    more = [f"hicl: warning: and so of {len(doubts) - warnings} more scenes"] if len(doubts) > warnings else []
    return lines + doubts[:warnings] + more


def _told(coverage: float, views: float) -> str:
    return f"{100 * coverage:.1f} % of the points are seen, by {views:.1f} frames each"
