"""Fingerprints: what a stage's output depends on, hashed. Equal fingerprint, equal bytes; so it is never done again.

A stage's fingerprint takes in those of the stages it reads from, so a change runs down the chain by itself:

    points ──┬───────────┬─→ sets ─┐
             ├─→ views ──┴─────────┼─→ labels
    frames ──┴─→ features ─────────┤
    class list + teacher: text ────┘

Files count by name, size and time of change, as for make: reading terabytes of recordings to learn that nothing is to
be done would be no better than doing it.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig, own
from hicl.pipeline.datasets.scene import Group, Scene
from hicl.pipeline.teacher.choice import of_images
from hicl.pipeline.teacher.prompts import SCENE_TEMPLATES

# Raised by hand when a stage's code changes what it writes.
_CODE = {"points": 3, "views": 1, "sets": 3, "features": 3, "labels": 3, "text": 2}


def digest(**parts: Any) -> str:
    """16 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def files(paths: list[Path], root: Path) -> list[tuple[str, int, int]]:
    """(name below root, bytes, time of change in ns) of each file; a missing one is listed with -1."""
    listed, top = [], f"{root}{os.sep}"
    for path in map(str, paths):  # ScanNet has 75,000 of them: pathlib's and relpath's care takes seconds
        name = path.removeprefix(top) if path.startswith(top) else os.path.relpath(path, root)
        try:
            stat = os.stat(path)
            listed.append((name, stat.st_size, stat.st_mtime_ns))
        except OSError:
            listed.append((name, -1, -1))
    return listed


def text(teacher: dict | None, classes: ClassList) -> str:
    """Fingerprint of the class list and what embeds it (`TeacherConfig.identity`, or None for label images)."""
    return digest(
        code=_CODE["text"],
        classes=classes.names,
        prompts=classes.prompts if teacher else None,
        templates=SCENE_TEMPLATES if teacher else None,
        teacher=teacher,
        **({"folded": classes.folded} if teacher and classes.folded else {}),
    )


def scene(
    scene: Scene | Group,
    root: Path,
    config: PreprocessConfig,
    teacher: dict | None,
    label_files: list[Path],
    mask_files: list[Path],
    text: str,
) -> dict[str, str]:
    """Fingerprint of each stage of a scene, and of the text it is labelled with."""
    if not isinstance(scene, Group):
        frames = digest(files=files(scene.frame_files(), root), step=getattr(scene, "frame_step", 1))
    else:  # which of its items can be used hangs on all of its files
        every = files(scene.frame_files() + scene.point_files(), root)
        frames = digest(files=every, tables=scene.described)
    points = digest(
        code=_CODE["points"],
        files=files(scene.point_files(), root),
        own=own(config),
        label_ids=config.label_ids,
        **({"frames": frames} if isinstance(scene, Group) else {}),
    )
    grows: dict = {"gap_growth": config.gap_growth} if config.gap_growth else {}  # caches from before it had none
    if mask_files:
        grows["masks"] = files(mask_files, root)
    about = grows if teacher else grows | {"colors": False}  # a frame whose image doesn't decode is then used
    views = digest(code=_CODE["views"], points=points, frames=frames, max_gap=config.max_gap, own=own(config), **about)
    sets = digest(
        code=_CODE["sets"],
        points=points,
        sets=config.sets,
        k_threshold=config.k_threshold,
        min_size=config.min_size,
        **({} if isinstance(scene, Group) else {"views": views}),  # a cloud's normals are turned to what sees them
    )
    if teacher:
        features = digest(code=_CODE["features"], frames=frames, teacher=of_images(teacher))
    else:
        labels = files(label_files, root)
        features = digest(code=_CODE["features"], frames=frames, labels=labels, ids=config.label_ids)
    stages = {"points": points, "views": views, "sets": sets, "features": features}
    return stages | relabelled(stages, config, text)


def relabelled(stages: dict[str, str], config: PreprocessConfig, text: str) -> dict[str, str]:
    """Fingerprints of the labels made with another text, and of that text, where the stages before them stay."""
    before: dict = {stage: stages[stage] for stage in ("views", "sets", "features")}
    if config.masks != "before":
        before["masks"] = config.masks
    if config.prompt_denoising:
        before["prompt_denoising"] = config.prompt_denoising
        if config.fit_temperature:
            before["fit_temperature"] = True
    return {"labels": digest(code=_CODE["labels"], text=text, vote=config.vote, **before), "text": text}
