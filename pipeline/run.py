"""`hicl preprocess`: scenes in, cache out. What is up to date is left alone; a scene is published whole or not at all.

`plan.py` finds what is to be done; `job.py` does it for one scene:
points → views (which point is seen at which pixel) and features (the teacher) → sets → labels, raw, voted and spread.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from hicl.cache.writer import CacheWriter
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.pipeline import fingerprint, plan
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Source
from hicl.pipeline.group import process_group
from hicl.pipeline.job import Job, Summary, load_teacher, process_scene, reason
from hicl.pipeline.teacher import hub
from hicl.pipeline.teacher.choice import TeacherConfig, with_templates
from hicl.pipeline.workers import completed
from hicl.processes import cores, pool
from hicl.progress import Progress


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
    teacher = None
    if config.teacher != "labels":
        own = {field.name: getattr(config, field.name) for field in dataclasses.fields(TeacherConfig)}
        teacher = TeacherConfig(**own).absolute()
    identity = teacher.identity() if teacher else None
    text_fingerprint = fingerprint.text(identity, classes)
    summary = Summary()
    with CacheWriter(out, source.dataset, source.grouped) as writer:
        jobs = plan.jobs(source, out, config, teacher, classes, text_fingerprint, device, writer, summary, say)
        try:
            if jobs:
                if teacher and executor is None:
                    _assert_weights(teacher, jobs, writer, text_fingerprint)
                    if device not in ("auto", "cpu"):
                        checked_device(device)  # before a process is started; it imports PyTorch, three seconds
                    _compile_beside()  # while this process loads the teacher
                text, about = _embed(writer, source, teacher, device, executor, classes, text_fingerprint)
                plan.say_disk(jobs, about["teacher"], writer, say)
                if text is not None:
                    writer.set_text(classes.names, text, text_fingerprint, about)
                if teacher and classes.folded:
                    folded = load_teacher(teacher, device if executor is None else "auto").encode_folded(classes)
                    jobs = [dataclasses.replace(job, folded=folded) for job in jobs]
                run_jobs(jobs, writer, workers, executor, summary)
        finally:
            splits = {scene.id: split for scene, split in source.scenes}
            errors = dict.fromkeys([*summary.done, *summary.unchanged], "") | summary.failed
            if writer.root is not None:
                writer.write_manifest({scene_id: (splits[scene_id], error) for scene_id, error in errors.items()})
    return summary


def _compile() -> None:
    from hicl.pipeline.warmup import compile_kernels

    compile_kernels()


@functools.cache
def _compile_beside() -> None:
    """Have a process of its own compile the kernels, where none is compiled yet and a core is left for it; who needs
    them before it has done so waits for it."""
    compiled = any((Path(__file__).parent / "kernels" / "__pycache__").glob("*.nbi"))
    if cores() > 1 and not compiled:
        compiler = pool(1)
        compiler.submit(_compile)
        compiler.shutdown(wait=False)  # once it has done that


def _assert_weights(teacher: TeacherConfig, jobs: list[Job], writer: CacheWriter, text_fingerprint: str) -> None:
    """Raise `HiclError` if the default teacher is needed and can't be had: in a second, before torch is imported."""
    embedded = writer.root is not None and writer.root["text_fingerprint"] == text_fingerprint
    needed = not embedded or any("features" in job.todo for job in jobs)
    if needed and (teacher.clip, teacher.weights) == hub.DEFAULT and not hub.cached(hub.DEFAULT_ENTRY):
        hub.assert_reachable(hub.DEFAULT_ENTRY, teacher.weights)


def _embed(
    writer: CacheWriter,
    source: Source,
    teacher: TeacherConfig | None,
    device: str,
    executor: Executor | None,
    classes: ClassList,
    text_fingerprint: str,
) -> tuple[np.ndarray | None, dict]:
    """(embedding of the classes, root attributes); None and the cache's own if they are up to date. One-hot where no
    text was read: the classes are then an ordinary linear classifier's."""
    truth = _truth_classes(source, writer)
    if writer.root is not None and (writer.root["text_fingerprint"], writer.root["truth_classes"]) == (
        text_fingerprint,
        truth,
    ):
        return None, writer.root
    about: dict = {"truth_classes": truth, "teacher": None}
    if teacher is None:
        return np.eye(len(classes.names), dtype=np.float32), about
    model = load_teacher(teacher, device if executor is None else "auto")  # GPUs may be the executor's alone
    embedding = model.encode_classes(classes)
    seen = {"dim": embedding.shape[1], "patch": list(model.patches.patch), "short_side": model.patches.short_side}
    about["teacher"] = with_templates(teacher.identity() | seen, teacher.templates)
    return embedding, about


def _truth_classes(source: Source, writer: CacheWriter) -> list[str]:
    """What ground truth counts in. Raises `HiclError` where that of the cache's other scenes counts otherwise."""
    own, known = list(source.truth_classes), list(writer.root["truth_classes"]) if writer.root else []
    if known and own and own != known and set(writer.rows) - {scene.id for scene, _ in source.scenes}:
        raise HiclError(f"{writer.path}: its ground truth counts in other classes; give another --out")
    return own or known


def run_jobs(
    jobs: list[Job], writer: CacheWriter, workers: int | None, executor: Executor | None, summary: Summary
) -> None:
    """Process the jobs and publish what they staged; a scene that fails goes into the summary."""
    frames = {job.scene.id: _passes(job) * (job.extent.frames if job.extent else 0) for job in jobs}
    twice = ", frames fused and read" if any(_passes(job) > 1 for job in jobs) else ""
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(f"scene 1/{len(jobs)}{twice}", sum(frames.values()), "frame"))
        if executor is None:
            processes = min(workers or cores(), len(jobs))
            if processes > 1:
                jobs = _sharing_a_teacher(jobs, stack)
                executor = stack.enter_context(pool(processes))
        if executor is not None and jobs[0].service is None:
            load_teacher.cache_clear()  # each worker loads its own
        work = process_group if writer.grouped else process_scene
        for number, (job, result) in enumerate(completed(jobs, work, executor, bar.update), 1):
            scene_id = job.scene.id
            bar.title = f"scene {number}/{len(jobs)}{twice}"
            start = bar.done
            try:
                staged, summary.skipped[scene_id], seen, summary.doubts[scene_id], summary.faults[scene_id] = result()
                writer.publish(scene_id, staged)
                if seen is not None:
                    summary.seen[scene_id] = seen
                summary.done.append(scene_id)
            except Exception as error:  # a defect of ours must not cost the other scenes
                summary.failed[scene_id] = reason(scene_id, error)
            bar.update(frames[scene_id] - (bar.done - start))


def _passes(job: Job) -> int:
    """How often its frames are gone through."""
    return 2 if job.todo & {"points", "sets"} and getattr(job.scene, "fuses", False) else 1


def _sharing_a_teacher(jobs: list[Job], stack: contextlib.ExitStack) -> list[Job]:
    """The jobs, with one teacher in this process for all of them where it computes on a GPU."""
    teacher, device = jobs[0].teacher, jobs[0].device
    if teacher is None or not any("features" in job.todo for job in jobs) or not _is_gpu(device):
        return jobs
    from hicl.pipeline.teacher.service import TeacherService

    shared = stack.enter_context(TeacherService(load_teacher(teacher, device)))
    return [replace(job, service=shared.address) for job in jobs]


def _is_gpu(device: str) -> bool:
    return checked_device(device) == "cuda"
