"""Replica as NICE-SLAM and what follows it render it: `results/frame000000.jpg`, `results/depth000000.png`, `traj.txt`.

A line of `traj.txt` is the 16 numbers of a frame's camera to world, row by row, with x right, y down, z forward. Depth
has 6553.5 units a metre, or the `scale` of `cam_params.json`, which stands beside the scenes with the intrinsics; the
mesh is `<scene>_mesh.ply` there. (cvg/nice-slam: scripts/download_replica.sh, configs/Replica, src/utils/datasets.py,
class Replica, which turns these axes to OpenGL's.)
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, Size, is_scale, read_json, rescaled, rows
from hicl.pipeline.datasets.captures.lens import read_json_camera
from hicl.pipeline.datasets.namings import by_name
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "Replica of NICE-SLAM"
WANTS = (("traj.txt",), ("results/frame*.jpg", "results/frame*.png"), ("results/depth*.png",))
_UNITS = 6553.5
_CAMERA = "cam_params.json"


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    path, results = folder / "traj.txt", folder / "results"
    poses = [np.array(row[:16], float).reshape(4, 4) for row in rows(path, 16)]
    images = {name.removeprefix("frame"): file for name, file in by_name(results, (".jpg", ".png")).items()
              if name.startswith("frame")}  # fmt: skip
    shots = {}
    for number, name in enumerate(sorted(images)):
        if number >= len(poses):
            raise HiclError(f"{path}: {len(poses)} poses, but {len(images)} images in {results.name}/")
        pose = partial(np.copy, poses[number])
        shots[name] = Shot(images[name], results / f"depth{name}.png", pose).looked_for()
    camera = next((place / _CAMERA for place in (folder, folder.parent) if (place / _CAMERA).exists()), None)
    if camera is None:
        raise HiclError(f"{folder}: no {_CAMERA}, neither here nor one folder up; it has the intrinsics")
    about = read_json(camera)
    inner = about.get("camera", about) if isinstance(about, dict) else {}
    scale = inner.get("scale", _UNITS) if isinstance(inner, dict) else None
    if not is_scale(scale):
        raise HiclError(f"{camera}: expected an object with the intrinsics, and a scale that is one")
    mesh = folder.parent / f"{folder.name}_mesh.ply"
    return Capture(
        shots, (path, camera), Said(float(scale)), partial(_cameras, camera), mesh if mesh.exists() else None
    )


def _cameras(path: Path, color: Size, depth: Size) -> tuple[Camera, Camera]:
    own = read_json_camera(path, color)
    return rescaled(own, color), rescaled(own, depth)
