"""`hicl preprocess`: scenes in, cache out. What is up to date is left alone; a scene is published whole or not at all.

points → views (which point is seen at which pixel) → sets → features (the teacher) → labels, raw and voted
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from hicl.cache import manifest
from hicl.cache.reader import SceneReader
from hicl.cache.schema import SCENE_ARRAYS, STAGES
from hicl.cache.writer import CacheWriter, staging
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.pipeline import fingerprint
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Scene
from hicl.pipeline.prompts import ClassList
from hicl.pipeline.teacher import TeacherConfig
from hicl.pipeline.workers import completed, was_killed
from hicl.processes import cores, pool

if TYPE_CHECKING:  # a run that finds all up to date loads no kernels
    from hicl.pipeline.features import FeatureReader, Features


@dataclass(frozen=True)
class Source:
    """What to preprocess: scenes with their splits, and the classes that the data set's ground truth is in."""

    dataset: str
    root: Path
    scenes: list[tuple[Scene, str]]
    truth_classes: tuple[str, ...]


class Extent(NamedTuple):
    """How large a scene is: frames to read, points, and pixels of a colour image."""

    frames: int
    points: int = 0
    height: int = 1
    width: int = 1


@dataclass(frozen=True)
class Job:
    """All that a worker, maybe on another machine, needs to bring one scene up to date. A few kilobytes at most."""

    scene: Scene
    split: str
    root: Path
    cache: str | Path
    config: PreprocessConfig
    teacher: TeacherConfig | None
    labels: Path | None
    fingerprints: dict[str, str]
    todo: frozenset[str]
    identity: dict | None = None  # the teacher's
    device: str = "cpu"
    extent: Extent | None = None
    service: str | None = None  # where this machine's one teacher is; None: the worker loads its own


@dataclass
class Summary:
    """What a run did: scene ids, error lines by scene, and frames passed over by scene."""

    done: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)


def process_scene(job: Job, tick: Callable[[], None] = lambda: None) -> tuple[str, dict[str, str]]:
    """Run the stages of a scene that are not up to date and stage it. Returns the name to publish it by, and the frames
    skipped.

    Raises `HiclError` where the scene can't be made; nothing of it is published then.
    """
    # Here and not above: a run that finds all up to date needs no kernels.
    from hicl.pipeline import stages
    from hicl.pipeline.warmup import compile_kernels

    compile_kernels()
    # A copy, that takes with it what it has read of its files.
    scene, config, todo = replace(job.scene), job.config, job.todo
    with staging(job.cache) as stage:
        published, text = stage.cache.published(scene.id), stage.cache.text.copy()
        arrays: dict[str, np.ndarray] = {}
        old = _published_arrays(published, [name for name, spec in SCENE_ARRAYS.items() if spec.stage not in todo])

        points = scene.points() if todo & {"points", "sets"} else None
        if "points" in todo:
            arrays |= stages.make_points(points)
        if "sets" in todo:
            arrays |= stages.make_sets(scene, points, config)
        skipped = published.attributes.get("skipped", {}) if published else {}
        with_features = "features" in todo and job.teacher is not None
        if "views" in todo or with_features:
            skipped = {}
            xyz = (arrays | old)["points/xyz"] if "views" in todo else None
            with _feature_reader(job) if with_features else contextlib.nullcontext() as reader:
                views = stages.Views(scene, xyz, reader, config)
                for frame_id, frame in stages.usable_frames(scene, skipped, tick):
                    views.add(frame_id, frame)
                arrays |= views.arrays(skipped)
            skipped = {frame: reason.replace(f"{job.root}{os.sep}", "") for frame, reason in skipped.items()}
        if "labels" in todo:
            known = old | arrays
            if job.teacher is not None:
                raw = stages.label_from_features(text, known)
            else:
                raw = stages.label_from_images(label_files(job.labels), len(text), known)
            arrays |= stages.make_labels(raw, known, config)

        attributes = {
            "split": job.split,
            "stages": job.fingerprints,
            "counts": _counts(old | arrays),
            "skipped": skipped,
            "teacher": job.identity,
            "settings": {key: value for key, value in asdict(config).items() if key not in ("labels_dir", "classes")},
        }
        return stage.build(scene.id, arrays, attributes, keep=list(old)), skipped


def _compile() -> None:
    from hicl.pipeline.warmup import compile_kernels

    compile_kernels()


@functools.cache
def _compile_beside() -> None:
    """Have a process of its own compile the kernels, if a core is left for it; who needs them before waits for it."""
    if cores() > 1:
        compiler = pool(1)
        compiler.submit(_compile)
        compiler.shutdown(wait=False)  # once it has done that


@contextlib.contextmanager
def _feature_reader(job: Job) -> Iterator["FeatureReader"]:
    from hicl.pipeline import features, service

    if job.service is not None:
        with service.feature_reader(job.service) as reader:
            yield reader
    else:
        teacher = load_teacher(job.teacher, job.device)

        def request(pixels: np.ndarray) -> Callable[[], "Features"]:
            found = teacher.encode_pixels(pixels)
            return lambda: found

        yield features.FeatureReader(teacher.patches, request, teacher.batch or features.IMAGES_AT_ONCE)


def _published_arrays(published: SceneReader | None, names: list[str]) -> dict[str, np.ndarray]:
    """Copies: a kernel compiled for writable arrays doesn't take read-only ones."""
    return {name: published.read(name).copy() for name in names if published.has(name)} if published else {}


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
    try:
        return Teacher(config, checked_device(device))
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise HiclError(f"--device {device}: no room for the teacher ({reason}); use --device cpu") from None


def preprocess(
    source: Source,
    out: str | Path,
    config: PreprocessConfig,
    classes: ClassList,
    workers: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
    executor: Executor | None = None,
) -> Summary:
    """Bring the cache at `out`, a folder or an fsspec URL, up to date with a source.

    workers: processes of this machine; None: one a core. On a GPU, they share this process's teacher. executor: does
    the scenes instead of them; it has to reach the source's files, and the cache, by the same names.
    Raises `HiclError` where nothing can be done at all; a scene that fails is in the summary, and the others are
    published.
    """
    teacher = TeacherConfig(config.clip, config.weights, config.dense, config.short_side).absolute()
    if config.teacher == "labels":
        teacher = None
    identity = teacher.identity() if teacher else None
    text_fingerprint = fingerprint.text(identity, classes)
    summary = Summary()
    with CacheWriter(out, source.dataset) as writer:
        jobs = []
        for scene, split in source.scenes:
            fresh = replace(scene)  # with it goes what it reads of its files: nothing of it is kept here
            try:
                labels = _label_folder(config, scene.id, len(source.scenes) == 1)
                files = label_files(labels) if labels else []
                wanted = fingerprint.scene(fresh, source.root, config, identity, files, text_fingerprint)
            except HiclError as error:
                summary.failed[scene.id] = str(error)
                continue
            row = writer.rows.get(scene.id)
            have = manifest.fingerprints(row) if row else {}
            todo = frozenset(stage for stage in STAGES if wanted[stage] != have.get(stage))
            if not todo and row["split"] == split:
                summary.unchanged.append(scene.id)
                continue
            about = (wanted, todo, identity, device, _extent(fresh))
            jobs.append(Job(scene, split, source.root, out, config, teacher, labels, *about))
        try:
            if jobs:
                if teacher and executor is None:
                    checked_device(device)
                    _compile_beside()  # while this process loads the teacher
                text, about = _embed(writer, source, teacher, device, executor, classes, text_fingerprint)
                _say_disk(jobs, about["teacher"], writer, say)
                if text is not None:
                    writer.set_text(classes.names, text, text_fingerprint, about)
                run_jobs(jobs, writer, workers, executor, summary)
        finally:
            splits = {scene.id: split for scene, split in source.scenes}
            errors = dict.fromkeys([*summary.done, *summary.unchanged], "") | summary.failed
            if writer.root is not None:
                writer.write_manifest({scene_id: (splits[scene_id], error) for scene_id, error in errors.items()})
    return summary


def _label_folder(config: PreprocessConfig, scene_id: str, alone: bool) -> Path | None:
    """Where the label images of a scene are: in a folder of its own, or straight in --labels-dir of a lone scene."""
    if config.labels_dir is None:
        return None
    folder = Path(config.labels_dir).absolute()
    own = folder / scene_id
    return folder if alone and not own.is_dir() else own


def label_files(folder: Path) -> list[Path]:
    """The label images in a folder. Raises `HiclError` if there is none."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise HiclError(f"{folder}: no label images; --labels-dir holds <scene>/<frame>.png")
    return files


def _embed(
    writer, source, teacher, device, executor, classes: ClassList, text_fingerprint: str
) -> tuple[np.ndarray | None, dict]:
    """(embedding of the classes, root attributes); None and the cache's own if they are up to date. One-hot where no
    text was read: the classes are then an ordinary linear classifier's."""
    if writer.root is not None and writer.root["text_fingerprint"] == text_fingerprint:
        return None, writer.root
    about: dict = {"truth_classes": list(source.truth_classes), "teacher": None}
    if teacher is None:
        return np.eye(len(classes.names), dtype=np.float32), about
    model = load_teacher(teacher, device if executor is None else "auto")  # GPUs may be the executor's alone
    embedding = model.encode_classes(classes)
    about["teacher"] = teacher.identity() | {
        "dim": embedding.shape[1],
        "patch": list(model.patches.patch),
        "short_side": model.patches.short_side,
    }
    return embedding, about


def _extent(scene: Scene) -> Extent | None:
    """None where the scene can't be read: it is said when its turn comes."""
    from hicl.pipeline.datasets import ply

    try:
        meshes = [file for file in scene.point_files() if file.name.endswith(".ply")]
        camera = scene.color_camera
        n_points = ply.vertex_count(meshes[0]) if meshes else 150_000
        return Extent(len(scene.frame_ids), n_points, camera.height, camera.width)
    except HiclError:
        return None


def _say_disk(jobs: list[Job], teacher: dict | None, writer: CacheWriter, say: Callable[[str], None]) -> None:
    """Say what the stages to be done will take, and refuse where it can't fit. An estimate: a frame sees a fifth, and
    arrays shrink as in `tests/benchmarks/bench_bytes.py`."""
    total = 0
    for job in jobs:
        if job.extent is None:
            continue
        n_frames, n_points, height, width = job.extent
        seen = n_frames * n_points // 5
        total += 20 * n_points * ("points" in job.todo) + n_points * ("sets" in job.todo)
        total += 3 * seen * ("views" in job.todo) + seen * ("labels" in job.todo)
        if teacher and "features" in job.todo:
            scale = teacher["short_side"] / min(height, width)
            cells = height * scale * width * scale / (teacher["patch"][0] * teacher["patch"][1])
            total += int(n_frames * cells * teacher["dim"])
    free = writer.store.free()
    left = f" ({_size(free)} free)" if free is not None else ""
    say(f"{len(jobs)} scenes to do, about {_size(total)} at {writer.path}{left}")
    if free is not None and total > free:
        raise HiclError(f"{writer.path}: about {_size(total)} are needed, {_size(free)} are free; use another disk")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def run_jobs(
    jobs: list[Job], writer: CacheWriter, workers: int | None, executor: Executor | None, summary: Summary
) -> None:
    """Process the jobs and publish what they staged; a scene that fails goes into the summary."""
    frames = {job.scene.id: job.extent.frames if job.extent else 0 for job in jobs}
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=sum(frames.values()), unit="frame", disable=None, smoothing=0.05))
        if executor is None:
            processes = min(workers or cores(), len(jobs))
            if processes > 1:
                jobs = _sharing_a_teacher(jobs, stack)
                executor = stack.enter_context(pool(processes))
        if executor is not None and jobs[0].service is None:
            load_teacher.cache_clear()  # each worker loads its own
        for job, result in completed(jobs, process_scene, executor, bar.update):
            scene_id = job.scene.id
            bar.set_description(f"scene {len(summary.done) + len(summary.failed) + 1}/{len(jobs)}")
            start = bar.n
            try:
                staged, skipped = result()
                writer.publish(scene_id, staged)
                summary.skipped[scene_id] = skipped
                summary.done.append(scene_id)
            except Exception as error:  # a defect of ours must not cost the other scenes
                summary.failed[scene_id] = _reason(scene_id, error)
            bar.update(frames[scene_id] - (bar.n - start))


def _sharing_a_teacher(jobs: list[Job], stack: contextlib.ExitStack) -> list[Job]:
    """The jobs, with one teacher in this process for all of them where it computes on a GPU."""
    teacher, device = jobs[0].teacher, jobs[0].device
    if teacher is None or not any("features" in job.todo for job in jobs) or not _is_gpu(device):
        return jobs
    from hicl.pipeline.service import TeacherService

    shared = stack.enter_context(TeacherService(load_teacher(teacher, device)))
    return [replace(job, service=shared.address) for job in jobs]


def _is_gpu(device: str) -> bool:
    return checked_device(device) == "cuda"


def _reason(scene_id: str, error: Exception) -> str:
    if isinstance(error, HiclError):
        return str(error)
    if was_killed(error):
        return f"{scene_id}: a worker was killed, likely for memory; use fewer --workers"
    if isinstance(error, OSError | MemoryError):
        return f"{scene_id}: {error or 'out of memory'}; free some, or use fewer --workers"
    return f"{scene_id}: unexpected {type(error).__name__}: {error}; please report it"
