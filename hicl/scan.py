"""What `hicl scan` leaves of each scene of a cache: a labelled cloud, its objects, a picture, a page; and a summary."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hicl import formats
from hicl.cache.opening import open_cache
from hicl.cache.reader import SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.export import Labels, labelled_scene, objects_of
from hicl.export import told as told_of_file
from hicl.figure import scene_figure
from hicl.files import replacing
from hicl.objects import table
from hicl.pipeline.report import point_labels
from hicl.read import read_bytes

CACHE, SUMMARY = "cache", "summary.json"
_CODE = 1  # raised by hand when what is written of a scene changes


def write_results(out: Path, scene_ids: list[str], say: Callable[[str], None]) -> None:
    """Write the results of these scenes of the cache in `out`; nothing of one that is as it was when they were written.

    say: gets a line about each file. Raises `HiclError`.
    """
    cache = open_cache(out / CACHE)
    before = _read(out / SUMMARY)
    summary = {scene_id: before[scene_id] for scene_id in cache.scene_ids() if scene_id in before}
    for scene_id in scene_ids:
        scene = cache.scene(scene_id)
        made_of = f"{_CODE}-{scene.fingerprint}"
        known = before.get(scene_id, {})
        if known.get("made_of") == made_of and all((out / name).exists() for name in known["files"]):
            say(f"{scene_id}: up to date, {', '.join(known['files'])} in {out}")
            continue
        summary[scene_id] = _measured(scene, cache.classes) | {"files": _write(out, scene_id, say), "made_of": made_of}
        for line in told(scene_id, summary[scene_id]):
            say(line)
    with replacing(out / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")


def told(scene_id: str, found: dict[str, Any], most: int = 8) -> list[str]:
    """A scene's part of the summary as lines, the largest classes first."""
    lines = [
        f"{scene_id}: {found['points']:,} points in {found['sets']:,} sets, {100 * found['seen']:.1f} % seen by "
        f"{found['frames']:,} frames, {found['skipped']} skipped"
    ]
    shown = list(found["classes"].items())[:most]
    width = max((len(name) for name, _ in shown), default=0)
    lines += [f"  {name:{width}} {100 * share:5.1f} %" for name, share in shown]
    return lines + [f"  and {len(found['classes']) - most} smaller ones"] * (len(found["classes"]) > most)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bytes(path))
        return {scene: about for scene, about in found.items() if isinstance(about.get("files"), list)}
    except (ValueError, AttributeError):
        raise HiclError(f"{path}: not a summary of `hicl scan`; remove it, or choose another --out") from None


def _write(out: Path, scene_id: str, say: Callable[[str], None]) -> list[str]:
    """The files of a scene; their names in `out`."""
    from hicl.viewer import layers, page, server

    where = out / CACHE
    names = [f"{scene_id}.{kind}" for kind in ("ply", "csv", "glb", "png", "html")]
    cloud, objects, web, picture, look = (out / name for name in names)
    cache = open_cache(where)
    scene = cache.scene(scene_id)
    labelled = labelled_scene(cache, scene, Labels())
    instance, found = objects_of(cache, scene, labelled)
    for path in (cloud, web):
        formats.write(path, replace(labelled, instance=instance))
        say(f"written: {told_of_file(path, labelled, scene)}")
    with replacing(objects) as temporary:
        temporary.write_text(table(found, cache.classes, scene.origin), encoding="utf-8")
    say(f"written: {objects}: {len(found)} objects")
    say(f"written: {scene_figure(where, scene_id, None, picture, 'cpu')}")
    try:
        server.viser()
    except HiclError as missing:
        say(f"no page to look around in: {missing}")
        return names[:-1]
    seen = layers.load(where, scene_id, None, None, None).thinned(_POINTS)
    say(f"written: {page.write_page(seen, look, _FIRST)}")
    return names


_FIRST, _POINTS = "spread labels", 1_000_000


def _measured(scene: SceneReader, classes: tuple[str, ...]) -> dict[str, Any]:
    """points, frames, sets: how many; seen: share of the points; classes: share of the labelled points of each."""
    labels, _ = point_labels(scene)
    label = labels["spread"][labels["spread"] != NO_LABEL]
    shares = np.bincount(label, minlength=len(classes)) / max(len(label), 1)
    order = np.argsort(-shares, kind="stable")
    counts, levelled = scene.attributes["counts"], {}
    if "turn" in scene.attributes:  # from the capture's own frame to that of what is written
        there = np.eye(4)
        there[:3, :3], there[:3, 3] = scene.turn, scene.origin - scene.turn @ scene.origin
        levelled = {"levelled": there.tolist()}
    return {
        **{name: counts[name] for name in ("points", "frames", "sets")},
        "skipped": len(scene.attributes.get("skipped", {})),
        "seen": round(float((labels["refined"] != NO_LABEL).mean()), 4),
        **levelled,
        "classes": {classes[index]: round(float(shares[index]), 4) for index in order if shares[index]},
    }
