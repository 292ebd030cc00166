"""Anyone's own scan: a capture of posed RGB-D frames, as it is, with a cloud or mesh or without.

ROOT is a capture, or a folder of them, or of folders of them; which there are, docs/own-scan.md and the files in
`captures/` say. How depth, poses and axes are meant their formats say, unless `--depth-scale`, `--poses` or `--axes`.

The `.ply` in the folder is the surface, else a cloud or a mesh is fused from the depth frames (`--surface`). Ground
truth, for the report only, is ScanNet's `*_vh_clean_2.labels.ply`, or the property `label` of the surface's vertices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.clouds import near_zero
from hicl.errors import FrameError, HiclError
from hicl.pipeline.classes import parse_classes
from hicl.pipeline.datasets import captures, nyu40, ply
from hicl.pipeline.datasets.captures.settings import TRAINING, Settings
from hicl.pipeline.datasets.frames import FrameFolder
from hicl.pipeline.datasets.images import label_classes
from hicl.pipeline.datasets.namings import entries
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Readings, Said, Scene, Source
from hicl.progress import counted
from hicl.upright import levelling

__all__ = ["TRAINING", "RGBDScene", "Settings", "Truth", "find_scenes", "source", "truth_classes"]
_FARTHEST = 65_536.0  # metres: beyond, 32-bit floats step by 8 mm
_PAINTED = "labels.instances"  # 3RScan's, whose colours are those of its objects
_MESH, _TRUTH = "_vh_clean_2.ply", "_vh_clean_2.labels.ply"


def source(root: Path, settings: Settings) -> Source:
    """The scenes below a root. Raises `HiclError` as `find_scenes`."""
    classes = parse_classes(settings.classes).names if settings.classes else nyu40.CLASSES
    notes: list[str] = []
    truth = Truth(classes, settings.label_ids)
    said = Said(settings.depth_scale, settings.poses, settings.axes)
    scenes = find_scenes(root, settings.frame_step or 1, said, truth, notes.append)
    fusing = Fusing(settings.surface, settings.voxel, settings.max_depth, settings.min_piece)
    scenes = [replace(scene, fusing=fusing, level=settings.level) for scene in scenes]
    for scene in scenes:
        notes += scene.notes()
    own = [(scene, settings.into_split) for scene in scenes]
    return Source("rgbd", root, own, truth_classes(scenes), classes, tuple(notes))


@dataclass(frozen=True)
class Truth:
    """How the `label` of a vertex is meant: as a place in `names`, 255 = none, or as an NYU40 id of one of them."""

    names: tuple[str, ...] = nyu40.CLASSES
    ids: str = "classes"


@dataclass(frozen=True)
class Fusing:
    """How a surface is made of the frames where there is no .ply. voxel, max_depth: metres; min_piece: vertices, of a
    mesh."""

    surface: str = "cloud"
    voxel: float = 0.02
    max_depth: float = 4.0
    min_piece: int = 100


@dataclass(frozen=True)
class RGBDScene(Scene):
    """A posed RGB-D folder. Picklable: files are opened where they are read. See `scene.Scene`."""

    id: str
    folder: Path
    frame_step: int = 1
    said: Said = Said()
    truth: Truth = Truth()
    fusing: Fusing = Fusing()
    level: bool = False

    @cached_property
    def _frames(self) -> FrameFolder:
        return FrameFolder(self.folder, self.frame_step, self.said)

    @property
    def readings(self) -> Readings:
        return self._frames.readings

    @property
    def source(self) -> str:
        """The folder's name and that of the folder it is in: enough to tell chess/seq-01 from fire/seq-01."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def frame_ids(self) -> np.ndarray:
        return self._frames.frame_ids

    @property
    def color_camera(self) -> Camera:
        return self._frames.color_camera

    @property
    def depth_camera(self) -> Camera:
        return self._frames.depth_camera

    def frame_name(self, frame_id: int) -> str:
        return self._frames.frame_name(frame_id)

    def notes(self) -> tuple[str, ...]:
        """What its folder was taken for, and what a user should know of that; nothing where it can't be read, which is
        said in its turn."""
        try:
            taken_for = f"{self.id}: {captures.name_of(self.folder)}, {counted(len(self.frame_ids), 'frame')}"
            return taken_for, *self._frames.capture.notes
        except HiclError:
            return ()

    def missing(self) -> list[str]:
        _ = self._ply  # two of them are found here
        return self._frames.missing()

    @cached_property
    def origin(self) -> np.ndarray:
        """Of the surface, where float32 wouldn't hold its coordinates; without one, of the first camera."""
        if self._ply is None:
            return near_zero(self._frames.first_position()[None])[1]
        if not ply.has_doubles(self._ply):
            return np.zeros(3)
        return near_zero(ply.xyz(ply.read_surface(self._ply).vertex, self._ply, np.float64))[1]

    @cached_property
    def turn(self) -> np.ndarray:
        """By what some of the frames measure, near what their cameras hold up. Raises `HiclError` where that tells
        nothing."""
        from hicl.pipeline.doctor import upward
        from hicl.pipeline.doctor.sample import Sample

        if not self.level:
            return np.eye(3)
        up = upward.find(Sample(self.lying(), with_colors=False).geometry)
        if up is None:
            raise HiclError(f"{self.folder}: too little that is level or upright to tell what is up; leave --level out")
        return levelling(up)

    def lying(self) -> "RGBDScene":
        return replace(self, level=False)

    def frame(self, frame_id: int) -> Frame:
        frame = self._frames.frame(frame_id)
        return replace(frame, pose=self._placed(frame.pose))

    def pose(self, frame_id: int) -> np.ndarray:
        return self._placed(self._frames.pose(frame_id))

    def _placed(self, pose: np.ndarray) -> np.ndarray:
        """A pose of the files, from the origin and levelled."""
        placed = pose.copy()
        placed[:3, 3] -= self.origin
        if self.level:
            placed[:3] = self.turn @ placed[:3]
        return placed

    def _usable_frames(self) -> Iterator[Frame]:
        for frame_id in self.frame_ids.tolist():
            try:
                frame = self.frame(frame_id)
                _ = frame.color  # decoded here, where one that doesn't decode is passed over
                yield frame
            except FrameError:
                continue

    @cached_property
    def _plys(self) -> list[Path]:
        own = [self.folder / name for name in entries(self.folder) if name.lower().endswith(".ply")]
        painted = [path for path in own if path.name.startswith(_PAINTED)]
        elsewhere = self._frames.capture.surface
        return [path for path in own if path not in painted] or ([elsewhere] if elsewhere else [])

    @cached_property
    def _ply(self) -> Path | None:
        found = [path for path in self._plys if not path.name.endswith(_TRUTH)]
        if len(found) > 1:
            found = [path for path in found if path.name.endswith(_MESH)] or found  # beside ScanNet's finer one
        if len(found) > 1:
            raise HiclError(f"{self.folder}: {found[0].name} and {found[1].name}: leave one .ply, the scan's surface")
        return found[0] if found else None

    @cached_property
    def truth_file(self) -> Path | None:
        """Where the ground truth is: ScanNet's `labels.ply`, or the surface, or None."""
        own = next((path for path in self._plys if path.name.endswith(_TRUTH)), None)
        return own or (self._ply if self._ply and ply.has_property(self._ply, "label") else None)

    @property
    def has_truth(self) -> bool:
        try:
            return self.truth_file is not None
        except HiclError:  # said when its turn comes
            return False

    @property
    def fuses(self) -> bool:
        return self._ply is None

    def fused(self, tick: Callable[[], None]) -> Points:
        from hicl.pipeline.fusion import fuse_depth
        from hicl.pipeline.tsdf import fuse_mesh

        frames, fusing = _ticked(self._usable_frames(), tick), self.fusing
        cameras = self.depth_camera, self.color_camera
        try:
            if fusing.surface == "mesh":
                return fuse_mesh(frames, *cameras, fusing.voxel, fusing.max_depth, min_piece=fusing.min_piece)
            return fuse_depth(frames, *cameras, fusing.voxel, fusing.max_depth)
        except HiclError as error:
            raise HiclError(f"{self.folder}: {error}; is --depth-scale right?") from None

    def points(self) -> Points:
        from hicl.pipeline.normals import unit

        if self._ply is None:
            return self.fused(lambda: None)
        surface = ply.read_surface(self._ply)
        vertex = surface.vertex
        xyz = ply.xyz(vertex, self._ply, np.float64)
        if not ply.has_doubles(self._ply) and (far := np.abs(xyz).max()) > _FARTHEST:
            raise HiclError(
                f"{self._ply}: coordinates up to {far:.4g} m as 32-bit floats, too coarse to work with; write them as "
                "doubles, or take off an origin, of the poses too"
            )
        xyz = ((xyz - self.origin) @ self.turn.T).astype(np.float32)
        rgb = ply.rgb(vertex, self._ply)
        normal = None
        if {"nx", "ny", "nz"} <= set(vertex.dtype.names or ()):
            normal = np.stack([vertex[axis] for axis in ("nx", "ny", "nz")], axis=1).astype(np.float32)
            normal = unit(normal @ self.turn.T if self.level else normal)
            if (normal == 0).all(axis=1).mean() > 0.5:  # a column that nobody filled
                normal = None
        black, label = np.zeros_like(xyz, np.uint8), self._labels(surface.kept)
        points = Points(xyz, black, surface.faces, label, normal, keep_faces=True)
        return replace(points, left_out=surface.left_out, rgb=self._colors_from_frames(xyz) if rgb is None else rgb)

    def _labels(self, kept: np.ndarray) -> np.ndarray | None:
        if self.truth_file is None:
            return None
        labels = ply.labels(self.truth_file, len(kept))[kept]
        ids = self.truth.ids if self.truth_file == self._ply else "nyu40"
        return label_classes(labels, self.truth.names, ids, str(self.truth_file))

    def _colors_from_frames(self, xyz: np.ndarray) -> np.ndarray:
        """Mean colour over the views that see a point, uint8 [N, 3]; mid-grey where none does."""
        from hicl.pipeline.projection import Projector

        projector = Projector(xyz)
        sums, views = np.zeros((len(xyz), 3)), np.zeros(len(xyz))
        for frame in self._usable_frames():
            cameras = frame.cameras or (self.depth_camera, self.color_camera)
            point, pixel = projector.project(frame.pose, frame.depth, *cameras)
            sums[point] += frame.color[pixel[:, 0], pixel[:, 1]]
            views[point] += 1
        return np.where(views[:, None] > 0, np.rint(sums / np.maximum(views, 1)[:, None]), 128).astype(np.uint8)

    def point_files(self) -> list[Path]:
        surface = [path for path in dict.fromkeys((self._ply, self.truth_file)) if path is not None]
        if self._ply and ply.has_colors(self._ply) and not self.level:
            return surface
        return [*surface, *self.frame_files()]

    def frame_files(self) -> list[Path]:
        return self._frames.frame_files()


def _ticked(frames: Iterator[Frame], tick: Callable[[], None]) -> Iterator[tuple]:
    """Frames as they are fused."""
    for frame in frames:
        yield frame.color, frame.depth, frame.pose, frame.cameras
        tick()


_AS_IT_STANDS, _PLACES = Said(), Truth()


def find_scenes(
    root: Path,
    frame_step: int = 1,
    said: Said = _AS_IT_STANDS,
    truth: Truth = _PLACES,
    say: Callable[[str], None] = lambda _: None,
) -> list[RGBDScene]:
    """Scenes of a root: the root itself if it holds frames, else the folders that do below it, to the second level.

    A scene is called as its folder; at the second level chess/seq-01 is chess_seq-01. say: gets a line about each
    folder that is passed over. Raises `HiclError` if there is no scene, or two of one name.
    """
    if not root.is_dir():
        raise HiclError(f"{root}: no such folder")
    found: dict[Path, str] = {}
    passed_over: dict[Path, str] = {}
    if captures.find(root):
        found[root] = root.resolve().name
    else:
        for folder in _folders(root):
            if captures.find(folder):
                found[folder] = folder.resolve().name
            elif inner := [inner for inner in _folders(folder) if captures.find(inner)]:
                found |= {each: f"{folder.name}_{each.name}" for each in inner}
                passed_over |= {each: captures.why_none(each) for each in _folders(folder) if each not in inner}
            else:
                passed_over[folder] = captures.why_none(folder)
    if not found:
        like = captures.likeness(root)
        reason = like or f"found {_told({root: captures.why_none(root)} | passed_over)}"
        raise HiclError(f"{root}: no posed RGB-D frames: {reason}; {_KNOWN}")
    names = list(found.values())
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise HiclError(f"{root}: two scans by the name {repeated!r}; rename a folder")
    if passed_over:
        say(f"{root}: passed over {_told({folder.relative_to(root): why for folder, why in passed_over.items()})}")
    return [RGBDScene(name, folder, frame_step, said, truth) for folder, name in found.items()]


_KNOWN = "docs/own-scan.md has the layouts that are known, such as color/0.jpg with depth/0.png and pose/0.txt"


def truth_classes(scenes: list[RGBDScene]) -> tuple[str, ...]:
    """What the scenes' ground truth counts in; nothing where none has any."""
    return next((scene.truth.names for scene in scenes if scene.has_truth), ())


def _folders(parent: Path) -> list[Path]:
    return [folder for name in entries(parent) if (folder := parent / name).is_dir()]


def _told(reasons: dict[Path, str], most: int = 5) -> str:
    told = [f"{folder} ({why})" for folder, why in list(reasons.items())[:most]]
    return ", ".join(told) + (f" and {len(reasons) - most} more folders" if len(reasons) > most else "")
