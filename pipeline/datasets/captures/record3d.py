"""Record3D's exports: "EXR + RGB", `rgb/`, `depth/`, `metadata.json`; or an unzipped `.r3d`, `rgbd/`, `metadata`.

`metadata` is JSON: `K`, a 3x3 matrix column by column for images of `w` by `h`, or `perFrameIntrinsicCoeffs`, fx fy cx
cy a frame; `poses`, qx qy qz qw tx ty tz a frame, camera to world in ARKit's axes, which are OpenGL's (x right, y up, z
back). Depth is in metres, in floats; in an `.r3d` compressed by LZFSE, `dw` by `dh`. (marek-simonik/record3d, and how
nerfstudio reads it: nerfstudio/process_data/record3d_utils.py.)
"""

from functools import partial
from pathlib import Path

import numpy as np

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.captures.capture import Capture, Shot, motion, read_json, rotation
from hicl.pipeline.datasets.captures.lens import camera_of
from hicl.pipeline.datasets.namings import by_name
from hicl.pipeline.datasets.scene import Camera, Said

NAME = "Record3D's export"
_FOLDERS = ("", "EXR_RGBD/")
WANTS = (
    (*(f"{folder}metadata.json" for folder in _FOLDERS), "metadata"),
    (*(f"{folder}rgb/{kind}" for folder in _FOLDERS for kind in ("*.jpg", "*.png")), "rgbd/*.jpg"),
    (*(f"{folder}depth/*.exr" for folder in _FOLDERS), "rgbd/*.depth"),
)


def read(folder: Path) -> Capture:
    """Raises `HiclError`."""
    path = next(path for pattern in WANTS[0] for path in folder.glob(pattern))
    place, about = path.parent, read_json(path)
    poses = about.get("poses") if isinstance(about, dict) else None
    camera = camera_of(about, (0, 0))
    if not isinstance(poses, list) or camera is None:
        raise HiclError(f"{path}: expected K, w, h and poses")
    own = about.get("perFrameIntrinsicCoeffs")
    own = own if isinstance(own, list) and len(own) == len(poses) else None
    packed = (place / "rgbd").is_dir()
    images = by_name(place / ("rgbd" if packed else "rgb"), (".jpg", ".jpeg", ".png"))
    shots = {}
    for name, image in images.items():
        number = int(name) if name.isdecimal() else -1
        if not 0 <= number < len(poses):
            raise HiclError(f"{image}: not the number of one of the {len(poses)} poses in {path.name}")
        depth = place / "rgbd" / f"{name}.depth" if packed else place / "depth" / f"{name}.exr"
        raw = partial(_unpacked, depth, about.get("dh"), about.get("dw")) if packed else None
        where = f"{path}: pose {number}"
        lens = partial(_camera, camera, own[number] if own else None, where)
        shots[name] = Shot(image, depth, partial(_pose, poses[number], where), lens, raw).looked_for()
    return Capture(shots, (path,), Said(1.0, axes="opengl"))


def _pose(row: object, where: str) -> np.ndarray:
    try:
        numbers = np.array(row, float)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (7,):
        raise FrameError(f"{where}: expected qx qy qz qw tx ty tz")
    x, y, z, w = numbers[:4].tolist()
    return motion(rotation(x, y, z, w, where), numbers[4:])


def _camera(shared: Camera, own: object, where: str) -> Camera:
    found = shared
    if own is not None:
        try:
            fx, fy, cx, cy = map(float, own)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            raise FrameError(f"{where}: perFrameIntrinsicCoeffs aren't fx fy cx cy") from None
        found = Camera(fx, fy, cx, cy, shared.height, shared.width)
    return found


def _unpacked(path: Path, height: object, width: object) -> np.ndarray:
    """float32 [h, w] metres of a `.depth`."""
    try:
        import liblzfse
    except ImportError:
        raise HiclError(
            f"{path}: compressed by LZFSE; install it (`pip install pyliblzfse`, which needs a C compiler), or export "
            "from Record3D as EXR + RGB"
        ) from None
    try:
        data = np.frombuffer(liblzfse.decompress(path.read_bytes()), "<f4")
        return data.reshape(int(height), int(width))  # type: ignore[call-overload]
    except (OSError, ValueError, TypeError, liblzfse.error) as error:
        raise FrameError(f"{path}: depth doesn't decode ({error})") from None
