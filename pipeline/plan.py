"""What is to be done: a job for each scene that isn't up to date, found before anything heavy is loaded."""

from collections.abc import Callable
from pathlib import Path

from hicl.cache import manifest
from hicl.cache.schema import STAGES
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.pipeline import fingerprint
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.namings import image_files
from hicl.pipeline.datasets.scene import Group, Scene, Source, unread
from hicl.pipeline.job import Extent, Job, Summary, reason
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.progress import counted


def jobs(
    source: Source,
    out: str | Path,
    config: PreprocessConfig,
    teacher: TeacherConfig | None,
    classes: ClassList,
    text_fingerprint: str,
    device: str,
    writer: CacheWriter,
    summary: Summary,
    say: Callable[[str], None],
) -> list[Job]:
    """The jobs of the scenes that are not up to date; the others, and those that can't be read, go into the summary."""
    identity = teacher.identity() if teacher else None
    found = []
    for scene, split in source.scenes:
        fresh = unread(scene)
        try:
            lacking = fresh.missing()
            alone = len(source.scenes) == 1
            labels, masks = (_folder_of(scene.id, given, alone) for given in (config.labels_dir, config.masks_dir))
            if masks and isinstance(fresh, Group):
                raise HiclError(f"{scene.id}: --masks-dir is for frames of rooms; leave it out")
            files = image_files(labels, "--labels-dir") if labels else []
            mask_files = image_files(masks, "--masks-dir") if masks else []
            wanted = fingerprint.scene(fresh, source.root, config, identity, files, mask_files, text_fingerprint)
            row = writer.rows.get(scene.id)
            have = manifest.fingerprints(row) if row else {}
            todo = frozenset(stage for stage in STAGES if wanted[stage] != have.get(stage))
            if row and not todo and row["split"] == split:
                summary.unchanged.append(scene.id)
                continue
            if "points" in todo:
                _assert_same_scan(writer, fresh)
            extent = _extent(fresh)
        except Exception as error:  # as in a worker: a scene that can't be planned fails alone
            summary.failed[scene.id] = reason(scene.id, error)
            continue
        if lacking:
            say(f"{scene.id}: {len(lacking)} of {len(fresh.frame_ids)} frames lack a file; the first: {lacking[0]}")
        about = (classes.names, wanted, todo, identity, device, extent)
        found.append(Job(scene, split, source.root, out, config, teacher, labels, *about, masks=masks))
    return found


def _folder_of(scene_id: str, given: str | None, alone: bool) -> Path | None:
    """Where a segmenter's images of a scene are: in a folder of its own, or, of a lone scene, straight in the given."""
    if given is None:
        return None
    folder = Path(given).absolute()
    own = folder / scene_id
    return folder if alone and not own.is_dir() else own


def _extent(scene: Scene | Group) -> Extent:
    """Raises `HiclError` where the scene can't be read: then nothing heavy is loaded for it."""
    from hicl.pipeline.datasets import ply

    camera = scene.color_camera
    if isinstance(scene, Group):
        return Extent(len(scene.frame_ids), scene.n_points, camera.height, camera.width, pairs=scene.n_points)
    meshes = [file for file in scene.point_files() if file.suffix.lower() == ".ply"]
    n_points = ply.vertex_count(meshes[0]) if meshes else 150_000
    return Extent(len(scene.frame_ids), n_points, camera.height, camera.width)


def _assert_same_scan(writer: CacheWriter, scene: Scene | Group) -> None:
    """Raises `HiclError` where the cache has another scan by this scene's name."""
    published = writer.attributes(scene.id)
    if published is not None and published.get("source", scene.source) != scene.source:
        raise HiclError(
            f"{writer.path}: its scene {scene.id} is {published['source']}, not {scene.source}; give another --out, or "
            "the folder above both as --root"
        )


def say_disk(jobs: list[Job], teacher: dict | None, writer: CacheWriter, say: Callable[[str], None]) -> None:
    """Say what the stages to be done will take, and refuse where it can't fit. An estimate: a frame sees a fifth, and
    arrays shrink as in `tests/benchmarks/bench_bytes.py`."""
    total = 0
    for job in jobs:
        if job.extent is None:
            continue
        n_frames, n_points, height, width, seen = job.extent
        seen = n_frames * n_points // 5 if seen is None else seen
        total += 20 * n_points * ("points" in job.todo) + n_points * ("sets" in job.todo)
        total += 3 * seen * ("views" in job.todo) + seen * ("labels" in job.todo)
        if teacher and "features" in job.todo:
            scale = teacher["short_side"] / min(height, width)
            cells = height * scale * width * scale / (teacher["patch"][0] * teacher["patch"][1])
            total += int(n_frames * cells * teacher["dim"])
    free = writer.store.free()
    left = f" ({_size(free)} free)" if free is not None else ""
    say(f"{counted(len(jobs), 'scene')} to do, about {_size(total)} at {writer.path}{left}")
    if free is not None and total > free:
        raise HiclError(f"{writer.path}: about {_size(total)} are needed, {_size(free)} are free; use another disk")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
