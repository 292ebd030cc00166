"""A room of ScanNet's size for benchmarks: one of the miniature's, meshed finer, and a walk of 100 frames in it."""

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from hicl.cache.schema import STAGES
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.miniature import mesh, scan
from hicl.pipeline.miniature.render import draw_light, look, measure_depth, photograph
from hicl.pipeline.miniature.rooms import build_room
from hicl.pipeline.miniature.solids import pack
from hicl.pipeline.miniature.walk import walk

COLOR = Camera(fx=288, fy=289, cx=159.6, cy=119.2, height=240, width=320)
DEPTH = Camera(fx=283, fy=283, cx=158.9, cy=119.7, height=240, width=320)


@dataclass
class Room:
    """xyz float32 [N, 3] metres, rgb uint8 [N, 3], label uint16 [N] NYU40 ids, faces int32 [T, 3]; poses float64
    [F, 4, 4], depth float32 [F, h, w] metres of the camera DEPTH, color uint8 [F, H, W, 3] of COLOR."""

    xyz: np.ndarray
    rgb: np.ndarray
    label: np.ndarray
    faces: np.ndarray
    poses: np.ndarray
    depth: np.ndarray
    color: np.ndarray


def scannet_sized(frames: int = 100, seed: int = 0, index: int = 0, cell: float = 0.0222) -> Room:
    """A room with about 150,000 vertices at the default cell, metres, as a scanner leaves it."""
    room = build_room(seed, index)
    solids = pack(room.solids)
    rng = np.random.default_rng([seed, index])
    light = draw_light(rng, room)
    with mock.patch.object(mesh, "CELL", cell):
        field = mesh.distance_field(room, solids)
        xyz, rgb, label, faces = scan.scan_surface(rng, room, solids, field, light)
        poses = walk(rng, room, solids, frames)
        depth = [measure_depth(rng, look(solids, field, light, DEPTH, pose)) for pose in poses]
        color = [photograph(rng, look(solids, field, light, COLOR, pose).color) for pose in poses]
    meters = np.stack(depth).astype(np.float32) / 1000
    return Room(xyz.astype(np.float32), rgb, label, faces, np.stack(poses), meters, np.stack(color))


def attributes(arrays: dict[str, np.ndarray]) -> dict:
    """What a scene's reader looks for beside its arrays."""
    sizes = {"points": len(arrays["points/xyz"]), "frames": len(arrays["pairs/indptr"]) - 1}
    counts = sizes | {"pairs": len(arrays["pairs/point"]), "sets": int(arrays["sets/id"].max()) + 1}
    return {"stages": dict.fromkeys((*STAGES, "text"), "benchmark"), "counts": counts}


def write_ply(room: Room, path: Path) -> None:
    """The room's mesh as ScanNet's files are."""
    scan._write_ply(path, room.xyz, room.rgb, room.faces)
