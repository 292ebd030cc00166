"""A room of ScanNet's size for benchmarks: one of the miniature's, meshed finer, and a walk of 100 frames in it."""

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.miniature import mesh, scan
from hicl.pipeline.miniature.render import draw_light, look, measure_depth
from hicl.pipeline.miniature.rooms import build_room
from hicl.pipeline.miniature.solids import pack
from hicl.pipeline.miniature.walk import walk

COLOR = Camera(fx=288, fy=289, cx=159.6, cy=119.2, height=240, width=320)
DEPTH = Camera(fx=283, fy=283, cx=158.9, cy=119.7, height=240, width=320)


@dataclass
class Room:
    """xyz float32 [N, 3], rgb uint8 [N, 3], faces int32 [T, 3]; poses float64 [F, 4, 4]; depth float32 [F, h, w]."""

    xyz: np.ndarray
    rgb: np.ndarray
    faces: np.ndarray
    poses: np.ndarray
    depth: np.ndarray


def scannet_sized(frames: int = 100, seed: int = 0, index: int = 0, cell: float = 0.0222) -> Room:
    """A room with about 150,000 vertices at the default cell, metres, as a scanner leaves it."""
    room = build_room(seed, index)
    solids = pack(room.solids)
    rng = np.random.default_rng([seed, index])
    light = draw_light(rng, room)
    with mock.patch.object(mesh, "CELL", cell):
        field = mesh.distance_field(room, solids)
        xyz, rgb, _, faces = scan.scan_surface(rng, room, solids, field, light)
        poses = walk(rng, room, solids, frames)
        views = (look(solids, field, light, DEPTH, pose) for pose in poses)
        depth = np.stack([measure_depth(rng, view) for view in views])
    return Room(xyz.astype(np.float32), rgb, faces, np.stack(poses), depth.astype(np.float32) / 1000)


def write_ply(room: Room, path: Path) -> None:
    """The room's mesh as ScanNet's files are."""
    scan._write_ply(path, room.xyz, room.rgb, room.faces)
