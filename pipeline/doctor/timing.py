"""Do depth, poses and colours of a frame belong to one moment?"""

from collections.abc import Iterator

import numpy as np

from hicl.errors import FrameError
from hicl.pipeline.doctor.sample import Geometry, Sample, shrunk

NAME = "time"
OFFSETS = (1, -1, 2, -2, 3, -3, 5, -5)


def readings(sample: Sample) -> Iterator[tuple[str, Geometry, np.ndarray]]:
    """(what to do, what the frames mean then, which of them), for poses of frames before or behind."""
    for offset in OFFSETS:
        poses, chosen = [], []
        for index, place in enumerate((sample.at + offset).tolist()):
            if 0 <= place < len(sample.scene.frame_ids):
                try:
                    poses.append(sample.scene.pose(int(sample.scene.frame_ids[place])))
                    chosen.append(index)
                except FrameError:
                    continue
        if len(chosen) > 2:
            geometry = sample.geometry.of(np.array(chosen))
            told = f"the pose of a frame is that of the {_which(offset)}"
            yield told, Geometry(geometry.depth, geometry.keep, np.stack(poses), geometry.pinhole), np.array(chosen)


def colors(sample: Sample) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what to do, greys as of `Sample.greys`, of which frames), for colour images of frames before or behind."""
    for offset in OFFSETS[:4]:
        greys, chosen = [], []
        for index, place in enumerate((sample.at + offset).tolist()):
            if 0 <= place < len(sample.scene.frame_ids):
                try:
                    greys.append(shrunk(sample.scene.frame(int(sample.scene.frame_ids[place])).color))
                    chosen.append(index)
                except FrameError:
                    continue
        if len(chosen) > 2:
            yield f"the colour image of a frame is that of the {_which(offset)}", np.stack(greys), np.array(chosen)


def likeness(sample: Sample, geometry: Geometry, greys: np.ndarray, chosen: np.ndarray) -> float:
    """How alike the colours of what two frames both see are, with these images."""
    return float(geometry.of(chosen).likeness(greys, sample.lens[chosen], np.array([[[1.0, 0, 0], [0, 1, 0]]]))[0])


def _which(offset: int) -> str:
    return f"{abs(offset)}. frame {'behind' if offset > 0 else 'before'} it"
