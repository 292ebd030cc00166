"""nuScenes with nuScenes-lidarseg, as they are unpacked, and the miniature of streets, which is written like them.

    ROOT/<version>/*.json                                  the tables; category.json and lidarseg.json of lidarseg
    ROOT/samples/<channel>/*, ROOT/sweeps/LIDAR_TOP/*      sweeps (.pcd.bin) and images of key frames; sweeps between
    ROOT/lidarseg/<version>/<token>_lidarseg.bin           a label a point of each key frame, not for v1.0-test

A scene of 20 seconds is a group of some 40 key frames: a sweep of the LiDAR with the images of six cameras.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.config import setting
from hicl.errors import FrameError, HiclError
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import nuscenes_classes, nuscenes_tables
from hicl.pipeline.datasets.images import read_color
from hicl.pipeline.datasets.nuscenes_classes import CLASSES, WORDS
from hicl.pipeline.datasets.nuscenes_points import key_frame_points, read_labels, read_sweep, to_frame_of
from hicl.pipeline.datasets.nuscenes_splits import split_of
from hicl.pipeline.datasets.nuscenes_tables import KeyFrame, Shot
from hicl.pipeline.datasets.scene import Camera, Group, Source, Sweep
from hicl.pipeline.teacher.choice import MINIATURE
from hicl.read import read_json

_POINTS_A_SWEEP = 35_000


@dataclass(frozen=True)
class Settings(PreprocessConfig):
    """nuScenes' own."""

    version: str | None = setting(
        None, "Folder of the tables, such as v1.0-mini", shown="the one there", recorded=False
    )
    split: str | None = setting(
        None,
        "Only this split: train, val, test, mini_train, mini_val, or one of VERSION/splits.json",
        shown="all",
        recorded=False,
    )
    sweeps: int = setting(0, "Sweeps before each key frame that are added to it", least=0, below=256)
    occlusion: str = setting(
        "points", "What hides a point from a camera: the points before it, or nothing", choices=("points", "none")
    )
    words: str = setting("clip2scene", "Whose words the classes are prompted by", choices=tuple(WORDS), recorded=False)


def source(root: Path, settings: Settings) -> Source:
    """The scenes of a version below a root. Raises `HiclError`."""
    folder = _version(root, settings.version)
    tokens = nuscenes_tables.scene_names(folder)
    splits = split_of(folder, list(tokens), settings.split)
    if not splits:
        raise HiclError(f"{folder}: none of its {len(tokens)} scenes is in a split; list them in {folder}/splits.json")
    to_class = nuscenes_classes.to_classes(folder) if (folder / "lidarseg.json").exists() else None
    frames = nuscenes_tables.key_frames(folder, [tokens[name] for name in splits], settings.sweeps)
    scenes: list[NuScenesScene] = []
    absent: list[NuScenesScene] = []
    for name, own in zip(splits, frames, strict=True):
        scene = NuScenesScene(
            name,
            root,
            tokens[name],
            tuple(own[:: settings.frame_step or 1]),
            to_class,
            settings.sweeps,
            settings.occlusion,
        )
        (scenes if scene.is_there() else absent).append(scene)
    if not scenes:
        raise HiclError(
            f"{root}: no scene of {folder.name} has a sweep below samples/{nuscenes_tables.LIDAR}; unpack it"
        )
    notes = []
    if len(splits) < len(tokens) and settings.split is None:
        notes.append(f"{len(tokens) - len(splits)} scenes of {folder.name} are in no split: passed over")
    if absent:
        shown = ", ".join(scene.id for scene in absent[:8]) + (" …" if len(absent) > 8 else "")
        notes.append(f"passed over, as their files are not below {root}: {len(absent)} scenes, {shown}")
    if to_class is None:
        notes.append(f"{folder} has no lidarseg.json: without ground truth")
    listed = [(scene, splits[scene.id]) for scene in scenes]
    return Source("nuscenes", root, listed, CLASSES, CLASSES, tuple(notes), WORDS[settings.words], grouped=True)


def defaults(root: Path) -> dict[str, str]:
    """A miniature's own teacher, where the root is one."""
    try:
        about = read_json(root / "miniature.json")
    except FileNotFoundError:
        return {}
    teacher = about.get("teacher", MINIATURE) if isinstance(about, dict) else MINIATURE
    return {"clip": teacher, "weights": teacher}


def _version(root: Path, version: str | None) -> Path:
    """The folder of the tables. Raises `HiclError`."""
    if not root.is_dir():
        raise HiclError(f"{root}: no such folder; --root is the folder that holds nuScenes' samples/ and v1.0-…/")
    found = sorted(path.parent.name for path in root.glob("*/sample_data.json"))
    if version is not None:
        if version not in found:
            raise HiclError(f"{root}/{version}: no tables there; --version is one of {', '.join(found) or 'none'}")
        return root / version
    if len(found) != 1:
        there = f"{', '.join(found)} are there: choose one by --version" if found else "expected v1.0-mini/*.json, say"
        raise HiclError(f"{root}: which tables? {there}")
    return root / found[0]


@dataclass(frozen=True)
class NuScenesScene(Group):
    """A scene: a group of key frames. token: its own. to_class: as of `nuscenes_classes.to_classes`, None: no truth.
    sweeps, occlusion: as of `Settings`."""

    id: str
    root: Path
    token: str
    key_frames: tuple[KeyFrame, ...]
    to_class: np.ndarray | None
    sweeps: int
    occlusion: str

    @property
    def source(self) -> str:
        return self.token

    @property
    def items(self) -> list["NuScenesItem"]:
        """The key frames."""
        return [NuScenesItem(self, number) for number in range(len(self.key_frames))]

    @property
    def frame_ids(self) -> np.ndarray:
        """int32, of the images of all key frames."""
        return np.arange(sum(len(frame.cameras) for frame in self.key_frames), dtype=np.int32)

    @property
    def color_camera(self) -> Camera:
        height, width = next((shot.size for frame in self.key_frames for shot in frame.cameras), (900, 1600))
        return Camera(1.0, 1.0, 0.0, 0.0, height, width)

    @property
    def n_points(self) -> int:
        return _POINTS_A_SWEEP * len(self.key_frames) * (1 + self.sweeps)

    @property
    def described(self) -> str:
        """A hash of what the tables and the classes say of it."""
        said = repr((self.key_frames, None if self.to_class is None else self.to_class.tolist()))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def is_there(self) -> bool:
        """Whether any sweep of its key frames is."""
        files = (frame.lidar.file for frame in self.key_frames if frame.lidar)
        return any((self.root / file).exists() for file in files)

    def missing(self) -> list[str]:
        return [file for file in self._frame_files() if not (self.root / file).exists()]

    def point_files(self) -> list[Path]:
        files: list[str] = []
        for frame in self.key_frames:
            files += [shot.file for shot in (frame.lidar, *frame.earlier) if shot]
            files += [frame.labels] if frame.labels else []
        return [self.root / file for file in files]

    def frame_files(self) -> list[Path]:
        return [self.root / file for file in self._frame_files()]

    def _frame_files(self) -> list[str]:
        return [shot.file for frame in self.key_frames for shot in frame.cameras]


@dataclass(frozen=True)
class NuScenesItem:
    """A key frame of a scene, by its number there."""

    scene: NuScenesScene
    number: int

    @property
    def id(self) -> str:
        return f"{self.scene.id}.{self.number:03}"

    @cached_property
    def _frame(self) -> KeyFrame:
        return self.scene.key_frames[self.number]

    @property
    def token(self) -> str:
        """Of the sweep: what lidarseg's files are called by."""
        return self._lidar.token

    @property
    def occlusion(self) -> bool:
        return self.scene.occlusion == "points"

    @property
    def channels(self) -> list[str]:
        """The cameras that there are images of."""
        return [shot.mount.channel for shot in self._frame.cameras]

    def image_name(self, channel: str) -> str:
        """What the image's file is called, without its ending."""
        return Path(self._shot(channel).file).stem

    def points(self) -> Sweep:
        """Raises `HiclError` where the key frame can't be used."""
        frame, root, label = self._frame, self.scene.root, None
        if frame.labels is not None and self.scene.to_class is not None:
            n_points = len(read_sweep(root / self._lidar.file))
            label = read_labels(root / frame.labels, n_points, self.scene.to_class)
        elif self.scene.to_class is not None:
            label = np.full(len(read_sweep(root / self._lidar.file)), NO_LABEL, np.uint8)
        return key_frame_points(root, self._lidar, frame.earlier, label, self.scene.sweeps > 0)

    def image(self, channel: str) -> tuple[np.ndarray, Camera, np.ndarray]:
        """(uint8 [H, W, 3], its camera, its pose float64 [4, 4] in the ego frame at the sweep's time).

        Raises `FrameError` where it alone can't be used.
        """
        shot = self._shot(channel)
        path = self.scene.root / shot.file
        try:
            pose = to_frame_of(self._lidar, shot)
        except HiclError as error:
            raise FrameError(str(error)) from None
        if not shot.mount.intrinsics:
            raise FrameError(f"{path}: {channel} has no intrinsics in calibrated_sensor.json")
        (fx, skew, cx), (_, fy, cy), _ = shot.mount.intrinsics
        camera = Camera(fx, fy, cx, cy, *shot.size)
        if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0 and skew == 0):
            raise FrameError(f"{path}: intrinsics of {channel} are none of a pinhole camera without skew")
        return read_color(path, camera), camera, pose

    def _shot(self, channel: str) -> Shot:
        return next(shot for shot in self._frame.cameras if shot.mount.channel == channel)

    @property
    def _lidar(self) -> Shot:
        if self._frame.lidar is None:
            raise HiclError(f"{self.id}: its sample has no {nuscenes_tables.LIDAR}")
        return self._frame.lidar
