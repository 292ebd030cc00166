"""`hicl relabel`: other words for a cache whose images are no longer needed.

Of all stages only the labels depend on the class list, and the teacher's patch grids are in the cache. The result is
the cache, byte for byte, that `hicl preprocess` makes with the same words.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hicl.cache.reader import open_cache
from hicl.cache.writer import CacheWriter
from hicl.devices import checked_device
from hicl.pipeline import fingerprint
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.maskclip import Teacher
from hicl.pipeline.prompts import ClassList
from hicl.pipeline.run import Job, Summary, run_jobs
from hicl.pipeline.teacher import same_teacher
from hicl.processes import cores


@dataclass(frozen=True)
class _Cached:
    """A scene of which only the cache is at hand."""

    id: str
    frame_ids: np.ndarray


def relabel(
    path: Path,
    classes: ClassList,
    vote: str | None = None,
    clip: str | None = None,
    weights: str | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> Summary:
    """Make the labels of all scenes of a cache anew, from its features.

    Args:
        classes: at most 255.
        vote: "image" or "scene"; None: as it was.
        clip, weights: the teacher's, where it came from files.

    Raises:
        HiclError: no cache, one without features, another teacher. A scene that fails is in the summary.
    """
    cache = open_cache(path)
    teacher = same_teacher(cache.teacher, str(path), clip, weights)
    text_fingerprint = fingerprint.text(teacher.identity(), classes)
    summary = Summary()
    with CacheWriter(path, cache.dataset) as writer:
        jobs = []
        for scene in writer.published():
            attributes = writer.attributes(scene)
            settings = attributes["settings"] | ({"vote": vote} if vote else {})
            config = PreprocessConfig(**settings)
            wanted = attributes["stages"] | fingerprint.relabelled(attributes["stages"], config, text_fingerprint)
            if wanted == attributes["stages"]:
                summary.unchanged.append(scene)
                continue
            frames = _Cached(scene, np.empty(attributes["counts"]["frames"]))
            todo = frozenset({"labels"})
            jobs.append(Job(frames, attributes["split"], path, path, config, teacher, [], wanted, todo))
        if not jobs:
            return summary
        if writer.root["text_fingerprint"] == text_fingerprint:
            text = cache.text.copy()
        else:
            text = Teacher(teacher, checked_device(device)).encode_classes(classes)
            about = {key: writer.root[key] for key in ("truth_classes", "teacher")}
            writer.set_text(classes.names, text, text_fingerprint, about)
        try:
            run_jobs([replace(job, text=text) for job in jobs], writer, workers or cores(), summary)
        finally:
            splits = {scene: writer.attributes(scene)["split"] for scene in writer.published()}
            errors = dict.fromkeys([*summary.done, *summary.unchanged], "") | summary.failed
            writer.write_manifest({scene: (splits[scene], error) for scene, error in errors.items()})
    return summary
