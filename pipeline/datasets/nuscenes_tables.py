"""nuScenes' tables, joined: for each scene its key frames, with what each sensor recorded, when, and from where.

Of millions of rows only those of the wanted scenes become Python's, and of those only what is needed. In the tables
each row is named by a token, and names others by theirs.
"""

import bisect
import contextlib
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.tables import Texts, columns, rows

LIDAR = "LIDAR_TOP"


class Place(NamedTuple):
    """Where something is, in a frame: a quaternion (w, x, y, z) and a translation in metres, as they are written."""

    rotation: tuple[float, ...]
    translation: tuple[float, ...]


class Mount(NamedTuple):
    """A sensor of one scene: its channel, its place on the car, and of a camera the rows of its 3 x 3 intrinsics."""

    channel: str
    place: Place
    intrinsics: tuple[tuple[float, ...], ...]


class Shot(NamedTuple):
    """What a sensor recorded at a time (microseconds): file below the root, where the car was in the world, and of a
    camera the image's (height, width)."""

    token: str
    file: str
    time: int
    ego: Place
    mount: Mount
    size: tuple[int, int]


class KeyFrame(NamedTuple):
    """A sample. earlier: the sweeps before it, latest first. labels: lidarseg's file below the root, None without."""

    lidar: Shot | None
    earlier: tuple[Shot, ...]
    cameras: tuple[Shot, ...]
    labels: str | None


def scene_names(folder: Path) -> dict[str, str]:
    """Token of each scene of a version by its name, in the table's order. Raises `HiclError`."""
    found = columns(folder / "scene.json", ("token", "name"))
    return dict(zip(found["name"], found["token"], strict=True))


def key_frames(folder: Path, scenes: Sequence[str], sweeps: int) -> list[list[KeyFrame]]:
    """The key frames of each of some scenes (tokens), in order of time, each with up to `sweeps` earlier sweeps.

    folder: of the version's tables. Raises `HiclError` for a table that is missing, damaged or names what isn't there.
    """
    with _uncollected():
        return _key_frames(folder, scenes, sweeps)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for garbage again and again while a million objects are made, none of which is any."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _key_frames(folder: Path, scenes: Sequence[str], sweeps: int) -> list[list[KeyFrame]]:
    mounts, mounted = _mounts(folder)
    samples, scene_of, times = _samples(folder, scenes)
    taken = _taken(folder, mounts, mounted, samples, with_sweeps=sweeps > 0)
    labels = _label_files(folder, [shot.token for _, shot, is_key in taken if is_key and shot.mount.channel == LIDAR])
    at: list[dict[str, Shot]] = [{} for _ in times]
    passing: list[list[Shot]] = [[] for _ in scenes]
    for sample, shot, is_key in taken:
        if is_key:
            at[sample][shot.mount.channel] = shot
        if shot.mount.channel == LIDAR:
            passing[scene_of[sample]].append(shot)
    found: list[list[KeyFrame]] = [[] for _ in scenes]
    channels = sorted({mount.channel for mount in mounts}, key=_around)
    for shots in passing:
        shots.sort(key=lambda shot: shot.time)
    for sample in sorted(range(len(times)), key=times.__getitem__):
        own = at[sample]
        lidar = own.pop(LIDAR, None)
        cameras = tuple([own[channel] for channel in channels if channel in own])
        earlier: list[Shot] = []
        if lidar is not None and sweeps:
            all_of_scene = passing[scene_of[sample]]
            place = bisect.bisect_left(all_of_scene, lidar.time, key=lambda shot: shot.time)
            earlier = all_of_scene[max(0, place - sweeps) : place][::-1]
        found[scene_of[sample]].append(
            KeyFrame(lidar, tuple(earlier), cameras, labels.get(lidar.token) if lidar else None)
        )
    return found


_CLOCKWISE = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")


def _around(channel: str) -> tuple[int, str]:
    return (_CLOCKWISE.index(channel) if channel in _CLOCKWISE else len(_CLOCKWISE), channel)


def _mounts(folder: Path) -> tuple[list[Mount], Texts]:
    """Every mounting of the LiDAR and the cameras, and their tokens."""
    sensor = columns(folder / "sensor.json", ("token", "channel", "modality"))
    channel_of = {
        token: channel
        for token, channel, modality in zip(*sensor.values(), strict=True)
        if channel == LIDAR or modality == "camera"
    }
    if LIDAR not in channel_of.values():
        raise HiclError(f"{folder}/sensor.json: no {LIDAR}; not nuScenes' table")
    where = folder / "calibrated_sensor.json"
    found = columns(where, ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"))
    tokens, mounts = [], []
    for token, sensor_token, translation, rotation, intrinsic in zip(*found.values(), strict=True):
        if sensor_token in channel_of:
            tokens.append(token)
            place = _place(rotation, translation, where)
            mounts.append(Mount(channel_of[sensor_token], place, _rows_of(intrinsic, where)))
    return mounts, Texts(tokens)


def _samples(folder: Path, scenes: Sequence[str]) -> tuple[Texts, list[int], list[int]]:
    """Tokens of the scenes' samples, and the scene and time of each."""
    wanted, tokens, scene_of, times = Texts(scenes), [], [], []
    for some in rows(folder / "sample.json", ("token", "scene_token", "timestamp")):
        scene = some.among("scene_token", wanted)
        chosen = np.flatnonzero(scene >= 0)
        tokens += some.values("token", chosen)
        times += some.values("timestamp", chosen)
        scene_of += scene[chosen].tolist()
    return Texts(tokens), scene_of, times


_SHOWN = {"token": str, "filename": str, "timestamp": int, "height": int, "width": int, "ego_pose_token": str}


def _taken(
    folder: Path, mounts: list[Mount], mounted: Texts, samples: Texts, with_sweeps: bool
) -> list[tuple[int, Shot, bool]]:
    """(sample, shot, whether it is of the key frame itself) of the LiDAR and the cameras."""
    is_lidar = np.array([mount.channel == LIDAR for mount in mounts] + [False])
    where, keys = folder / "sample_data.json", ("sample_token", "calibrated_sensor_token", "is_key_frame")
    found: dict[str, list[Any]] = {field: [] for field in (*_SHOWN, "sample", "mount", "key")}
    for some in rows(where, keys + tuple(_SHOWN)):
        mount, key = some.among("calibrated_sensor_token", mounted), some.true("is_key_frame")
        chosen = np.flatnonzero((mount >= 0) & (key | (with_sweeps & is_lidar[mount])))
        sample = some.among("sample_token", samples, chosen)
        chosen, sample = chosen[sample >= 0], sample[sample >= 0]
        for field, kind in _SHOWN.items():
            found[field] += _of_kind(kind, some.values(field, chosen), where, field)
        for field, values in (("sample", sample), ("mount", mount[chosen]), ("key", key[chosen])):
            found[field] += values.tolist()
    egos = _egos(folder, found.pop("ego_pose_token"))
    return [
        (sample, Shot(token, file, time, ego, mounts[mount], (height, width)), key)
        for token, file, time, height, width, sample, mount, key, ego in zip(*found.values(), egos, strict=True)
    ]


def _egos(folder: Path, tokens: list[str]) -> list[Place]:
    """Where the car was, of each token."""
    wanted, where = Texts(tokens), folder / "ego_pose.json"
    rotations, translations = np.full((len(tokens), 4), np.nan), np.full((len(tokens), 3), np.nan)
    there = np.zeros(len(tokens), np.bool_)
    for some in rows(where, ("token", "rotation", "translation")):
        place = some.among("token", wanted)
        chosen = np.flatnonzero(place >= 0)
        rotations[place[chosen]] = _numbers(some.values("rotation", chosen), 4, where)
        translations[place[chosen]] = _numbers(some.values("translation", chosen), 3, where)
        there[place[chosen]] = True
    lacking = np.flatnonzero(~there[wanted.first])
    if len(lacking):
        raise HiclError(f"{where}: no row {tokens[lacking[0]]!r}, which sample_data.json names; get both again")
    both = rotations[wanted.first].tolist(), translations[wanted.first].tolist()
    return [Place(tuple(rotation), tuple(translation)) for rotation, translation in zip(*both, strict=True)]


def _label_files(folder: Path, tokens: list[str]) -> dict[str, str]:
    """lidarseg's file by the token of the LiDAR's sample_data; of none where there is no such table."""
    where = folder / "lidarseg.json"
    if not where.exists():
        return {}
    found = columns(where, ("sample_data_token", "filename"))
    wanted = set(tokens)
    both = zip(*(_of_kind(str, values, where, field) for field, values in found.items()), strict=True)
    return {token: file for token, file in both if token in wanted}


def _place(rotation: Any, translation: Any, where: Path) -> Place:
    if _are_numbers(rotation, 4) and _are_numbers(translation, 3):
        return Place(tuple(rotation), tuple(translation))
    raise HiclError(f"{where}: expected a rotation of 4 numbers and a translation of 3; not nuScenes' table")


def _numbers(values: list[Any], count: int, where: Path) -> np.ndarray:
    """float64 [M, count]."""
    try:
        found = np.array(values) if values else np.zeros((0, count))
    except ValueError:  # not all of one length
        found = np.zeros(0)
    if found.shape != (len(values), count) or found.dtype.kind not in "fiu":
        raise HiclError(f"{where}: expected a rotation of 4 numbers and a translation of 3; not nuScenes' table")
    return found


def _rows_of(intrinsic: Any, where: Path) -> tuple[tuple[float, ...], ...]:
    if isinstance(intrinsic, list) and len(intrinsic) in (0, 3) and all(_are_numbers(row, 3) for row in intrinsic):
        return tuple(tuple(row) for row in intrinsic)
    raise HiclError(f"{where}: expected a camera_intrinsic of 3 x 3 numbers, or an empty one; not nuScenes' table")


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(x) in (int, float) for x in value)


def _of_kind(kind: type, values: list[Any], where: Path, field: str) -> list[Any]:
    if wrong := [value for value in values if type(value) is not kind]:
        raise HiclError(f"{where}: a row whose {field!r} is {wrong[0]!r:.40}, expected {kind.__name__}; not nuScenes'")
    return values
