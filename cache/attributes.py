"""What the attributes of a cache's groups must be; looked at wherever one is read."""

from pathlib import Path
from typing import Any

import numpy as np

from hicl.cache import storage
from hicl.cache.schema import COUNTS, FORMAT, MAX_CLASSES, MAX_ITEMS, STAGES, VERSION, VERSION_OF_GROUPS
from hicl.errors import HiclError
from hicl.read import parse_json


def attributes_of(content: bytes | None, where: str | Path) -> dict:
    """Attributes in the zarr.json of a group; `where` is the group. Raises `HiclError` if it is missing or no such."""
    if content is None:
        raise HiclError(f"{where}/zarr.json: missing; not a cache, or one that lost files: run `hicl preprocess` again")
    meta = parse_json(content, f"{where}/zarr.json")
    attributes = meta.get("attributes", {}) if isinstance(meta, dict) else None
    if not isinstance(attributes, dict):
        raise HiclError(f"{where}/zarr.json: not the metadata of a Zarr group; delete {where} and preprocess again")
    return attributes


def root_of(content: bytes | None, where: str | Path) -> dict:
    """Attributes in a cache's zarr.json. Raises `HiclError` unless it is one that this version knows."""
    root = attributes_of(content, where)
    if root.get("format") != FORMAT:
        raise HiclError(f"{where}: not a cache of hicl (format {root.get('format')!r}, expected {FORMAT!r})")
    if root.get("version") not in (VERSION, VERSION_OF_GROUPS):
        raise HiclError(
            f"{where}: cache version {root.get('version')}, this hicl knows {VERSION} and {VERSION_OF_GROUPS};"
            " preprocess into a new folder"
        )
    root = {"truth_classes": [], "teacher": None} | root
    sound = {
        "dataset": isinstance(root.get("dataset"), str),
        "classes": _are_names(root.get("classes")) and 0 < len(root["classes"]) <= MAX_CLASSES,
        "truth_classes": _are_names(root["truth_classes"]) and len(root["truth_classes"]) <= MAX_CLASSES,
        "text_fingerprint": isinstance(root.get("text_fingerprint"), str),
        "teacher": isinstance(root["teacher"], dict | None),
    }
    _assert_sound(sound, where)
    return root


def scene_attributes(content: bytes | None, where: str | Path) -> dict:
    """Attributes in a scene's zarr.json. Raises `HiclError` if one is missing or can't be."""
    attributes = {"skipped": {}, "split": "", "settings": {}, "teacher": None} | attributes_of(content, where)
    _assert_sound(_shared(attributes) | _own(attributes), where)
    return attributes


def group_attributes(content: bytes | None, where: str | Path) -> dict:
    """Attributes in the zarr.json of a group of scenes, with `items`, a dict a scene, which `item_attributes` looks at.
    Raises `HiclError` if one is missing or can't be."""
    attributes = {"split": "", "settings": {}, "teacher": None} | attributes_of(content, where)
    items = attributes.get("items")
    whole = isinstance(items, list) and 0 < len(items) <= MAX_ITEMS and all(isinstance(item, dict) for item in items)
    _assert_sound({"items": whole} | _shared(attributes), where)
    return attributes


def item_attributes(group: dict, number: int, where: str | Path) -> dict:
    """Those of one scene of a group, as `scene_attributes` gives them. Raises `HiclError`."""
    shared = {key: value for key, value in group.items() if key not in ("items", "skipped")}
    attributes = {"skipped": {}} | group["items"][number] | shared
    _assert_sound({f"{key} of item {number}": sound for key, sound in _own(attributes).items()}, where)
    return attributes


def _shared(attributes: dict) -> dict[str, bool]:
    """Whether what the scenes of a group share is as it must be."""
    stages = attributes.get("stages")
    return {
        "stages": isinstance(stages, dict) and all(isinstance(stages.get(name), str) for name in (*STAGES, "text")),
        "split": isinstance(attributes["split"], str),
        "settings": isinstance(attributes["settings"], dict),
        "teacher": isinstance(attributes["teacher"], dict | None),
        "source": isinstance(attributes.get("source", ""), str),
    }


def _own(attributes: dict) -> dict[str, bool]:
    """Whether what each scene of a group has for itself is as it must be."""
    counts, names = attributes.get("counts"), attributes.get("frame_names", [])
    sizes = counts if isinstance(counts, dict) else {}
    return {
        "counts": isinstance(counts, dict)
        and all(type(counts.get(name)) is int and 0 <= counts[name] < 1 << 63 for name in COUNTS),
        "skipped": isinstance(attributes["skipped"], dict),
        "left_out": type(attributes.get("left_out", 0)) is int,
        "origin": _is_place(attributes.get("origin", [0, 0, 0])),
        "turn": _is_turn(attributes.get("turn", _NO_TURN)),
        "frame_names": _are_names(names) and len(names) in (0, sizes.get("frames")),
        "token": isinstance(attributes.get("token", ""), str),
    }


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) and abs(x) < 1e12 for x in value)


_NO_TURN = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def _is_turn(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_place, value)):
        return False
    rows = np.array(value, np.float64)
    return bool(np.abs(rows @ rows.T - np.eye(3)).max() < 1e-6 and np.linalg.det(rows) > 0)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _assert_sound(sound: dict[str, bool], where: str | Path) -> None:
    wrong = [key for key, value in sound.items() if not value]
    if wrong:
        raise HiclError(f"{where}/zarr.json: no such {wrong[0]} as cache/SPEC.md has; {storage.WAY_OUT}")
