"""A room of ScanNet's size for benchmarks: one of the miniature's, meshed finer, and a walk of 100 frames in it."""

import io
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from hicl.cache.schema import STAGES
from hicl.pipeline import sampling
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.datasets.sens import write_sens
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


def smooth_grids(n: int, grid: tuple[int, int], width: int, rng: np.random.Generator) -> np.ndarray:
    """Unit features float32 [n, h, w, d] that change from patch to patch about as CLIP's do."""
    coarse = rng.standard_normal((n, 5, 7, width)).astype(np.float32)
    rows = sampling.scores_at  # the same bilinear interpolation, channel by channel
    pixel = np.stack(np.mgrid[: grid[0], : grid[1]], axis=-1).reshape(-1, 2).astype(np.uint16)
    fine = np.stack([rows(view, pixel, grid).reshape(*grid, width) for view in coarse])
    fine += 0.3 * rng.standard_normal(fine.shape).astype(np.float32)
    return fine / np.linalg.norm(fine, axis=-1, keepdims=True)


def write_recording(room: Room, path: Path, count: int) -> list[bytes]:
    """A .sens of `count` frames of ScanNet's size; returns their JPEGs."""
    color = Camera(1169, 1167, 646, 490, 968, 1296)
    depth = Camera(577, 578, 319, 239, 480, 640)
    rng = np.random.default_rng(0)
    frames = []
    for i in range(count):
        measured = np.kron(room.depth[i % len(room.depth)], np.ones((2, 2), np.float32))
        shade = np.clip(255 - 60 * measured, 0, 255).astype(np.uint8)
        image = Image.fromarray(shade).resize((color.width, color.height)).convert("RGB")
        noisy = np.asarray(image) + rng.integers(-12, 13, (color.height, color.width, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        frames.append((buffer.getvalue(), (1000 * measured).astype(np.uint16), np.eye(4, dtype=np.float32)))
    write_sens(path, color, depth, frames)
    return [jpeg for jpeg, _, _ in frames]
