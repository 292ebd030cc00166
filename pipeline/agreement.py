"""Do the poses, the depth images and the surface of a scan belong together? Told by how much of it the frames see.

A scan whose poses are given the other way round, or in another frame than its mesh, isn't damaged: each part is sound
by itself. What gives it away is that frames see almost nothing of the surface, or, where the surface was fused of these
very frames, that no frame sees what another one measured.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from hicl.errors import FrameError
from hicl.pipeline.datasets.captures.settings import AXES, POSES
from hicl.pipeline.datasets.scene import Frame, Readings, Scene

LEAST_COVERAGE = 0.15
# Pairs a covered point, where frames see all of a surface and none sees what another one does.
_ALONE = 1.3
_FEWEST_FRAMES = 3
_FRAMES, _POINTS = 12, 50_000  # that a reading is tried on
_CLEARLY, _FEWEST_PAIRS = 2.0, 10  # times the pairs as it is; pairs a frame
_DEPTH_SCALES = (
    1000.0,
    4000.0,
    5000.0,
    6553.5,
    10_000.0,
)  # millimetres, Matterport3D, TUM, Replica's renderings, 0.1 mm
# Units of a surface, and its extents that they are tried at: it would be 1 to 10 m large, or more. A smaller
# one would shrink to a dot, that cameras see or not by luck.
_UNITS = ("centimetres", 1e-2, 100, 1000), ("millimetres", 1e-3, 1000, np.inf)


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


def seen(n_points: int, point: np.ndarray) -> Seen:
    """Of the points of all pairs, int32 [P]."""
    return Seen(n_points, int(np.count_nonzero(np.bincount(point, minlength=n_points))), len(point))


def doubt(scene: Scene, xyz: np.ndarray, found: Seen, frames: int, max_gap: float) -> str:
    """A line for the user where the frames see so little of the surface that something is likely wrong; else empty."""
    if found.coverage < LEAST_COVERAGE:
        cause = likely_cause(scene, xyz, max_gap)
        return f"only {100 * found.coverage:.1f} % of its points are seen by any frame; {cause}"
    if frames >= _FEWEST_FRAMES and found.coverage > 0.9 and found.views < _ALONE:
        return f"most of its points are seen by one frame only; {likely_cause(scene, None, max_gap)}"
    return ""


def likely_cause(scene: Scene, xyz: np.ndarray | None, max_gap: float) -> str:
    """The reading of poses, axes, depth units or of the surface with which a few frames see clearly more than as it is.

    xyz: float32 [N, 3], the surface; None: it was fused of the frames, which are held against each other then.
    """
    frames = list(_some_frames(scene))
    if not frames:
        return "no frame can be read"
    surface = None if xyz is None else xyz[:: max(1, len(xyz) // _POINTS)]
    now = scene.readings or Readings()
    tried = {
        way_out: _pairs(scene, cloud, _reread(scene, frames, now, reading, cloud is None), max_gap)
        for way_out, reading, cloud in _readings(now, surface, scene.origin, scene.readings is not None)
    }
    as_it_is = tried.pop("")
    best = max(tried, key=tried.__getitem__, default="")
    if best and tried[best] > max(_CLEARLY * as_it_is, _FEWEST_PAIRS * len(frames)):
        return best
    if xyz is None:
        return "no other reading fits: do the poses belong to these frames? Or the frames hardly overlap"
    return (
        "no other reading fits: is the surface in another frame than the poses, or one of them not in metres? Or few "
        "frames see it"
    )


def _some_frames(scene: Scene) -> Iterator[Frame]:
    ids = scene.frame_ids
    for frame_id in ids[np.unique(np.linspace(0, len(ids) - 1, _FRAMES).astype(int))].tolist():
        try:
            yield scene.frame(frame_id)
        except FrameError:
            continue


def _readings(
    now: Readings, surface: np.ndarray | None, origin: np.ndarray, may_choose: bool
) -> Iterator[tuple[str, Readings, np.ndarray | None]]:
    """(what to tell the user, reading of the frames, surface); of the present one nothing is told. may_choose: whether
    the user has a say in how the frames are read, or their format has it all."""
    for poses, axes in product(POSES, AXES) if may_choose else [(now.poses, now.axes)]:
        options = f"--poses {poses}" * (poses != now.poses), f"--axes {axes}" * (axes != now.axes)
        told = " ".join(filter(None, options))
        yield told and f"the poses fit when they are read with {told}", replace(now, poses=poses, axes=axes), surface
    for scale in _DEPTH_SCALES if may_choose else ():
        if scale != now.depth_scale:
            yield f"the depth fits with --depth-scale {scale:g}", replace(now, depth_scale=scale), surface
    if surface is not None:
        for name, turn in _turns():
            told = f"the surface fits when its (x, y, z) are taken as {name}: write it in the frame of the poses"
            yield told, now, np.ascontiguousarray(surface @ turn.T)
        extent = np.ptp(surface, axis=0).max()
        for unit, metres, least, most in _UNITS:
            if least < extent <= most:
                scaled = ((surface + origin) * metres - origin).astype(np.float32)
                yield f"the surface fits when it is in {unit}: write it in metres", now, scaled


def _reread(scene: Scene, frames: list[Frame], now: Readings, reading: Readings, alone: bool) -> list[Frame]:
    """The frames as they would be by another reading; alone: from the first camera and not from the scene's origin, as
    nothing says where that would be."""
    shift = np.eye(4)
    shift[:3, 3] = scene.origin
    poses = [reading.camera_to_world(now.written(shift @ frame.pose)) for frame in frames]
    shift[:3, 3] = -(poses[0][:3, 3] if alone else scene.origin)
    scale = np.float32(now.depth_scale / reading.depth_scale)
    return [replace(frame, depth=frame.depth * scale, pose=shift @ p) for frame, p in zip(frames, poses, strict=True)]


def _turns() -> Iterator[tuple[str, np.ndarray]]:
    """The 23 turns that lead axes to axes, but not each to itself: (name, float32 [3, 3])."""
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.zeros((3, 3), np.float32)
        turn[range(3), order] = signs
        if np.linalg.det(turn) > 0 and not (turn == np.eye(3)).all():
            axes = ("-" * (sign < 0) + "xyz"[axis] for axis, sign in zip(order, signs, strict=True))
            yield f"({', '.join(axes)})", turn


def _pairs(scene: Scene, xyz: np.ndarray | None, frames: list[Frame], max_gap: float) -> int:
    """Pairs of the frames with a surface; or, without one, of each frame with what the others measured."""
    from hicl.pipeline.projection import Projector

    cameras = scene.depth_camera, scene.color_camera
    measured = [_measured(scene, frame) for frame in frames] if xyz is None else []
    projector = Projector(np.concatenate(measured) if xyz is None else xyz)
    pairs = sum(
        len(projector.project(frame.pose, frame.depth, *(frame.cameras or cameras), max_gap)[0]) for frame in frames
    )
    if xyz is None:
        for own, frame in zip(measured, frames, strict=True):
            both = frame.cameras or cameras
            pairs -= len(Projector(own).project(frame.pose, frame.depth, *both, max_gap)[0])
    return pairs


def _measured(scene: Scene, frame: Frame) -> np.ndarray:
    """Some of the points that a frame measured, float32 [M, 3]."""
    camera = frame.cameras[0] if frame.cameras else scene.depth_camera
    row, column = np.nonzero(frame.depth)
    chosen = slice(None, None, max(1, len(row) * _FRAMES // _POINTS))
    row, column = row[chosen], column[chosen]
    z = frame.depth[row, column].astype(np.float64)
    rays = np.stack([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, np.ones(len(row))], axis=1)
    return (rays * z[:, None] @ frame.pose[:3, :3].T + frame.pose[:3, 3]).astype(np.float32)


def told(scenes: dict[str, Seen], each: int = 6, warnings: int = 10) -> list[str]:
    """Lines for the end of a run: what the frames see of each scene, or of many what they mostly and at least see."""
    lines = []
    if len(scenes) <= each:
        lines += [f"  {scene}: {_told(one.coverage, one.views)}" for scene, one in sorted(scenes.items())]
    else:
        middle = (float(np.median([getattr(one, what) for one in scenes.values()])) for what in ("coverage", "views"))
        least = min(scenes, key=lambda scene: scenes[scene].coverage)
        lines.append(f"  mostly {_told(*middle)}; least in {least}, {100 * scenes[least].coverage:.1f} %")
    doubts = [f"hicl: warning: {scene}: {one.doubt}" for scene, one in sorted(scenes.items()) if one.doubt]
    more = [f"hicl: warning: and so of {len(doubts) - warnings} more scenes"] if len(doubts) > warnings else []
    return lines + doubts[:warnings] + more


def _told(coverage: float, views: float) -> str:
    return f"{100 * coverage:.1f} % of the points are seen, by {views:.1f} frames each"
