"""`hicl relabel`: other words for a cache whose images are no longer needed.

Of all stages only the labels depend on the class list, and the teacher's patch grids are in the cache. The result is
the cache, byte for byte, that `hicl preprocess` makes with the same words.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.config import settings_of, updated
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.pipeline import datasets, fingerprint
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.job import Extent, Job, Summary, load_teacher
from hicl.pipeline.run import run_jobs
from hicl.pipeline.teacher.choice import TeacherConfig, of_images, same_teacher, with_templates


@dataclass(frozen=True)
class _Cached:
    """A scene of which only the cache is at hand."""

    id: str


def relabel(
    path: str | Path,
    classes: ClassList,
    vote: str | None = None,
    clip: str | None = None,
    weights: str | None = None,
    templates: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    executor: Executor | None = None,
) -> Summary:
    """Make the labels of all scenes of a cache anew, from its features.

    Args:
        classes: at most 255.
        vote: "image", "scene" or "scores"; None: as it was.
        clip, weights: the teacher's, where it came from files.
        templates: "all" or "none"; None: as it was.
        workers, executor: as of `run.preprocess`.

    Raises:
        HiclError: no cache, one without features, another teacher. A scene that fails is in the summary.
    """
    cache = open_cache(path)
    teacher = same_teacher(cache.teacher, str(path), clip, weights).absolute()
    own_device = device if executor is None else "auto"  # GPUs may be the executor's alone
    checked_device(own_device)
    summary = Summary()
    with CacheWriter(path, cache.dataset, cache.grouped) as writer:
        published, root = dict(writer.published()), writer.root or cache.root
        identity = _identity(published, root["text_fingerprint"], teacher)
        if identity is None:
            raise HiclError(f"{path}: no scene holds features of its teacher; run `hicl preprocess` again")
        templates = templates or identity.get("templates", TeacherConfig.templates)
        identity, teacher = with_templates(identity, templates), replace(teacher, templates=templates)
        text_fingerprint = fingerprint.text(identity, classes)
        jobs = []
        for scene, attributes in published.items():
            if of_images(attributes.get("teacher")) != of_images(identity):
                summary.failed[scene] = f"{path}: scene {scene}: seen by another teacher; preprocess it again"
                continue
            try:
                config = _settings(cache.dataset, attributes["settings"], f"{path}: scene {scene}: settings")
            except HiclError as error:
                summary.failed[scene] = str(error)
                continue
            config = replace(config, vote=vote or config.vote, templates=templates)
            wanted = attributes["stages"] | fingerprint.relabelled(attributes["stages"], config, text_fingerprint)
            if wanted == attributes["stages"]:
                summary.unchanged.append(scene)
                continue
            about = (
                classes.names,
                wanted,
                frozenset({"labels"}),
                identity,
                device,
                Extent(sum(one["counts"]["frames"] for one in attributes.get("items", [attributes]))),
            )
            split = attributes["split"]
            cached: Any = _Cached(scene)  # all that the stage of labels asks for
            jobs.append(Job(cached, split, Path(), path, config, teacher, None, *about))
        try:
            if root["text_fingerprint"] != text_fingerprint and jobs:
                text = load_teacher(teacher, own_device).encode_classes(classes)
                told = {"truth_classes": root["truth_classes"], "teacher": with_templates(root["teacher"], templates)}
                writer.set_text(classes.names, text, text_fingerprint, told)
            if jobs and classes.folded:
                folded = load_teacher(teacher, own_device).encode_folded(classes)
                jobs = [replace(job, folded=folded) for job in jobs]
            if jobs:
                run_jobs(jobs, writer, workers, executor, summary)
        finally:
            # What a preprocess said of a scene that failed stays said: its labels are new, its scan isn't. What failed
            # here is stale, and done again by the next run.
            writer.write_manifest({})
    return summary


def _settings(dataset: str, recorded: dict, where: str) -> PreprocessConfig:
    """Those that a scene was made with, its data set's own too: they are recorded again. Raises `HiclError`."""
    kind = datasets.load(dataset).Settings if dataset in datasets.DATASETS else PreprocessConfig
    known = {setting.key for setting in settings_of(kind)}
    return updated(kind(), {k: v for k, v in recorded.items() if k in known and v is not None}, where)


def _identity(published: dict[str, dict], text_fingerprint: str, teacher: TeacherConfig) -> dict | None:
    """What the teacher of a cache's current scenes was asked for; with none left, as after a break, of any scene."""
    model = teacher.identity()
    for scene in sorted(published.values(), key=lambda scene: scene["stages"]["text"] != text_fingerprint):
        identity = scene.get("teacher")
        if identity and all(identity.get(key) == model[key] for key in ("clip", "weights")):
            return identity
    return None
