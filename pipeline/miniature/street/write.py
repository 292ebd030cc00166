"""From streets to a data set in nuScenes' own layout.

    DIR/miniature.json                         settings; "complete" turns true when everything is there
    DIR/v1.0-street/*.json                     nuScenes' tables with lidarseg's, and splits.json: train, val
    DIR/samples/<channel>/, DIR/sweeps/LIDAR_TOP/, DIR/lidarseg/v1.0-street/, DIR/maps/
    DIR/.scenes/<name>.json                    until all are there: the rows of scenes whose files are

The same seed gives the same bytes and the same time stamps, with any number of workers. A scene's rows are written
after its files, so a killed run goes on where it stopped.
"""

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hicl.files import locked
from hicl.pipeline.kernels import lidar as kernels
from hicl.pipeline.miniature import writing
from hicl.pipeline.miniature.render import jpeg, photograph
from hicl.pipeline.miniature.solids import about_z
from hicl.pipeline.miniature.street import tables
from hicl.pipeline.miniature.street.layout import Street, build_street
from hicl.pipeline.miniature.street.lidar import moved, sweep
from hicl.pipeline.miniature.street.light import Light, draw_light, shade_map, view
from hicl.pipeline.miniature.street.rig import CHANNELS, COLUMNS, PERIOD, Drive, Rig, draw_drive, draw_rig, fired, rigid
from hicl.pipeline.teacher.choice import STREET

GENERATOR = 1  # anything that changes a byte of what is written raises it
KEY_FRAMES = 3  # a scene
_BETWEEN = 10  # turns of the LiDAR from one key frame to the next
_MAP = "maps/miniature.png"
_DAY_ONE = 1_530_403_200  # of seconds since 1970


def write_streets(
    out: Path,
    scenes: int,
    seed: int,
    val_scenes: int | None = None,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
    key_frames: int = KEY_FRAMES,
    columns: int = COLUMNS,
) -> None:
    """Write `scenes` streets to the folder `out`, the last `val_scenes` of them (default a quarter) for validation.

    key_frames: of each scene, half a second apart. columns: of a turn of the LiDAR, 32 points each.
    progress is called with each scene's name as it is finished, in the order in which they finish; scenes that are
    there already are reported too. Raises `HiclError` if `out` holds anything else than this very set.
    """
    out = Path(out)
    val_scenes = writing.checked(scenes, seed, val_scenes)
    settings = {
        "format": writing.FORMAT,
        "kind": "street",
        "version": GENERATOR,
        "seed": seed,
        "scenes": scenes,
        "val_scenes": val_scenes,
        "key_frames": key_frames,
        "columns": columns,
        "teacher": STREET,
    }
    stamp = _stamp(seed, -1)
    names = [_name(i) for i in range(scenes)]
    with locked(out):
        whole = writing.claim(out, settings, stamp)
        here = [whole or _rows_file(out, name).is_file() for name in names]
        write = partial(write_scene, out, seed, key_frames=key_frames, columns=columns)
        writing.write_each(write, names, here, kernels, workers, progress)
        if not whole:
            _write_tables(out, names, scenes - val_scenes, stamp)
            writing.complete(out, settings, stamp)
        shutil.rmtree(out / ".scenes", ignore_errors=True)


def _write_tables(out: Path, names: list[str], train: int, stamp: int) -> None:
    rows = tables.whole([tables.read_rows(_rows_file(out, name)) for name in names], _MAP)
    blank = io.BytesIO()
    Image.new("L", (64, 64)).save(blank, "PNG")  # nuscenes-devkit asks for one
    writing.write_bytes(out / _MAP, blank.getvalue(), stamp)
    for table in tables.TABLES:
        writing.write_text(out / tables.VERSION / f"{table}.json", tables.as_json(rows[table]), stamp)
    splits = {"train": names[:train], "val": names[train:]}
    writing.write_text(out / tables.VERSION / "splits.json", tables.as_json(splits), stamp)


def _name(index: int) -> str:
    return f"street-{index:04d}"


def _rows_file(out: Path, name: str) -> Path:
    return out / ".scenes" / f"{name}.json"


def _stamp(seed: int, index: int) -> int:
    return writing.stamp(f"street {GENERATOR}/{seed}/{index}")


@dataclass(frozen=True)
class Take:
    """Everything that a scene is recorded of. rng: for what is drawn while it is. world: float64 [4, 4], street to
    world. start: of its time, in microseconds since 1970."""

    rng: np.random.Generator
    street: Street
    rig: Rig
    drive: Drive
    light: Light
    world: np.ndarray
    start: int


def take(seed: int, index: int) -> Take:
    """Scene number `index` of a seed, ready to be recorded: somewhere in the world, at noon or in the evening."""
    street = build_street(seed, index)
    rng = np.random.default_rng([13, seed, index])
    rig, drive, light = draw_rig(rng), draw_drive(rng, street), draw_light(rng, street.dusk, street.lamps)
    world = rigid(about_z(rng.uniform(0, 2 * np.pi)), [*rng.uniform(300, 2500, 2), 0.0])
    seconds = _DAY_ONE + 86_400 * index + int(3600 * (18.5 if street.dusk else 12.0)) + int(rng.integers(3600))
    return Take(rng, street, rig, drive, light, world, seconds * 1_000_000 + int(rng.integers(1_000_000)))


def write_scene(out: Path, seed: int, index: int, key_frames: int, columns: int) -> None:
    """Write the files of scene number `index` into `out`, and then its rows."""
    t = take(seed, index)
    rows = tables.SceneRows(seed, index, _name(index), t.street.kind, t.street.dusk, t.start, t.rig)
    stamp = _stamp(seed, index)
    times = _turns(t, key_frames)
    samples = iter([rows.add_sample(time) for time, key in times if key])
    sample, after_key = "", True
    for time, key in times:
        if after_key:  # what lies between key frames belongs to the next
            sample = next(samples)
        after_key = key
        at = (time - t.start) / 1e6
        row = rows.add_file(tables.LIDAR, time, t.world @ t.drive.pose(at), sample, key)
        measured = sweep(t.rng, t.street, t.drive, t.rig, at, columns)
        writing.write_bytes(out / row["filename"], measured.points.tobytes(), stamp)
        if key:
            writing.write_bytes(out / rows.add_labels(row), measured.label.tobytes(), stamp)
            _write_images(out, t, rows, sample, time, stamp)
    writing.write_text(_rows_file(out, _name(index)), tables.as_json(rows.rows), stamp)


def _turns(t: Take, key_frames: int) -> list[tuple[int, bool]]:
    """When the LiDAR's turns end, and which are key frames; a recording loses one now and then."""
    times = []
    for turn in range((key_frames - 1) * _BETWEEN + 1):
        time = t.start + round(1e6 * PERIOD * turn) + int(t.rng.integers(-300, 301))
        lost = t.rng.random() < 0.02
        if turn % _BETWEEN == 0 or not lost:
            times.append((time, turn % _BETWEEN == 0))
    return times


def _write_images(out: Path, t: Take, rows: tables.SceneRows, sample: str, time: int, stamp: int) -> None:
    """The six images of a key frame, each at its own time."""
    at = (time - t.start) / 1e6
    shade = shade_map(moved(t.street, at), t.light, t.drive.pose(at)[:3, 3])
    for channel in CHANNELS:
        fires = time + round(1e6 * fired(channel)) + int(t.rng.integers(-200, 201))
        at = (fires - t.start) / 1e6
        ego = t.drive.pose(at)
        row = rows.add_file(channel, fires, t.world @ ego, sample, True)
        camera = t.rig.intrinsics[channel]
        exact, _ = view(moved(t.street, at), t.light, shade, camera, ego @ t.rig.cameras[channel])
        writing.write_bytes(out / row["filename"], jpeg(photograph(t.rng, exact)), stamp)
