"""From rooms to a data set: a scanner's flaws, and files in ScanNet's own layout.

    DIR/miniature.json                       settings; "complete" turns true when everything is there
    DIR/scannetv2_train.txt, scannetv2_val.txt
    DIR/scans/sceneNNNN_00/sceneNNNN_00.sens, *_vh_clean_2.ply, *_vh_clean_2.labels.ply

The same seed gives the same bytes and the same time stamps, with any number of workers. A scene's folder is written
under another name and renamed when it is whole, so a killed run goes on where it stopped.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.files import locked, naming
from hicl.pipeline.datasets.sens import write_sens
from hicl.pipeline.kernels import raster
from hicl.pipeline.miniature import mesh, writing
from hicl.pipeline.miniature.render import Light, draw_light, jpeg, look, measure_depth, photograph, shade
from hicl.pipeline.miniature.rooms import Room, build_room
from hicl.pipeline.miniature.solids import Packed, about_z, pack
from hicl.pipeline.miniature.style import Style
from hicl.pipeline.miniature.walk import draw_cameras, walk
from hicl.read import read_json

VERSION = 1  # of the generator: anything that changes a byte of its output raises it
FRAMES = 24
_NO_LABEL = 0
_PLAIN = Style()


def write_dataset(
    out: Path,
    scenes: int,
    seed: int,
    val_scenes: int | None = None,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
    style: Style = _PLAIN,
) -> None:
    """Write `scenes` rooms to the folder `out`, the last `val_scenes` of them (default a quarter) for validation.

    style: how the pictures of rooms differ.
    progress is called with each scene's id as it is finished, in the order in which they finish; scenes that are there
    already are reported too. Raises `HiclError` if `out` holds anything else than this very set.
    """
    out = Path(out)
    val_scenes = writing.checked(scenes, seed, val_scenes)
    settings = {
        "format": writing.FORMAT,
        "version": VERSION,
        "seed": seed,
        "scenes": scenes,
        "val_scenes": val_scenes,
        "frame_step": 1,
        "frames": FRAMES,
        "teacher": "hicl-miniature",
    }
    if style != _PLAIN:  # which a set of before has too
        settings["style"] = asdict(style)
    with locked(out):
        writing.claim(out, settings, _stamp(seed, -1))
        _write_all(out, settings, style, workers, progress)


def _write_all(out: Path, settings: dict, style: Style, workers: int, progress: Callable[[str], None] | None) -> None:
    seed, scenes = settings["seed"], settings["scenes"]
    names = [_name(i) for i in range(scenes)]
    here = [(out / "scans" / name).is_dir() for name in names]
    writing.write_each(partial(write_scene, out, seed, style=style), names, here, raster, workers, progress)
    split = scenes - settings["val_scenes"]
    stamp = _stamp(seed, -1)
    writing.write_text(out / "scannetv2_train.txt", "".join(f"{n}\n" for n in names[:split]), stamp)
    writing.write_text(out / "scannetv2_val.txt", "".join(f"{n}\n" for n in names[split:]), stamp)
    writing.complete(out, settings, stamp)


def _name(index: int) -> str:
    return f"scene{index:04d}_00"


def _stamp(seed: int, index: int) -> int:
    return writing.stamp(f"{VERSION}/{seed}/{index}")


def write_scene(out: Path, seed: int, index: int, style: Style = _PLAIN) -> None:
    """Write scene number `index` into `out`/scans, whole or not at all."""
    name = _name(index)
    final, part = out / "scans" / name, out / "scans" / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rng, room, solids, field, light, turn, shift = _begun(seed, index)
    styles = np.random.default_rng([15, seed, index])  # of their own: rooms and walks are the same in any style
    of_room = style.room(styles)
    xyz, rgb, label, faces = scan_surface(rng, room, solids, field, light)
    rgb = np.rint(255 * np.clip(style.developed(rgb / 255, of_room), 0, 1)).astype(np.uint8)
    xyz = (xyz @ turn.T + shift).astype(np.float32)
    _write_ply(part / f"{name}_vh_clean_2.ply", xyz, rgb, faces)
    _write_ply(part / f"{name}_vh_clean_2.labels.ply", xyz, rgb, faces, label)
    color_camera, depth_camera = draw_cameras(rng)
    poses = walk(rng, room, solids, FRAMES)
    lost = set(rng.choice(FRAMES, int(rng.integers(0, 3)), replace=False).tolist())

    def frames() -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
        for i, pose in enumerate(poses):
            exact = look(solids, field, light, color_camera, pose).color
            picture = photograph(rng, style.taken(exact, style.picture(styles, of_room)))
            depth = measure_depth(rng, look(solids, field, light, depth_camera, pose))
            recorded = np.full((4, 4), -np.inf) if i in lost else _recorded(rng, pose, turn, shift)
            yield jpeg(picture), depth, recorded.astype(np.float32)

    recording = part / f"{name}.sens"
    with naming(recording):
        write_sens(recording, color_camera, depth_camera, frames(), sensor_name="hicl miniature")
    stamp = _stamp(seed, index)
    for path in (*part.iterdir(), part):
        os.utime(path, ns=(stamp, stamp))
    os.replace(part, final)


def _begun(seed: int, index: int) -> tuple:
    """A room, what it is lit by, and where its scan lies; and the random numbers of all that follows."""
    room = build_room(seed, index)
    solids = pack(room.solids)
    field = mesh.distance_field(room, solids)
    rng = np.random.default_rng([2, seed, index])
    light = draw_light(rng, room)
    # Scans are not aligned to the walls.
    turn, shift = about_z(rng.uniform(0, 2 * np.pi)), np.array([*rng.uniform(0, 5, 2), rng.uniform(-0.1, 0.1)])
    return rng, room, solids, field, light, turn, shift


def true_instances(root: Path, scene_id: str) -> np.ndarray:
    """The object that each vertex of a room's mesh is of, int32 [N]: numbers from 0, in no order. The room is built
    again from its seed. What moves together and has one label is one object: a bed, and the pillows on it another.

    Raises `HiclError` where the root is no miniature of rooms that this generator makes.
    """
    marker = read_json(root / "miniature.json") if (root / "miniature.json").is_file() else None
    if not isinstance(marker, dict) or "kind" in marker or marker.get("version") != VERSION:
        raise HiclError(f"{root}: no miniature of rooms of version {VERSION}, whose objects are known")
    names = [_name(index) for index in range(marker["scenes"])]
    if scene_id not in names:
        raise HiclError(f"{root}: holds no room {scene_id}")
    rng, room, solids, field, *_ = _begun(marker["seed"], names.index(scene_id))
    solid = _scanned(rng, field, solids).solid
    kinds = np.column_stack([room.piece, solids.label])
    return np.unique(kinds, axis=0, return_inverse=True)[1].ravel().astype(np.int32)[solid]


def _recorded(rng: np.random.Generator, pose: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The pose in the scan's frame as tracking got it: off by millimetres and a tenth of a degree."""
    out = np.eye(4)
    x, y, z = rng.normal(0, 0.0015, 3)
    wobble = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    u, _, vt = np.linalg.svd(wobble)
    out[:3, :3] = turn @ pose[:3, :3] @ (u @ vt)
    out[:3, 3] = turn @ pose[:3, 3] + shift + rng.normal(0, 0.003, 3)
    return out


def scan_surface(
    rng: np.random.Generator, room: Room, solids: Packed, field: mesh.Field, light: Light
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The room as a scanner fused and people annotated it, in the room's frame.

    Returns xyz float64 [N, 3] metres, rgb uint8 [N, 3], NYU40 label uint16 [N] (0 = not annotated), faces int32 [T, 3].
    """
    s = _scanned(rng, field, solids)
    color, normal = mesh.albedo(s.xyz, s.solid, solids)
    lit = shade(s.xyz, normal, color, s.solid, solids, light, field)
    # Exposure drifts along the scan; every vertex keeps some noise of the frames it was fused from.
    drift = 1 + 0.12 * np.sin(s.xyz @ rng.normal(0, 0.8, 3) + rng.uniform(0, 6))
    lit = lit * drift[:, None] * rng.uniform(0.85, 1.05) + rng.normal(0, 0.02, lit.shape)
    rgb = (np.clip(lit, 0, 1) * 255 + 0.5).astype(np.uint8)
    bend = np.zeros_like(s.xyz)
    for wavelength in (4.0, 1.5):
        wave = rng.normal(0, 1, (3, 3))
        wave *= 2 * np.pi / wavelength / np.linalg.norm(wave, axis=1, keepdims=True)
        bend += 0.004 * np.sin(s.xyz @ wave.T + rng.uniform(0, 6, 3))
    xyz = s.xyz + bend + rng.normal(0, 0.002, s.xyz.shape)
    label = solids.label[s.solid].astype(np.uint16)
    # Annotators leave gaps: here and there a spot, now and then a part of a thing.
    forgotten = rng.random(len(solids.label)) < 0.03
    forgotten[np.isin(solids.label, [1, 2])] = False
    label[forgotten[s.solid]] = _NO_LABEL
    for spot in xyz[rng.integers(0, len(xyz), 12)]:
        label[((xyz - spot) ** 2).sum(1) < rng.uniform(0.08, 0.25) ** 2] = _NO_LABEL
    return xyz, rgb, label, s.faces


def _scanned(rng: np.random.Generator, field: mesh.Field, solids: Packed) -> mesh.Surface:
    return mesh.surface(field, solids, rng.uniform(1.95, 2.15))


def _write_ply(
    path: Path, xyz: np.ndarray, rgb: np.ndarray, faces: np.ndarray, label: np.ndarray | None = None
) -> None:
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
    if label is not None:
        kinds.append(("label", "<u2"))
    vertex = np.empty(len(xyz), kinds)
    vertex["x"], vertex["y"], vertex["z"] = xyz.T
    vertex["red"], vertex["green"], vertex["blue"] = rgb.T
    vertex["alpha"] = 255
    if label is not None:
        vertex["label"] = label
    face = np.empty(len(faces), [("n", "u1"), ("v", "<i4", 3)])
    face["n"], face["v"] = 3, faces
    names = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertex)}"]
    header += [f"property {names[kind]} {name}" for name, kind in kinds]
    header += [f"element face {len(face)}", "property list uchar int vertex_indices", "end_header", ""]
    with naming(path), open(path, "wb") as file:
        file.write("\n".join(header).encode())
        file.write(vertex.tobytes())
        file.write(face.tobytes())
