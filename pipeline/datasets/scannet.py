"""ScanNet v2 in both of its official forms, and the miniature, which is written in ScanNet's layout.

    ROOT/scans/<scene>/<scene>.sens                                  posed RGB-D recording, or instead
    ROOT/scannet_frames_25k/<scene>/{color,depth,pose}/NNNNNN.*      about every 100th frame of it
    ROOT/scans/<scene>/<scene>_vh_clean_2.ply                        mesh, raw frame (not axis-aligned)
    ROOT/scans/<scene>/<scene>_vh_clean_2.labels.ply                 NYU40 ids, not for the test scans
    ROOT/scans/<scene>/<scene>_vh_clean_2.0.010000.segs.json         Segmentator's sets, optional

`scans_test` is looked into as well, and ROOT itself may be `scans`.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.images import read_color, read_depth, read_intrinsics, read_pose
from hicl.pipeline.datasets.scene import Camera, Frame, Points, checked_pose
from hicl.pipeline.datasets.sens import SensFile
from hicl.read import read_json

# The benchmark's 20 classes and their NYU40 ids (ScanNet/ScanNet BenchmarkScripts; names as CLIP2Scene prompts them).
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub", "other furniture",
)  # fmt: skip
NYU40_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)

SENS_FRAME_STEP = 20

# The official v2 split is by room, so the validation split's 312 scans are the scans of these rooms; rooms from 707 on
# are the 100 test scans, all others train (ScanNet/ScanNet Tasks/Benchmark/scannetv2_{train,val,test}.txt).
_VAL_ROOMS = frozenset((
    11, 15, 19, 25, 30, 46, 50, 63, 64, 77, 81, 84, 86, 88, 95, 100, 131, 139, 144, 146, 149, 153, 164, 169, 187, 193,
    196, 203, 207, 208, 217, 221, 222, 231, 246, 249, 251, 256, 257, 277, 278, 300, 304, 307, 314, 316, 328, 329, 334,
    338, 342, 343, 351, 353, 354, 355, 356, 357, 377, 378, 382, 389, 406, 412, 414, 423, 426, 427, 430, 432, 435, 441,
    458, 461, 462, 474, 488, 490, 494, 496, 500, 518, 527, 535, 549, 550, 552, 553, 558, 559, 565, 568, 574, 575, 578,
    580, 583, 591, 593, 595, 598, 599, 606, 607, 608, 609, 616, 618, 621, 629, 633, 643, 644, 645, 647, 648, 651, 652,
    653, 655, 658, 660, 663, 664, 665, 670, 671, 678, 684, 685, 686, 689, 690, 693, 695, 696, 697, 699, 700, 701, 702,
    704,
))  # fmt: skip
_FIRST_TEST_ROOM = 707
_SCENE_NAME = re.compile(r"scene(\d{4})_(\d{2})")


def official_split(scene: str) -> str:
    """train, val or test for a ScanNet scene name, by the official lists; `HiclError` for any other name."""
    match = _SCENE_NAME.fullmatch(scene)
    if not match:
        raise HiclError(f"{scene}: not a ScanNet scene name (sceneNNNN_NN)")
    room = int(match[1])
    return "test" if room >= _FIRST_TEST_ROOM else "val" if room in _VAL_ROOMS else "train"


@dataclass(frozen=True)
class ScanNetScene:
    """One scan. Picklable: files are opened where they are read. See `scene.Scene`."""

    id: str
    folder: Path
    frames_folder: Path | None  # of scannet_frames_25k; None: the .sens
    frame_step: int

    def _file(self, ending: str) -> Path:
        return self.folder / f"{self.id}{ending}"

    @cached_property
    def _sens(self) -> SensFile:
        return SensFile(self._file(".sens"))

    @cached_property
    def _cameras(self) -> tuple[Camera, Camera]:
        if self.frames_folder is None:
            return self._sens.color_camera, self._sens.depth_camera
        first = int(self.frame_ids[0])
        color = _first_readable(self.frame_ids, lambda i: read_color(self._frame_file("color", i)))
        depth = _first_readable(self.frame_ids, lambda i: read_depth(self._frame_file("depth", i)))
        if color is None or depth is None:
            raise HiclError(f"{self._frame_file('color', first).parent.parent}: none of its frames decodes")
        return (
            read_intrinsics(self.frames_folder / "intrinsics_color.txt", color.shape[:2]),
            read_intrinsics(self.frames_folder / "intrinsics_depth.txt", depth.shape),
        )

    @property
    def color_camera(self) -> Camera:
        return self._cameras[0]

    @property
    def depth_camera(self) -> Camera:
        return self._cameras[1]

    @cached_property
    def frame_ids(self) -> np.ndarray:
        if self.frames_folder is None:
            ids = np.arange(len(self._sens))
        else:
            ids = sorted(int(f.stem) for f in (self.frames_folder / "color").glob("*.jpg") if f.stem.isdigit())
        if len(ids) == 0:
            raise HiclError(f"{self.frames_folder or self._sens.path}: holds no frames")
        return np.array(ids, np.int32)[:: self.frame_step]

    def _frame_file(self, kind: str, frame_id: int) -> Path:
        ending = {"color": "jpg", "depth": "png", "pose": "txt"}[kind]
        return self.frames_folder / kind / f"{frame_id:06d}.{ending}"

    def frame(self, frame_id: int) -> Frame:
        if self.frames_folder is None:
            where = f"{self._sens.path}: frame {frame_id}"
            pose = checked_pose(self._sens.poses[frame_id], where)
            color, depth = self._sens.color(frame_id), self._sens.depth(frame_id)
        else:
            pose = read_pose(self._frame_file("pose", frame_id))
            where = str(self._frame_file("depth", frame_id))
            color, depth = (
                read_color(self._frame_file("color", frame_id), self.color_camera),
                read_depth(self._frame_file("depth", frame_id), self.depth_camera),
            )
        if not depth.any():
            raise FrameError(f"{where}: depth is zero everywhere")
        return Frame(color, depth, pose)

    def points(self) -> Points:
        path = self._file("_vh_clean_2.ply")
        vertex, faces = ply.read_ply(path)
        rgb = ply.rgb(vertex, path)
        if rgb is None:
            raise HiclError(f"{path}: no vertex colours")
        return Points(ply.xyz(vertex, path), rgb, faces, self._labels(len(vertex)))

    def _labels(self, n_points: int) -> np.ndarray | None:
        path = self._file("_vh_clean_2.labels.ply")
        if not path.exists():
            return None
        vertex, _ = ply.read_ply(path)
        if "label" not in (vertex.dtype.names or ()):
            raise HiclError(f"{path}: no vertex property 'label'")
        if len(vertex) != n_points:
            raise HiclError(f"{path}: {len(vertex)} labels for a mesh of {n_points} vertices")
        to_class = np.full(65536, NO_LABEL, np.uint8)
        to_class[list(NYU40_IDS)] = np.arange(len(NYU40_IDS))
        return to_class[np.asarray(vertex["label"]).astype(np.uint16)]

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
        if self.frames_folder is None:
            return [self._file(".sens")]
        kinds = [self._frame_file(kind, i) for i in self.frame_ids.tolist() for kind in ("color", "depth", "pose")]
        return [self.frames_folder / f"intrinsics_{kind}.txt" for kind in ("color", "depth")] + kinds


def _first_readable(frame_ids: np.ndarray, read) -> np.ndarray | None:
    for frame_id in frame_ids.tolist():
        try:
            return read(frame_id)
        except FrameError:
            continue
    return None


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
    if settings and not settings.get("complete", True):
        raise HiclError(f"{root}: a miniature that isn't complete; run its `hicl miniature` again first")
    folders = {}
    for parent in (root / "scans", root / "scans_test", root):
        if parent.is_dir():
            for entry in sorted(parent.iterdir()):
                if _SCENE_NAME.fullmatch(entry.name) and entry.is_dir():
                    folders.setdefault(entry.name, entry)
    if not folders:
        raise HiclError(f"{root}: no scans; expected {root}/scans/scene0000_00/scene0000_00_vh_clean_2.ply and so on")
    lists = _split_lists(root)
    if split is None:
        split_of = {name: _split_of(name, lists) for name in folders}
        missing = 0
    elif split in lists:
        split_of = {name: split for name in lists[split] if name in folders}
        missing = len(set(lists[split]) - set(folders))
    elif split in ("train", "val", "test"):
        split_of = {name: split for name in folders if official_split(name) == split}
        missing = {"train": 1201, "val": 312, "test": 100}[split] - len(split_of)
    else:
        known = ", ".join(sorted({*lists, "train", "val", "test"}))
        raise HiclError(f"{root}: no split {split!r}; known are {known}, others need {root}/scannetv2_{split}.txt")
    if not split_of:
        raise HiclError(f"{root}: split {split!r} is empty: none of its scans are there ({len(folders)} others are)")
    scenes = []
    for name in sorted(split_of):
        frames_25k = root / "scannet_frames_25k" / name
        frames_folder = frames_25k if frames_25k.is_dir() else None
        default_step = settings.get("frame_step", 1) if settings else 1 if frames_folder else SENS_FRAME_STEP
        scenes.append((ScanNetScene(name, folders[name], frames_folder, frame_step or default_step), split_of[name]))
    return scenes, missing


def _split_lists(root: Path) -> dict[str, list[str]]:
    lists = {}
    for parent in (root / "Tasks" / "Benchmark", root / "splits", root):
        for path in sorted(parent.glob("scannetv2_*.txt")):
            try:
                lines = path.read_text().split()
            except (OSError, UnicodeDecodeError) as error:
                raise HiclError(f"{path}: split list can't be read ({error})") from None
            lists[path.stem.removeprefix("scannetv2_")] = [line.removesuffix(".ply") for line in lines]
    return lists


def _split_of(name: str, lists: dict[str, list[str]]) -> str:
    return next((split for split, names in lists.items() if name in names), None) or official_split(name)
