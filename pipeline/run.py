"""`hicl preprocess`: scenes in, cache out. What is up to date is left alone; a scene is published whole or not at all.

points → views (which point is seen at which pixel) → sets → features (the teacher) → labels, raw and voted
"""

import functools
import os
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import SCENE_ARRAYS, STAGES
from hicl.cache.writer import CacheWriter, stage_scene
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.pipeline import fingerprint, stages
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import ply
from hicl.pipeline.datasets.scene import Scene
from hicl.pipeline.prompts import ClassList
from hicl.pipeline.teacher import TeacherConfig
from hicl.pipeline.warmup import compile_kernels
from hicl.pipeline.workers import completed
from hicl.processes import cores


@dataclass(frozen=True)
class Source:
    """What to preprocess: scenes with their splits, and the classes that the data set's ground truth is in."""

    dataset: str
    root: Path
    scenes: list[tuple[Scene, str]]
    truth_classes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """All that a worker needs to bring one scene up to date."""

    scene: Scene
    split: str
    root: Path
    cache: Path
    config: PreprocessConfig
    teacher: TeacherConfig | None
    label_files: list[Path]
    fingerprints: dict[str, str]
    todo: frozenset[str]
    identity: dict | None = None  # the teacher's
    device: str = "cpu"
    text: np.ndarray | None = None


@dataclass
class Summary:
    """What a run did: scene ids, error lines by scene, and frames passed over by scene."""

    done: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)


def process_scene(job: Job, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Run the stages of a scene that are not up to date and stage it for publishing. Returns the frames skipped.

    Raises `HiclError` where the scene can't be made; nothing of it is published then.
    """
    scene, config, todo = job.scene, job.config, job.todo
    published = job.cache / "scenes" / scene.id
    arrays: dict[str, np.ndarray] = {}
    old = _published_arrays(published, [name for name, spec in SCENE_ARRAYS.items() if spec.stage not in todo])

    points = scene.points() if todo & {"points", "sets"} else None
    if "points" in todo:
        arrays |= stages.make_points(points)
    if "sets" in todo:
        arrays |= stages.make_sets(scene, points, config)
    skipped = _attributes(published).get("skipped", {})
    with_features = "features" in todo and job.teacher is not None
    if "views" in todo or with_features:
        skipped = {}
        xyz = (arrays | old)["points/xyz"] if "views" in todo else None
        views = stages.Views(scene, xyz, load_teacher(job.teacher, job.device) if with_features else None, config)
        for frame_id, frame in stages.usable_frames(scene, skipped, tick):
            views.add(frame_id, frame)
        arrays |= views.arrays(skipped)
        skipped = {frame: reason.replace(f"{job.root}{os.sep}", "") for frame, reason in skipped.items()}
    if "labels" in todo:
        known = old | arrays
        if job.teacher is not None:
            raw = stages.label_from_features(job.text, known)
        else:
            raw = stages.label_from_images(job.label_files, len(job.text), known)
        arrays |= stages.make_labels(raw, known, config)

    attributes = {
        "split": job.split,
        "stages": job.fingerprints,
        "counts": _counts(old | arrays),
        "skipped": skipped,
        "teacher": job.identity,
        "settings": {key: value for key, value in asdict(config).items() if key not in ("labels_dir", "classes")},
    }
    stage_scene(job.cache, scene.id, arrays, attributes, len(job.text), keep=list(old))
    return skipped


def _attributes(published: Path) -> dict:
    return SceneReader(published).attributes if (published / "zarr.json").exists() else {}


def _published_arrays(published: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Copies: a kernel compiled for writable arrays doesn't take read-only ones."""
    if not (published / "zarr.json").exists():
        return {}
    reader = SceneReader(published)
    return {name: reader.read(name).copy() for name in names if reader.has(name)}


def _counts(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    return {
        "points": len(arrays["points/xyz"]),
        "frames": len(arrays["views/frame"]),
        "pairs": len(arrays["pairs/point"]),
        "sets": int(arrays["sets/id"].max()) + 1,
    }


@functools.lru_cache(maxsize=1)
def load_teacher(config: TeacherConfig, device: str):
    """The teacher of this process, loaded once. One thread on a CPU: a feature's last bit must not depend on how many
    workers share the machine, and the workers already use all cores."""
    import torch

    from hicl.pipeline.maskclip import Teacher

    torch.set_num_threads(1)
    return Teacher(config, device)


def preprocess(
    source: Source,
    out: Path,
    config: PreprocessConfig,
    classes: ClassList,
    workers: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Summary:
    """Bring the cache at `out` up to date with a source. Raises `HiclError` where nothing can be done at all; a scene
    that fails is in the summary, and the others are published. workers None: one a core, few on a GPU."""
    teacher = TeacherConfig(config.clip, config.weights, config.dense, config.short_side)
    if config.teacher == "labels":
        teacher = None
    identity = teacher.identity() if teacher else None
    text_fingerprint = fingerprint.text(identity, classes)
    summary = Summary()
    with CacheWriter(out, source.dataset) as writer:
        jobs = []
        for scene, split in source.scenes:
            try:
                files = _label_files(config, scene.id, len(source.scenes) == 1)
                wanted = fingerprint.scene(scene, source.root, config, identity, files, text_fingerprint)
            except HiclError as error:
                summary.failed[scene.id] = str(error)
                continue
            have = writer.attributes(scene.id) or {}
            todo = frozenset(stage for stage in STAGES if wanted[stage] != have.get("stages", {}).get(stage))
            if not todo and have["split"] == split:
                summary.unchanged.append(scene.id)
                continue
            jobs.append(Job(scene, split, source.root, out, config, teacher, files, wanted, todo, identity))
        try:
            if jobs:
                device = checked_device(device) if teacher else "cpu"
                text, about = _embed(writer, source, teacher, device, classes, text_fingerprint)
                _say_disk(jobs, about["teacher"], out, say)
                if about is not writer.root:
                    writer.set_text(classes.names, text, text_fingerprint, about)
                jobs = [replace(job, device=device, text=text) for job in jobs]
                run_jobs(jobs, writer, workers or _default_workers(device), summary)
        finally:
            splits = {scene.id: split for scene, split in source.scenes}
            errors = dict.fromkeys([*summary.done, *summary.unchanged], "") | summary.failed
            if writer.root is not None:
                writer.write_manifest({scene_id: (splits[scene_id], error) for scene_id, error in errors.items()})
    return summary


def _default_workers(device: str) -> int:
    """One a core; on a GPU few, as each holds a teacher of its own there."""
    return cores() if device == "cpu" else min(cores(), 4)


def _label_files(config: PreprocessConfig, scene_id: str, alone: bool) -> list[Path]:
    """Label images of a scene: in a folder of its own, or straight in --labels-dir where there is but one scene."""
    if config.labels_dir is None:
        return []
    folder = Path(config.labels_dir)
    own = folder / scene_id
    files = sorted((folder if alone and not own.is_dir() else own).glob("*.png"))
    if not files:
        raise HiclError(f"{own}: no label images; --labels-dir holds <scene>/<frame>.png")
    return files


def _embed(writer, source, teacher, device, classes: ClassList, text_fingerprint: str) -> tuple[np.ndarray, dict]:
    """(embedding of the classes, root attributes): the cache's own if they are up to date, else new ones. One-hot where
    no text was read: the classes are then an ordinary linear classifier's."""
    if writer.root is not None and writer.root["text_fingerprint"] == text_fingerprint:
        return CacheReader(writer.path).text.copy(), writer.root
    about: dict = {"truth_classes": list(source.truth_classes), "teacher": None}
    if teacher is None:
        return np.eye(len(classes.names), dtype=np.float32), about
    model = load_teacher(teacher, device)
    embedding = model.encode_classes(classes)
    about["teacher"] = teacher.identity() | {
        "dim": embedding.shape[1],
        "patch": list(model.patch),
        "short_side": model.short_side,
    }
    return embedding, about


def _say_disk(jobs: list[Job], teacher: dict | None, out: Path, say: Callable[[str], None]) -> None:
    """Say what the stages to be done will take, and refuse where it can't fit. An estimate: a frame sees a fifth."""
    total = 0
    for job in jobs:
        try:
            n_frames, camera = len(job.scene.frame_ids), job.scene.color_camera
            meshes = [file for file in job.scene.point_files() if file.name.endswith(".ply")]
            n_points = ply.vertex_count(meshes[0]) if meshes else 150_000
        except HiclError:
            continue  # it is said when the scene's turn comes
        seen = n_frames * n_points // 5
        total += 28 * n_points * ("points" in job.todo) + 4 * n_points * ("sets" in job.todo)
        total += 8 * seen * ("views" in job.todo) + 2 * seen * ("labels" in job.todo)
        if teacher and "features" in job.todo:
            scale = teacher["short_side"] / min(camera.height, camera.width)
            cells = camera.height * scale * camera.width * scale / (teacher["patch"][0] * teacher["patch"][1])
            total += int(n_frames * cells * teacher["dim"] * 2)
    free = shutil.disk_usage(out).free
    say(f"{len(jobs)} scenes to do, about {_size(total)} at {out} ({_size(free)} free)")
    if total > free:
        raise HiclError(f"{out}: about {_size(total)} are needed, {_size(free)} are free; use another disk")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def run_jobs(jobs: list[Job], writer: CacheWriter, workers: int, summary: Summary) -> None:
    """Process the jobs and publish what they staged; a scene that fails goes into the summary."""
    frames = {job.scene.id: _frame_count(job) for job in jobs}
    with tqdm(total=sum(frames.values()), unit="frame", disable=None, smoothing=0.05) as bar:
        for job, result in completed(jobs, process_scene, workers, _before_workers, bar.update):
            scene_id = job.scene.id
            bar.set_description(f"scene {len(summary.done) + len(summary.failed) + 1}/{len(jobs)}")
            start = bar.n
            try:
                summary.skipped[scene_id] = result()
                writer.publish(scene_id)
                summary.done.append(scene_id)
            except HiclError as error:
                summary.failed[scene_id] = str(error)
            except BrokenProcessPool:
                summary.failed[scene_id] = f"{scene_id}: a worker was killed, likely for memory; use fewer --workers"
            except (OSError, MemoryError) as error:
                summary.failed[scene_id] = f"{scene_id}: {error or 'out of memory'}; free some, or use fewer --workers"
            except Exception as error:  # a defect of ours must not cost the other scenes
                summary.failed[scene_id] = f"{scene_id}: unexpected {type(error).__name__}: {error}; please report it"
            bar.update(frames[scene_id] - (bar.n - start))


def _before_workers() -> None:
    compile_kernels()  # once, here: two processes compiling into one cache folder can get in each other's way
    load_teacher.cache_clear()  # each worker loads its own


def _frame_count(job: Job) -> int:
    try:
        return len(job.scene.frame_ids)
    except HiclError:
        return 0
