"""Bringing one scene up to date: what a worker does, on this machine or another."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.cache.schema import SCENE_ARRAYS, STAGES
from hicl.cache.writer import staging
from hicl.config import recorded
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.pipeline import coverage
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.namings import image_files
from hicl.pipeline.datasets.scene import Points, Scene, unread
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.workers import was_killed
from hicl.upright import told_of

if TYPE_CHECKING:  # a run that finds all up to date loads no kernels
    from hicl.pipeline.teacher.clip import Teacher
    from hicl.pipeline.teacher.features import FeatureReader, Features, Folded


class Extent(NamedTuple):
    """How large a scene is: frames to read, points, and pixels of a colour image."""

    frames: int
    points: int = 0
    height: int = 1
    width: int = 1
    pairs: int | None = None  # where they can be guessed better than by frames and points


@dataclass(frozen=True)
class Job:
    """All that a worker, maybe on another machine, needs to bring one scene up to date. A few kilobytes, and those of
    folded words."""

    scene: Any  # a Scene, or a Group
    split: str
    root: Path
    cache: str | Path
    config: PreprocessConfig
    teacher: TeacherConfig | None
    labels: Path | None
    classes: tuple[str, ...]
    fingerprints: dict[str, str]
    todo: frozenset[str]
    identity: dict | None = None  # the teacher's
    device: str = "cpu"
    extent: Extent | None = None
    service: str | None = None  # where this machine's one teacher is; None: the worker loads its own
    masks: Path | None = None
    folded: "Folded | None" = None  # words that count as classes


@dataclass
class Summary:
    """What a run did: scene ids, error lines by scene, frames passed over by scene, and doubts by scene. faults: what
    of a scene doesn't fit together."""

    done: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, coverage.Seen] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)


class Staged(NamedTuple):
    """A scene that is made: the name to publish it by, the frames skipped, how much of the surface the others see,
    where that was found out anew, what a user should know of it, and what of it doesn't fit together."""

    name: str
    skipped: dict[str, str]
    seen: coverage.Seen | None
    doubts: list[str]
    faults: list[str] = []


def process_scene(job: Job, tick: Callable[[], None] = lambda: None) -> Staged:
    """Run the stages of a scene that are not up to date and stage it.

    Raises `HiclError` where the scene can't be made; nothing of it is published then.
    """
    # Here and not above: a run that finds all up to date needs no kernels.
    from hicl.pipeline import doctor, refine, segmented, stages
    from hicl.pipeline.warmup import compile_kernels

    compile_kernels(clouds=False)
    config, todo = job.config, job.todo
    scene: Scene = unread(job.scene)
    with staging(job.cache) as stage:
        # Of a scene that is made anew nothing is looked at: it may be damaged.
        published = stage.cache.published(scene.id) if set(STAGES) - todo else None
        text = stage.cache.text.copy()
        arrays: dict[str, np.ndarray] = {}
        doubts: list[str] = []
        old = published_arrays(published, [name for name, spec in SCENE_ARRAYS.items() if spec.stage not in todo])

        points = None
        if todo & {"points", "sets"}:
            if scene.fuses:
                compile_kernels()
            points = scene.fused(tick) if scene.fuses else scene.points()
            if points.faces is None:
                compile_kernels()
        if points is not None and "points" in todo:
            arrays |= stages.make_points(points)
        about = published.attributes if published else {}
        skipped, seen = about.get("skipped", {}), None
        xyz = (arrays | old)["points/xyz"] if "views" in todo else None
        with_features = "features" in todo and job.teacher is not None
        faults: list[str] = []
        if xyz is not None:
            own = any(file.suffix.lower() == ".ply" for file in scene.point_files())
            surface = (points or Points(xyz, np.zeros_like(xyz, np.uint8))) if own else None
            if surface is not None:
                surface = replace(surface, xyz=surface.xyz @ scene.turn.astype(np.float32))  # it is turned back
            found = doctor.examine(scene.lying(), surface, job.teacher is not None)
            faults = [str(verdict) for verdict in doctor.faults(found)]
        if "views" in todo or with_features:
            skipped = {}
            with feature_reader(job) if with_features else contextlib.nullcontext() as reader:
                views = stages.Views(scene, xyz, reader, config, *faults[:1])
                for frame_id, frame in stages.usable_frames(scene, job.teacher is not None, skipped, tick):
                    views.add(frame_id, frame)
                arrays |= views.arrays(skipped)
            skipped = {frame: reason.replace(f"{job.root}{os.sep}", "") for frame, reason in skipped.items()}
            about = _about(scene, arrays | old)
        if "views" in todo and job.masks is not None:
            images = image_files(job.masks, "--masks-dir")
            arrays["pairs/mask"] = segmented.masks_at(images, _frame_names(about, arrays), arrays)
        if xyz is not None:
            seen = coverage.seen(len(xyz), arrays["pairs/point"], len(arrays["views/frame"]))
        if points is not None and "sets" in todo:
            arrays |= stages.make_sets(scene, points, old | arrays, config, doubts.append)
        if "labels" in todo:
            known = old | arrays
            if job.labels is None:
                raw, votes = stages.label_from_features(text, known, config, job.folded)
            else:
                images = image_files(job.labels, "--labels-dir")
                raw = segmented.labels_at(images, job.classes, config.label_ids, _frame_names(about, known), known)
                votes = refine.count(raw, known["pairs/point"], known["sets/id"], len(job.classes))
            arrays |= stages.make_labels(raw, votes, known, config)

        before = published.attributes.get("left_out", 0) if published else 0
        left_out = points.left_out if points is not None else before
        attributes = {
            **{name: about[name] for name in ("source", "origin", "turn", "frame_names") if name in about},
            "split": job.split,
            "stages": job.fingerprints,
            "skipped": skipped,
            "left_out": left_out,
            "teacher": job.identity,
            "settings": recorded(config),
        }
        doubts += stages.doubts(old | arrays, left_out, config)
        if "turn" in about:
            doubts.append(told_of(np.array(about["turn"])))
        return Staged(stage.build(scene.id, arrays, attributes, keep=list(old)), skipped, seen, doubts, faults)


def _about(scene: Scene, arrays: dict[str, np.ndarray]) -> dict:
    """What a scene's attributes say of its scan; of origin and names only where they say something."""
    about: dict = {"source": scene.source}
    if scene.origin.any():
        about["origin"] = scene.origin.tolist()
    if (scene.turn != np.eye(3)).any():
        about["turn"] = scene.turn.tolist()
    numbers = arrays["views/frame"].tolist()
    names = [scene.frame_name(frame_id) for frame_id in numbers]
    if names != [str(number) for number in numbers]:
        about["frame_names"] = names
    return about


def _frame_names(about: dict, arrays: dict[str, np.ndarray]) -> list[str]:
    return about.get("frame_names") or [str(frame) for frame in arrays["views/frame"].tolist()]


@contextlib.contextmanager
def feature_reader(job: Job) -> Iterator["FeatureReader"]:
    from hicl.pipeline.teacher import features, service

    if job.service is not None:
        with service.feature_reader(job.service) as reader:
            yield reader
    else:
        teacher = load_teacher(job.teacher, job.device)

        def request(pixels: np.ndarray) -> Callable[[], "Features"]:
            found = teacher.encode_pixels(pixels)
            return lambda: found

        yield features.FeatureReader(teacher.patches, request, teacher.batch or features.IMAGES_AT_ONCE)


def published_arrays(published: SceneReader | None, names: list[str]) -> dict[str, np.ndarray]:
    """Copies: a kernel compiled for writable arrays doesn't take read-only ones."""
    return {name: published.read(name).copy() for name in names if published.has(name)} if published else {}


@functools.lru_cache(maxsize=1)
def load_teacher(config: TeacherConfig, device: str) -> "Teacher":
    """The teacher of this process, loaded once. One thread on a CPU: a feature's last bit must not depend on how many
    workers share the machine, and the workers already use all cores."""
    import torch

    from hicl.pipeline.teacher.clip import Teacher

    torch.set_num_threads(1)
    try:
        return Teacher(config, checked_device(device))
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise HiclError(f"--device {device}: no room for the teacher ({reason}); use --device cpu") from None


def reason(scene_id: str, error: Exception) -> str:
    """A line that says why a scene failed."""
    if isinstance(error, HiclError):
        return str(error)
    if was_killed(error):
        return f"{scene_id}: a worker was killed, likely for memory; use fewer --workers"
    if isinstance(error, OSError | MemoryError):
        return f"{scene_id}: {error or 'out of memory'}; free some, or use fewer --workers"
    return f"{scene_id}: unexpected {type(error).__name__}: {error}; please report it"
