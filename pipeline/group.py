"""Bringing a group of key frames up to date: what a worker does where a scene is a drive, and not one surface.

Each key frame is a scene to whoever reads the cache, but a group is stored together and published whole.
"""

import contextlib
import os
from collections.abc import Callable

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.cache.schema import SCENE_ARRAYS, STAGES
from hicl.cache.writer import staging
from hicl.config import recorded
from hicl.errors import FrameError, HiclError
from hicl.pipeline import coverage
from hicl.pipeline.datasets.namings import image_files
from hicl.pipeline.datasets.scene import Group, Item, unread
from hicl.pipeline.job import Job, Staged, feature_reader, published_arrays

Arrays = dict[str, np.ndarray]
Made = tuple[Arrays, dict]
"""An item's new arrays, and the attributes that are its own: `token`, `skipped` (channel → why), `frame_names` (the
channels of its views), `images` (their files' names) and `hidden` (pairs that an occlusion took away)."""


def process_group(job: Job, tick: Callable[[], None] = lambda: None) -> Staged:
    """Run the stages of a group that are not up to date and stage it; an item that can't be used is passed over.

    Raises `HiclError` where none can; nothing of the group is published then.
    """
    from hicl.pipeline.warmup import compile_kernels

    compile_kernels()
    with staging(job.cache) as stage:
        published = stage.cache.group(job.scene.id) if set(STAGES) - job.todo else None
        text = stage.cache.text.copy()
        if published:
            made, skipped, about = _renewed(job, published, text, tick)
        else:
            made, skipped, about = _new(job, text, tick)
        attributes = {
            "source": about,
            "split": job.split,
            "stages": job.fingerprints,
            "passed_over": skipped,
            "teacher": job.identity,
            "settings": recorded(job.config),
        }
        keep = [name for name in _kept_names(job) if published and published[0].has(name)]
        name = stage.build_group(job.scene.id, made, attributes, keep)
    for number, (_, own) in enumerate(made):
        skipped = skipped | {f"{number} {channel}": why for channel, why in own["skipped"].items()}
    return Staged(name, skipped, None if published else _seen(made), [])


def _new(job: Job, text: np.ndarray, tick: Callable[[], None]) -> tuple[list[Made], dict[str, str], str]:
    """(all items that can be used, why others can't, the group's source)."""
    group: Group = unread(job.scene)
    made: list[Made] = []
    skipped: dict[str, str] = {}
    for item in group.items:
        try:
            arrays, own = _seen_anew(job, item, tick)
            made.append((arrays | _labels(job, arrays, own, text), own))
        except HiclError as error:
            skipped[item.id] = _below_root(job, error)
    if not made:
        first = next(iter(skipped.values()), "the tables list none")
        raise HiclError(f"{group.id}: none of its {len(skipped)} key frames can be used; the first: {first}")
    return made, skipped, group.source


def _renewed(
    job: Job, published: list[SceneReader], text: np.ndarray, tick: Callable[[], None]
) -> tuple[list[Made], dict[str, str], str]:
    """The same of a group of which some stages are up to date: its items are those that are published, as whatever says
    which can be used would have had all of them made anew."""
    items: dict[str, Item] = {}
    if job.todo != {"labels"}:
        group: Group = unread(job.scene)
        items = {item.token: item for item in group.items}
    made: list[Made] = []
    for old in published:
        kept = published_arrays(old, _kept_names(job))
        arrays: Arrays = {}
        own = {name: old.attributes[name] for name in _OWN if name in old.attributes}
        if job.todo != {"labels"}:
            arrays, seen = _seen_anew(job, items[own["token"]], tick)
            own |= seen
        if "labels" in job.todo:
            arrays |= _labels(job, kept | arrays, own, text)
        made.append((arrays, own))
    about = published[0].attributes
    return made, about.get("passed_over", {}), about.get("source", "")


_OWN = ("token", "skipped", "frame_names", "images", "hidden")


def _kept_names(job: Job) -> list[str]:
    return [name for name, spec in SCENE_ARRAYS.items() if spec.stage not in job.todo]


def _seen_anew(job: Job, item: Item, tick: Callable[[], None]) -> Made:
    """What is to be made anew of an item, labels apart: points and sets; views and features in one pass over its
    images. Raises `HiclError` where it can't be used."""
    from hicl.pipeline import lidar, stages

    arrays: Arrays = {}
    own: dict = {}
    with_views, with_features = "views" in job.todo, "features" in job.todo and job.teacher is not None
    points = item.points() if job.todo & {"points", "sets", "views"} else None
    if points is not None and "points" in job.todo:
        arrays |= stages.make_sweep(points)
    if points is not None and "sets" in job.todo:
        arrays |= stages.make_sweep_sets(points, job.config)
    if not (with_views or with_features):
        return arrays, own
    skipped: dict[str, str] = {}
    cameras, pairs, hidden = [], [], 0
    with feature_reader(job) if with_features else contextlib.nullcontext() as reader:
        for channel in item.channels:
            tick()
            try:
                image, camera, pose = item.image(channel)
                if points is not None and with_views:
                    sensor = points.sensor if item.occlusion else None
                    point, pixel, more = lidar.project(points.xyz, points.valid, pose, camera, sensor)
                    pairs.append((point, pixel))
                    hidden += more
            except FrameError as error:
                skipped[channel] = _below_root(job, error)
                continue
            cameras.append((channel, camera, pose))
            if reader is not None:
                reader.add(image)
        if not cameras:
            raise HiclError(f"{item.id}: no image; {next(iter(skipped.values()), 'the tables list none')}")
        if reader is not None:
            arrays["features/grid"], arrays["features/scale"] = reader.features()
    if with_views:
        arrays |= stages.make_camera_views([(camera, pose) for _, camera, pose in cameras], pairs)
        channels = [channel for channel, _, _ in cameras]
        own = {"token": item.token, "skipped": skipped, "frame_names": channels, "hidden": hidden}
        own["images"] = [item.image_name(channel) for channel in channels]
    return arrays, own


def _labels(job: Job, known: Arrays, own: dict, text: np.ndarray) -> Arrays:
    from hicl.pipeline import refine, segmented, stages

    if job.labels is None:
        raw, votes = stages.label_from_features(text, known, job.config, job.folded)
    else:
        images = image_files(job.labels, "--labels-dir")
        raw = segmented.labels_at(images, job.classes, job.config.label_ids, own["images"], known)
        votes = refine.count(raw, known["pairs/point"], known["sets/id"], len(job.classes))
    return stages.make_labels(raw, votes, known, job.config)


def _below_root(job: Job, error: HiclError) -> str:
    return str(error).replace(f"{job.root}{os.sep}", "")


def _seen(made: list[Made]) -> coverage.Seen:
    """How much of the points that take part the cameras see."""
    points = covered = pairs = 0
    for arrays, _ in made:
        points += int(np.count_nonzero(arrays["points/valid"]))
        covered += len(np.unique(arrays["pairs/point"]))
        pairs += len(arrays["pairs/point"])
    return coverage.Seen(points, covered, pairs)
