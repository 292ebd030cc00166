"""One room in the files of every capture that is read, written from the formats' descriptions, not by the product."""

import io
import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy.spatial.transform import Rotation

FLIP = np.diag([1.0, -1, -1, 1])  # OpenGL's axes: y up, z back


@dataclass
class Room:
    """jpeg: bytes of each colour image; depth: uint16 millimetres; poses: camera to world, y down, z ahead; k: fx fy cx
    cy of colour, the middle of its first pixel at 0; size: of colour; depth is the same view. mesh: its .ply."""

    jpeg: list[bytes]
    depth: list[np.ndarray]
    poses: list[np.ndarray]
    k: tuple[float, float, float, float]
    size: tuple[int, int]
    mesh: Path

    def frames(self):
        return enumerate(zip(self.jpeg, self.depth, self.poses, strict=True))


def put(path: Path, content: bytes | str | np.ndarray | object) -> Path:
    """Bytes and texts as they are, arrays as PNG, .npy or .pgm by the name, other things as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif not isinstance(content, np.ndarray):
        path.write_text(json.dumps(content))
    elif path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".pgm":
        path.write_bytes(b"P5\n%d %d\n65535\n" % content.shape[::-1] + content.astype(">u2").tobytes())
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, content)
    elif path.suffix == ".exr":
        path.write_bytes(exr(content))
    else:
        Image.fromarray(content).save(path)
    return path


def png(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def exr(image: np.ndarray, channel: bytes = b"R") -> bytes:
    """An uncompressed scan-line image of one channel of floats (openexr.com, "OpenEXR File Layout")."""
    height, width = image.shape
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        (b"channels", b"chlist", channel + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) + b"\0"),
        (b"compression", b"compression", b"\0"),
        (b"dataWindow", b"box2i", box),
        (b"displayWindow", b"box2i", box),
        (b"lineOrder", b"lineOrder", b"\0"),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", struct.pack("<2f", 0, 0)),
        (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    ]
    head = struct.pack("<2i", 20000630, 2)
    head += b"".join(name + b"\0" + kind + b"\0" + struct.pack("<i", len(v)) + v for name, kind, v in attributes)
    head += b"\0"
    line = 8 + 4 * width
    offsets = struct.pack(f"<{height}Q", *(len(head) + 8 * height + line * y for y in range(height)))
    lines = (struct.pack("<2i", y, 4 * width) + row.astype("<f4").tobytes() for y, row in enumerate(image))
    return head + offsets + b"".join(lines)


def matrix(k) -> list[list[float]]:
    fx, fy, cx, cy = k
    return [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]


def table(values) -> str:
    return "\n".join(" ".join(repr(float(v)) for v in row) for row in np.atleast_2d(values)) + "\n"


def keep_mesh(room: Room, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(room.mesh, path)


def base(folder: Path, room: Room) -> None:
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"frame-{i:06d}.color.jpg", jpeg)
        put(folder / f"frame-{i:06d}.depth.png", depth)
        put(folder / f"frame-{i:06d}.pose.txt", table(pose))
    put(folder / "camera-intrinsics.txt", table(matrix(room.k)))
    keep_mesh(room, folder / "scan.ply")


def exporter(folder: Path, room: Room, kind=".png", units=1000.0, dtype=np.uint16) -> None:
    """SensReader's export: 4x4 intrinsics of both; or with depth of another kind."""
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"color/{i}.jpg", jpeg)
        put(folder / f"depth/{i}{kind}", (depth * (units / 1000)).astype(dtype))
        put(folder / f"pose/{i}.txt", table(pose))
    for name, k in (("color", room.k), ("depth", halved(room.k))):
        full = np.eye(4)
        full[:3, :3] = matrix(k)
        put(folder / f"intrinsic/intrinsic_{name}.txt", table(full))
    keep_mesh(room, folder / "scan.ply")


def halved(k):
    """Of an image of half the size: a pixel covers two by two, so that its middle is at 2c + 0.5 of them."""
    fx, fy, cx, cy = k
    return fx / 2, fy / 2, (cx - 0.5) / 2, (cy - 0.5) / 2


def floats(kind):
    return lambda folder, room: exporter(folder, room, kind, 1.0, np.float32)


def open3d_intrinsics(folder: Path, room: Room) -> None:
    exporter(folder, room)
    shutil.rmtree(folder / "intrinsic")
    columns = np.array(matrix(room.k)).T.ravel().tolist()
    put(folder / "intrinsic.json", {"width": room.size[1], "height": room.size[0], "intrinsic_matrix": columns})


def rscan(folder: Path, room: Room) -> None:
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"sequence/frame-{i:06d}.color.jpg", jpeg)
        put(folder / f"sequence/frame-{i:06d}.depth.pgm", depth)
        put(folder / f"sequence/frame-{i:06d}.pose.txt", table(pose))
    lines = ["m_versionNumber = 4"]
    for name, k in (("Color", room.k), ("Depth", halved(room.k))):
        fx, fy, cx, cy = k
        lines.append(f"m_calibration{name}Intrinsic = {fx!r} 0 {cx!r} 0 0 {fy!r} {cy!r} 0 0 0 1 0 0 0 0 1")
    put(folder / "sequence/_info.txt", "\n".join(lines) + "\n")
    keep_mesh(room, folder / "scan.ply")


def nerfstudio(folder: Path, room: Room, depth_kind=".png", units=None) -> None:
    fx, fy, cx, cy = room.k
    about = {"camera_model": "OPENCV", "fl_x": fx, "fl_y": fy, "cx": cx + 0.5, "cy": cy + 0.5, "k1": 0.0}
    about |= {"h": room.size[0], "w": room.size[1], "frames": []}
    if units is not None:
        about["depth_unit_scale_factor"] = 1 / units
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"images/frame_{i + 1:05d}.jpg", jpeg)
        raw = depth if units is None else (depth / 1000 * units).astype(np.float32)
        put(folder / f"depth/frame_{i + 1:05d}{depth_kind}", raw)
        names = {
            "file_path": f"images/frame_{i + 1:05d}.jpg",
            "depth_file_path": f"depth/frame_{i + 1:05d}{depth_kind}",
        }
        about["frames"].append(names | {"transform_matrix": (pose @ FLIP).tolist()})
    put(folder / "transforms.json", about)
    keep_mesh(room, folder / "scan.ply")


def nerfstudio_metres(folder: Path, room: Room) -> None:
    nerfstudio(folder, room, ".npy", 1.0)


def polycam(folder: Path, room: Room) -> None:
    fx, fy, cx, cy = room.k
    for i, (jpeg, depth, pose) in room.frames():
        name = 98_000_000_000 + 333_333 * i
        about = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": room.size[1], "height": room.size[0]}
        about |= {f"t_{row}{column}": (pose @ FLIP)[row, column] for row in range(3) for column in range(4)}
        put(folder / f"keyframes/corrected_images/{name}.jpg", jpeg)
        put(folder / f"keyframes/corrected_cameras/{name}.json", about | {"blur_score": 9.0, "timestamp": name})
        put(folder / f"keyframes/depth/{name}.png", depth)
        put(folder / f"keyframes/images/{name}.jpg", b"with distortion")
        put(folder / f"keyframes/cameras/{name}.json", about | {"t_03": 100.0})
    keep_mesh(room, folder / "scan.ply")


def _record3d(room: Room) -> dict:
    rows = [[*Rotation.from_matrix((p @ FLIP)[:3, :3]).as_quat(), *p[:3, 3]] for p in room.poses]
    columns = np.array(matrix(room.k)).T.ravel().tolist()
    height, width = room.depth[0].shape
    return {
        "w": room.size[1],
        "h": room.size[0],
        "dw": width,
        "dh": height,
        "K": columns,
        "poses": np.array(rows).tolist(),
    }


def record3d(folder: Path, room: Room) -> None:
    for i, (jpeg, depth, _) in room.frames():
        put(folder / f"EXR_RGBD/rgb/{i}.jpg", jpeg)
        put(folder / f"EXR_RGBD/depth/{i}.exr", (depth / 1000).astype(np.float32))
    put(folder / "EXR_RGBD/metadata.json", _record3d(room))
    keep_mesh(room, folder / "scan.ply")


def r3d(folder: Path, room: Room, compress=bytes) -> None:
    """An unzipped .r3d, whose intrinsics are given for each frame."""
    for i, (jpeg, depth, _) in room.frames():
        put(folder / f"rgbd/{i}.jpg", jpeg)
        put(folder / f"rgbd/{i}.depth", compress((depth / 1000).astype("<f4").tobytes()))
    own = [list(room.k)] * len(room.poses)
    put(
        folder / "metadata",
        _record3d(room) | {"K": [1000, 0, 0, 0, 1000, 0, 160, 120, 1], "perFrameIntrinsicCoeffs": own},
    )
    keep_mesh(room, folder / "scan.ply")


def arkit(folder: Path, room: Room, inner: str = "") -> None:
    place, lines = folder / inner, []
    for i, (jpeg, depth, pose) in room.frames():
        time = 6845.706 + 0.1 * i
        name = f"41069021_{time:.3f}"
        put(place / f"lowres_wide/{name}.png", png(jpeg))
        put(place / f"lowres_depth/{name}.png", depth)
        size = f"{room.size[1]} {room.size[0]}"
        put(place / f"lowres_wide_intrinsics/41069021_{time + 0.001 * (i % 2):.3f}.pincam", f"{size} " + table(room.k))
        there = np.linalg.inv(pose)
        turn = Rotation.from_matrix(there[:3, :3]).as_rotvec()
        lines.append(" ".join(repr(float(x)) for x in (time + 0.0021, *turn, *there[:3, 3])))
    put(place / "lowres_wide/41069021_6999.000.png", png(room.jpeg[0]))  # a frame without a pose
    put(place / "lowres_wide.traj", "\n".join(lines) + "\n")
    keep_mesh(room, folder / "41069021_3dod_mesh.ply")


def arkit_3dod(folder: Path, room: Room) -> None:
    arkit(folder, room, "41069021_frames")


def tum(folder: Path, room: Room) -> None:
    start, color, depths, poses = (
        1305031102.0,
        ["# color images", "# timestamp filename"],
        ["# depth maps"],
        ["# truth"],
    )
    for i, (jpeg, depth, pose) in room.frames():
        time = start + 0.0333 * i
        put(folder / f"rgb/{time:.6f}.png", png(jpeg))
        put(folder / f"depth/{time + 0.009:.6f}.png", (depth.astype(int) * 5).astype(np.uint16))
        color.append(f"{time:.6f} rgb/{time:.6f}.png")
        depths.append(f"{time + 0.009:.6f} depth/{time + 0.009:.6f}.png")
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()  # x, y, z, w
        for late in (-0.012, 0.004):
            wrong = 100.0 * (late < 0)
            numbers = [*(pose[:3, 3] + wrong), *quaternion]
            poses.append(f"{time + late:.4f} " + " ".join(repr(float(x)) for x in numbers))
    color.append(f"{start + 9:.6f} rgb/{start:.6f}.png")  # long after the last pose
    for name, lines in (("rgb", color), ("depth", depths), ("groundtruth", poses)):
        put(folder / f"{name}.txt", "\n".join(lines) + "\n")
    put(folder / "camera-intrinsics.txt", table(matrix(room.k)))
    keep_mesh(room, folder / "scan.ply")


def replica(folder: Path, room: Room) -> None:
    fx, fy, cx, cy = room.k
    for i, (jpeg, depth, _) in room.frames():
        put(folder / f"results/frame{i:06d}.jpg", jpeg)
        put(folder / f"results/depth{i:06d}.png", np.rint(depth * 6.5535).astype(np.uint16))
    put(folder / "traj.txt", table([pose.ravel() for pose in room.poses]))
    camera = {"w": room.size[1], "h": room.size[0], "fx": fx, "fy": fy, "cx": cx, "cy": cy, "scale": 6553.5}
    put(folder.parent / "cam_params.json", {"camera": camera})
    keep_mesh(room, folder.parent / f"{folder.name}_mesh.ply")


def redwood(folder: Path, room: Room) -> None:
    """Poses in another order than the images, numbered from 1; one colour image more than depth images."""
    items = []
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"rgb/{i + 2:07d}-{33_333 * (i + 1):012d}.jpg", jpeg)
        put(folder / f"depth/{i + 1:07d}-{33_333 * (i + 1) + 700:012d}.png", depth)
        items.append(f"{i} {i} {i + 1}\n" + table(pose))
    put(folder / "rgb/0000001-000000000000.jpg", room.jpeg[0])
    put(folder / "trajectory.log", "".join(items[::-1]))
    columns = np.array(matrix(room.k)).T.ravel().tolist()
    put(folder / "camera_primesense.json", {"width": room.size[1], "height": room.size[0], "intrinsic_matrix": columns})
    keep_mesh(room, folder / "scan.ply")


def _colmap(folder: Path, room: Room) -> list[tuple[int, list[float], str]]:
    images = []
    for i, (jpeg, depth, pose) in room.frames():
        put(folder / f"images/IMG_{i:04d}.jpg", jpeg)
        put(folder / f"depth/IMG_{i:04d}.png", depth)
        there = np.linalg.inv(pose)
        x, y, z, w = Rotation.from_matrix(there[:3, :3]).as_quat()
        images.append((i + 1, [w, x, y, z, *there[:3, 3]], f"IMG_{i:04d}.jpg"))
    keep_mesh(room, folder / "scan.ply")
    return images


def colmap_text(folder: Path, room: Room) -> None:
    fx, fy, cx, cy = room.k
    lines = ["# Image list with two lines of data per image:"]
    for number, row, name in _colmap(folder, room):
        lines += [f"{number} {' '.join(map(repr, map(float, row)))} 7 {name}", "10.5 20.5 -1" if number % 2 else ""]
    put(folder / "sparse/0/images.txt", "\n".join(lines) + "\n")
    size = f"{room.size[1]} {room.size[0]}"
    put(folder / "sparse/0/cameras.txt", f"# Camera list\n7 PINHOLE {size} {fx!r} {fy!r} {cx + 0.5!r} {cy + 0.5!r}\n")


def colmap_binary(folder: Path, room: Room) -> None:
    fx, fy, cx, cy = room.k
    images = _colmap(folder, room)
    data = struct.pack("<Q", len(images))
    for number, row, name in images:
        data += struct.pack("<I7dI", number, *row, 7) + name.encode() + b"\0"
        data += struct.pack("<Q", number) + number * struct.pack("<ddq", 1.5, 2.5, -1)
    put(folder / "sparse/0/images.bin", data)
    camera = struct.pack("<IiQQ4d", 7, 1, room.size[1], room.size[0], fx, fy, cx + 0.5, cy + 0.5)
    put(folder / "sparse/0/cameras.bin", struct.pack("<Q", 1) + camera)


def scannetpp(folder: Path, room: Room) -> None:
    """Its images are 1920x1440; here they are smaller, as many take them out of the video."""
    fx, fy, cx, cy = room.k
    scale = 1920 / room.size[1]
    k = matrix((fx * scale, fy * scale, (cx + 0.5) * scale - 0.5, (cy + 0.5) * scale - 0.5))
    about = {}
    for i, (jpeg, depth, pose) in room.frames():
        name = f"frame_{10 * i:06d}"
        put(folder / f"iphone/rgb/{name}.jpg", jpeg)
        put(folder / f"iphone/depth/{name}.png", depth)
        about[name] = {"timestamp": 0.1 * i, "pose": np.eye(4).tolist(), "aligned_pose": pose.tolist(), "intrinsic": k}
    about["frame_000001"] = about["frame_000000"]  # of which no image was taken out
    put(folder / "iphone/pose_intrinsic_imu.json", about)
    keep_mesh(room, folder / "scans/mesh_aligned_0.05.ply")


def _opencv(name: str, values, columns: int) -> str:
    numbers = [f"{float(v)!r}" for v in np.ravel(values)]
    lines = ",\n       ".join(", ".join(numbers[i : i + 5]) for i in range(0, len(numbers), 5))
    return f"{name}:\n   rows: {len(numbers) // columns}\n   cols: {columns}\n   data: [ {lines} ]\n"


def rtabmap(folder: Path, room: Room, camera: bool = True, times: bool = False) -> None:
    """As `rtabmap-export` leaves it. camera: poses of the camera, else of the robot that carries it half a metre up and
    leaning; times: images are called by these, else by ids."""
    tip = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    mounted = np.eye(4)
    mounted[:3, :3], mounted[:3, 3] = tip @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (0.1, 0, 0.5)
    lines = ["#timestamp x y z qx qy qz qw" + " id" * (not times)]
    for i, (jpeg, depth, pose) in room.frames():
        time, number = f"{1700000000 + 0.5 * i:.6f}", 3 * i + 8
        name = time if times else str(number)
        put(folder / f"flat_rgb/{name}.jpg", jpeg)
        put(folder / f"flat_depth/{name}.png", depth)
        text = f'%YAML:1.0\n---\ncamera_name: "{name}"\nimage_width: {room.size[1]}\nimage_height: {room.size[0]}\n'
        text += _opencv("camera_matrix", matrix(room.k), 3) + _opencv("local_transform", mounted[:3], 4)
        put(folder / f"flat_calib/{name}.yaml", text)
        written = pose if camera else pose @ np.linalg.inv(mounted)
        numbers = [*written[:3, 3], *Rotation.from_matrix(written[:3, :3]).as_quat()]
        lines.insert(1, " ".join([time, *(repr(float(x)) for x in numbers), *[str(number)] * (not times)]))
    other = lines[1].split(" ")
    lines.append(" ".join(["1699999999.000000", *other[1:8], *["7"] * (not times)]))  # of which there is no image
    put(folder / ("flat_camera_poses.txt" if camera else "flat_poses.txt"), "\n".join(lines) + "\n")
    keep_mesh(room, folder / "scan.ply")


FORMATS = {
    "SensReader": exporter,
    "pgm": lambda folder, room: exporter(folder, room, ".pgm"),
    "npy": floats(".npy"),
    "tiff": floats(".tiff"),
    "exr": floats(".exr"),
    "JSON intrinsics": open3d_intrinsics,
    "3RScan": rscan,
    "nerfstudio": nerfstudio,
    "nerfstudio, metres": nerfstudio_metres,
    "Polycam": polycam,
    "Record3D": record3d,
    "ARKitScenes, raw": arkit,
    "ARKitScenes, 3dod": arkit_3dod,
    "TUM": tum,
    "Replica": replica,
    "Redwood": redwood,
    "COLMAP, text": colmap_text,
    "COLMAP, binary": colmap_binary,
    "ScanNet++": scannetpp,
    "RTABMap": rtabmap,
    "RTABMap, the robot's": lambda folder, room: rtabmap(folder, room, camera=False, times=True),
}
