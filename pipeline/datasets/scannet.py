"""ScanNet v2 in both of its official forms, and the miniature, which is written in ScanNet's layout.

    ROOT/scannet_frames_25k/<scene>/{color,depth,pose}/NNNNNN.*      about every 100th frame; or below ROOT/tasks; else
    ROOT/scans/<scene>/<scene>.sens                                  the posed RGB-D recording; else
    ROOT/scans/<scene>/{color,depth,pose,intrinsic}/N.*              what ScanNet's SensReader exports of it
    ROOT/scans/<scene>/<scene>_vh_clean_2.ply                        mesh, raw frame (not axis-aligned)
    ROOT/scans/<scene>/<scene>_vh_clean_2.labels.ply                 NYU40 ids, not for the test scans
    ROOT/scans/<scene>/<scene>_vh_clean_2.0.010000.segs.json         Segmentator's sets, optional

`scans_test` is looked into as well, and ROOT itself may be `scans`.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from hicl.config import setting
from hicl.errors import FrameError, HiclError
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import nyu40, ply
from hicl.pipeline.datasets.frames import FrameFolder
from hicl.pipeline.datasets.namings import list_frames, numbered
from hicl.pipeline.datasets.nyu40 import CLASSES as CLASSES
from hicl.pipeline.datasets.nyu40 import NYU40_IDS as NYU40_IDS
from hicl.pipeline.datasets.scannet_splits import SCENE_NAME, splits_of
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Scene, Source, checked_pose
from hicl.pipeline.datasets.sens import SensFile
from hicl.pipeline.teacher.choice import MINIATURE
from hicl.read import read_json

SENS_FRAME_STEP = 20
TRAINING = ("--preset", "scannet")


@dataclass(frozen=True)
class Settings(PreprocessConfig):
    """ScanNet's own."""

    split: str | None = setting(
        None, "Only this split: train, val, test, or one with a list in ROOT", shown="all", recorded=False
    )


def source(root: Path, settings: Settings) -> Source:
    """The scans below a root. Raises `HiclError` as `find_scenes`."""
    scenes, missing = find_scenes(root, settings.split, settings.frame_step)
    notes = []
    if missing:
        there = f"going on with the {len(scenes)} that are"
        notes.append(f"{missing} scans of split {settings.split} are not below {root}; {there}")
    if miniature_settings(root):
        return Source("miniature", root, scenes, CLASSES, CLASSES, tuple(notes))
    notes.append(sources([scene for scene, _ in scenes]))
    return Source("scannet", root, scenes, CLASSES, CLASSES, tuple(notes))


def defaults(root: Path) -> dict[str, str]:
    """A miniature's own teacher, where the root is one."""
    return {"clip": MINIATURE, "weights": MINIATURE} if miniature_settings(root) else {}


@dataclass(frozen=True)
class _Recording:
    """The frames of a `.sens`, in the terms of `FrameFolder`."""

    path: Path
    frame_step: int

    @cached_property
    def _sens(self) -> SensFile:
        return SensFile(self.path)

    @property
    def color_camera(self) -> Camera:
        return self._sens.color_camera

    @property
    def depth_camera(self) -> Camera:
        return self._sens.depth_camera

    @property
    def frame_ids(self) -> np.ndarray:
        if len(self._sens) == 0:
            raise HiclError(f"{self.path}: holds no frames")
        return np.arange(len(self._sens), dtype=np.int32)[:: self.frame_step]

    def frame_name(self, frame_id: int) -> str:
        return str(frame_id)

    def missing(self) -> list[str]:
        return []

    def frame(self, frame_id: int) -> Frame:
        where = f"{self.path}: frame {frame_id}"
        pose = checked_pose(self._sens.poses[frame_id], where)
        depth = self._sens.depth(frame_id)
        if not depth.any():
            raise FrameError(f"{where}: depth is zero everywhere")
        return Frame(partial(self._sens.color, frame_id), depth, pose)

    def frame_files(self) -> list[Path]:
        return [self.path]


@dataclass(frozen=True)
class ScanNetScene(Scene):
    """One scan. Picklable: files are opened where they are read. See `scene.Scene`."""

    id: str
    folder: Path
    frames_folder: Path | None  # that holds color, depth and pose; None: the .sens
    frame_step: int

    def _file(self, ending: str) -> Path:
        return self.folder / f"{self.id}{ending}"

    @cached_property
    def _frames(self) -> FrameFolder | _Recording:
        if self.frames_folder is not None:
            return FrameFolder(self.frames_folder, self.frame_step)
        return _Recording(self._file(".sens"), self.frame_step)

    @property
    def frames_from(self) -> str:
        """In words."""
        if self.frames_folder is None:
            return ".sens" if self._file(".sens").exists() else "none"
        return "color, depth and pose beside the mesh" if self.frames_folder == self.folder else "scannet_frames_25k"

    @property
    def color_camera(self) -> Camera:
        return self._frames.color_camera

    @property
    def depth_camera(self) -> Camera:
        return self._frames.depth_camera

    @property
    def frame_ids(self) -> np.ndarray:
        return self._frames.frame_ids

    def frame_name(self, frame_id: int) -> str:
        return self._frames.frame_name(frame_id)

    def frame(self, frame_id: int) -> Frame:
        return self._frames.frame(frame_id)

    def missing(self) -> list[str]:
        mesh, recording = self._file("_vh_clean_2.ply"), self._file(".sens")
        if not mesh.exists():
            raise HiclError(f"{mesh}: missing")
        if self.frames_folder is None and not recording.exists():
            raise HiclError(
                f"{recording}: missing, and no other frames: scannet_frames_25k/{self.id} or tasks/scannet_frames_25k/"
                f"{self.id} below the root, or color, depth and pose in {self.folder}"
            )
        return self._frames.missing()

    def points(self) -> Points:
        path = self._file("_vh_clean_2.ply")
        vertex, faces = ply.read_ply(path)
        rgb = ply.rgb(vertex, path)
        if rgb is None:
            raise HiclError(f"{path}: {ply.why_no_colors(path)}")
        return Points(ply.xyz(vertex, path), rgb, faces, self._labels(len(vertex)))

    def _labels(self, n_points: int) -> np.ndarray | None:
        path = self._file("_vh_clean_2.labels.ply")
        if not path.exists():
            return None
        return nyu40.to_classes(ply.labels(path, n_points), str(path))

    def shipped_sets(self) -> np.ndarray | None:
        path = self._file("_vh_clean_2.0.010000.segs.json")
        if not path.exists():
            return None
        try:
            sets = np.array(read_json(path)["segIndices"], np.int32)
        except (HiclError, ValueError, KeyError, TypeError, OverflowError):
            raise HiclError(f"{path}: not a Segmentator file (no list 'segIndices')") from None
        n_points = ply.vertex_count(self._file("_vh_clean_2.ply"))
        if sets.shape != (n_points,):
            raise HiclError(f"{path}: set ids of shape {sets.shape} for a mesh of {n_points} vertices")
        if sets.min() < 0:
            raise HiclError(f"{path}: set id {sets.min()}; ids count from 0")
        return sets

    def point_files(self) -> list[Path]:
        endings = ("_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json")
        return [file for ending in endings if (file := self._file(ending)).exists()]

    def frame_files(self) -> list[Path]:
        return self._frames.frame_files()


def miniature_settings(root: Path) -> dict | None:
    """What `hicl miniature` wrote about a root, or None for any other root."""
    path = root / "miniature.json"
    if not path.exists():
        return None
    settings = read_json(path)
    if not isinstance(settings, dict) or settings.get("format") != "hicl-miniature":
        return None
    step, complete = settings.get("frame_step", 1), settings.get("complete", True)
    if type(step) is not int or not 0 < step < 1 << 31 or type(complete) is not bool:
        raise HiclError(f"{path}: frame_step or complete are not what hicl writes; make the miniature again")
    return settings


def find_scenes(
    root: Path, split: str | None = None, frame_step: int | None = None
) -> tuple[list[tuple[ScanNetScene, str]], int]:
    """Scans below a root as (scene, its split), and how many scans of the split are not there.

    split: a name with a list `scannetv2_<split>.txt` in ROOT, ROOT/splits or ROOT/Tasks/Benchmark, else train, val or
    test by the official lists; None: whatever is there. frame_step: every n-th frame; default 20 of a .sens (OpenScene
    and ScanNet's own exporter), every frame of scannet_frames_25k, and as a miniature says of itself.
    Raises `HiclError` if there is no scan.
    """
    if not root.is_dir():
        raise HiclError(f"{root}: no such folder; --root is the folder that holds ScanNet's scans/")
    settings = miniature_settings(root)
    if settings and settings.get("kind") == "street":
        raise HiclError(f"{root}: a miniature of streets; `hicl preprocess nuscenes --root {root}` reads them")
    if settings and not settings.get("complete", True):
        raise HiclError(f"{root}: a miniature that isn't complete; run its `hicl miniature` again first")
    folders: dict[str, Path] = {}
    for parent in (root / "scans", root / "scans_test", root):
        if parent.is_dir():
            for entry in sorted(parent.iterdir()):
                if SCENE_NAME.fullmatch(entry.name) and entry.is_dir():
                    folders.setdefault(entry.name, entry)
    if not folders:
        raise HiclError(f"{root}: no scans; expected {root}/scans/scene0000_00/scene0000_00_vh_clean_2.ply and so on")
    split_of, missing = splits_of(root, split, folders)
    scenes = []
    for name in sorted(split_of):
        frames_folder, default_step = _frames_of(root, name, folders[name])
        if settings:
            default_step = settings.get("frame_step", 1)
        scenes.append((ScanNetScene(name, folders[name], frames_folder, frame_step or default_step), split_of[name]))
    return scenes, missing


def _frames_of(root: Path, name: str, folder: Path) -> tuple[Path | None, int]:
    """(folder of the frames, None for the .sens; every how manyth of them to take)."""
    for parent in ("scannet_frames_25k", "tasks/scannet_frames_25k"):
        if (root / parent / name).is_dir():
            return root / parent / name, 1
    if not (folder / f"{name}.sens").exists() and (folder / "color").is_dir():
        numbers = list(numbered(list(list_frames(folder))))
        thinned = len(numbers) > 1 and numbers[1] - numbers[0] > 1  # by the exporter, already
        return folder, 1 if thinned else SENS_FRAME_STEP
    return None, SENS_FRAME_STEP


def sources(scenes: list[ScanNetScene]) -> str:
    """A line that says where the frames of the scans come from."""
    kinds = [scene.frames_from for scene in scenes]
    return "frames: " + ", ".join(f"{kind} of {kinds.count(kind)} scans" for kind in dict.fromkeys(kinds))
