"""A scan small enough to run the whole pipeline on in no time: two walls and a floor, seen by a few cameras."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 64)
FOCAL = 40.0


def write_scan(folder: Path, frames: int = 4, seed: int = 0, lies: np.ndarray | None = None) -> None:
    """A posed RGB-D folder in 7-Scenes' naming: a room corner at z = 0 … 2 m, each camera looking into it. lies: a
    rotation [3, 3] of all of it."""
    lies = np.eye(3) if lies is None else lies
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    np.savetxt(folder / "camera-intrinsics.txt", [[FOCAL, 0, 31.5], [0, FOCAL, 23.5], [0, 0, 1]])
    _write_corner(folder / "corner.ply", lies)
    for frame in range(frames):
        position = np.array([1.5 + 0.1 * frame, 1.5, 1.2])
        forward = -np.array([1.0, 1.0, 0.5]) / 1.5
        aside = np.cross(forward, [0, 0, 1.0])
        aside /= np.linalg.norm(aside)
        rotation = np.stack([aside, np.cross(forward, aside), forward], axis=1)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, position
        v, u = np.mgrid[: SIZE[0], : SIZE[1]]
        rays = np.stack([(u - 31.5) / FOCAL, (v - 23.5) / FOCAL, np.ones(SIZE)], axis=-1) @ rotation.T
        with np.errstate(divide="ignore"):
            hits = np.where(rays < 0, -position / rays, np.inf)  # depth along z to each of the planes x, y, z = 0
        depth = hits.min(axis=-1)
        place = position + rays * depth[..., None]
        color = (120 + 100 * np.sin(5 * place) + rng.integers(0, 10, (*SIZE, 3))).astype(np.uint8)
        color[..., 0] = 80 * hits.argmin(axis=-1)
        Image.fromarray(color).save(folder / f"frame-{frame:06d}.color.png")
        Image.fromarray(np.round(depth * 1000).astype(np.uint16)).save(folder / f"frame-{frame:06d}.depth.png")
        pose[:3] = lies @ pose[:3]
        np.savetxt(folder / f"frame-{frame:06d}.pose.txt", pose)


def _write_corner(path: Path, lies: np.ndarray, n: int = 14) -> None:
    """Three square meshes that meet at the origin, 2 m wide, as an ASCII PLY."""
    s, t = (x.ravel() for x in np.meshgrid(np.linspace(0, 2, n), np.linspace(0, 2, n), indexing="ij"))
    zero = np.zeros_like(s)
    xyz = np.concatenate([np.stack(side, axis=1) for side in ((zero, s, t), (t, zero, s), (s, t, zero))])
    corner = np.array([n * i + j for i in range(n - 1) for j in range(n - 1)])
    side = np.concatenate([corner[:, None] + [0, n, 1], corner[:, None] + [n, n + 1, 1]])
    faces = np.concatenate([side, side + n * n, side + 2 * n * n])
    lines = ["ply", "format ascii 1.0", f"element vertex {len(xyz)}"]
    lines += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    rgb = (50 * xyz).astype(int)
    lines += [
        f"{x:.5f} {y:.5f} {z:.5f} {r} {g} {b}" for (x, y, z), (r, g, b) in zip(xyz @ lies.T, rgb.tolist(), strict=True)
    ]
    lines += ["3 " + " ".join(map(str, face)) for face in faces]
    path.write_text("\n".join(lines) + "\n")


def write_labels(folder: Path, frames: int = 4, classes: int = 20, seed: int = 0) -> None:
    """Label images for a scan's frames, at half its resolution, some pixels without a label."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for frame in range(frames):
        label = rng.integers(0, classes, (SIZE[0] // 2, SIZE[1] // 2)).astype(np.uint8)
        label[:3] = 255
        Image.fromarray(label).save(folder / f"{frame}.png")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
