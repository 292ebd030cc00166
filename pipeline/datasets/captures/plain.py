"""Frames each with files of its own, by one of the namings of `namings.py`: 7-Scenes, ScanNet's exporters, 3RScan.

Depth is in millimetres, poses are camera to world with x right, y down, z forward, unless options say otherwise.
Intrinsics for both cameras are in `intrinsic_color.txt` and `intrinsic_depth.txt` (also below `intrinsic/`, or
`intrinsics_…`), or in one file for both (`camera-intrinsics.txt`, `intrinsic.txt`, `intrinsics.json` and the like): it
is taken to describe the image size that its principal point is nearer to the middle of, and is scaled for the other.
3RScan's are in `_info.txt`, beside its frames, in the scan's folder or in `sequence/`.
"""

from functools import partial
from pathlib import Path

from hicl.errors import HiclError
from hicl.pipeline.datasets import namings
from hicl.pipeline.datasets.captures.capture import Capture, Shot, Size, rescaled
from hicl.pipeline.datasets.captures.lens import read_json_camera
from hicl.pipeline.datasets.images import read_3rscan_intrinsics, read_intrinsics, read_pose
from hicl.pipeline.datasets.scene import Camera, checked_camera, off_centre

NAME = "frames each with files of its own"
_3RSCAN = "_info.txt"
_NAMES = "intrinsic_{}.txt intrinsics_{}.txt camera-intrinsics.txt intrinsic.txt intrinsics.txt".split()
_NAMES += [f"{name}.json" for name in ("intrinsic_{}", "intrinsics_{}", "camera-intrinsics", "camera_intrinsics")]
_NAMES += ["intrinsic.json", "intrinsics.json", "camera_intrinsic.json", "camera_primesense.json", "camera.json"]
_NAMES += [_3RSCAN]


def is_one(folder: Path) -> bool:
    """Whether there are frames of which one has more than its colour image."""
    return bool(namings.list_frames(_place(folder)))


def is_whole(folder: Path) -> bool:
    """Whether a frame has all its files."""
    return any(not files.missing for files in namings.list_frames(_place(folder)).values())


def why_none(folder: Path) -> str:
    return namings.why_none(folder)


def read(folder: Path) -> Capture:
    """Raises `HiclError` if there are no frames, or no intrinsics."""
    place = _place(folder)
    frames = namings.list_frames(place)
    if not frames:
        raise HiclError(f"{folder}: holds no frames with colour, depth and pose")
    shots = {
        name: Shot(f.color, f.depth, partial(read_pose, f.pose), files=(f.pose,), missing=f.missing)
        for name, f in frames.items()
    }
    paths = intrinsics(place)
    if not paths:
        raise HiclError(
            f"{place}: no intrinsics; expected camera-intrinsics.txt with a 3x3 or 4x4 matrix, or "
            "intrinsic_color.txt and intrinsic_depth.txt"
        )
    return Capture(shots, tuple(paths), cameras=partial(cameras, place))


def _place(folder: Path) -> Path:
    return folder / "sequence" if (folder / "sequence" / _3RSCAN).exists() else folder


def intrinsics(folder: Path) -> list[Path]:
    """The files of both cameras' intrinsics, colour's first, or the one for both; none where there are none."""
    there = [parent / name for parent in (folder / "intrinsic", folder) for name in namings.entries(parent)]
    found = []
    for kind in ("color", "depth"):
        names = [name.format(kind) for name in _NAMES]
        known = [path for path in there if path.name in names]
        # Those in a folder of their own go first, then the more telling name.
        found += sorted(known, key=lambda path: (path.parent == folder, names.index(path.name)))[:1]
    return list(dict.fromkeys(found)) if len(found) == 2 else []


def cameras(folder: Path, color: Size, depth: Size) -> tuple[Camera, Camera]:
    """Both cameras of a folder with intrinsics, for images of these sizes. Raises `HiclError`."""
    paths = intrinsics(folder)
    if paths[0].name == _3RSCAN:
        return read_3rscan_intrinsics(paths[0], "color", color), read_3rscan_intrinsics(paths[0], "depth", depth)
    if len(paths) == 2:
        both = zip(paths, (color, depth), strict=True)
        first, second = (checked_camera(_read(path, size), str(path)) for path, size in both)
        return first, second
    own = checked_camera(min((_read(paths[0], size) for size in (color, depth)), key=off_centre), str(paths[0]))
    return rescaled(own, color), rescaled(own, depth)


def _read(path: Path, size: Size) -> Camera:
    return read_json_camera(path, size) if path.suffix == ".json" else read_intrinsics(path, size)
