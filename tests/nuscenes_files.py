"""Folders in nuScenes' layout, written from the description of its format: a car in a yard with walls.

The world's ground is z = 0, its walls x = ±WALL[0] and y = ±WALL[1]; so what a ray meets is known in closed form. The
car drives along x and turns a little; a LiDAR on its roof sends its rays one column after the other, all at one time.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

FINE = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
ROAD, MANMADE, EGO = 24, 28, 31
WALL = (20.0, 12.0)
CAMERAS = {"CAM_FRONT": 0, "CAM_FRONT_RIGHT": -60, "CAM_BACK_RIGHT": -120, "CAM_BACK": 180, "CAM_BACK_LEFT": 120,
           "CAM_FRONT_LEFT": 60}  # fmt: skip
LOG = "n015-2018-07-24-11-22-45+0800"


def token(*parts) -> str:
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


def quaternion(yaw, tilt=0.0) -> list[float]:
    """Of a turn about z by `yaw` after one about x by `tilt`, in radians."""
    a, b = (np.cos(yaw / 2), np.sin(yaw / 2)), (np.cos(tilt / 2), np.sin(tilt / 2))
    return [a[0] * b[0], a[0] * b[1], a[1] * b[1], a[1] * b[0]]


def rotation(q) -> np.ndarray:
    """By Rodrigues' formula, of a unit quaternion."""
    w, v = q[0], np.array(q[1:])
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def drive(seconds):
    """(quaternion, translation) of the car in the world."""
    return quaternion(0.3 * seconds, 0.01), [4.0 * seconds - 5, 1.0, 0.0]


def meet(origin, rays):
    """(distance [M] along each ray, lidarseg's label [M]) of what rays [M, 3] from an origin inside the yard meet."""
    with np.errstate(divide="ignore"):
        to_ground = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
        walls = [
            np.where(rays[:, a] != 0, (np.sign(rays[:, a]) * WALL[a] - origin[a]) / rays[:, a], np.inf) for a in (0, 1)
        ]
    distance = np.minimum(to_ground, np.minimum(*walls))
    return distance, np.where(to_ground <= distance, ROAD, MANMADE)


LIDAR_PLACE = (quaternion(-np.pi / 2), [0.94, 0.0, 1.84])


def camera_place(channel):
    yaw = np.deg2rad(CAMERAS[channel])
    about_z = quaternion(yaw - np.pi / 2)
    down = [np.cos(-np.pi / 4), np.sin(-np.pi / 4), 0, 0]  # x right, y down, z forward
    w, x, y, z = about_z
    a, b, c, d = down
    q = [w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c, w * c - x * d + y * a + z * b,
         w * d + x * c - y * b + z * a]  # fmt: skip
    return q, [1.0 + 0.7 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5]


def to_world(place, ego):
    """(rotation [3, 3], translation [3]) from a sensor to the world."""
    turn = rotation(ego[0])
    return turn @ rotation(place[0]), turn @ np.array(place[1]) + np.array(ego[1])


def sweep(seconds, columns):
    """(float32 [N, 5] of a .pcd.bin, labels uint8 [N]): columns of 32 rings, of which the lowest two see the car."""
    azimuth = -np.arange(columns) * 2 * np.pi / columns
    elevation = np.deg2rad(np.linspace(-30.67, 10.67, 32))
    a, e = np.repeat(azimuth, 32), np.tile(elevation, columns)
    rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    turn, origin = to_world(LIDAR_PLACE, drive(seconds))
    distance, label = meet(origin, rays @ turn.T)
    ring = np.tile(np.arange(32), columns)
    distance, label = np.where(ring < 2, 0.7, distance), np.where(ring < 2, EGO, label)
    rows = np.column_stack([rays * distance[:, None], 20 + ring, ring]).astype("<f4")
    return rows, label.astype(np.uint8)


def picture(channel, seconds, size, focal):
    """uint8 [H, W] of lidarseg's labels."""
    height, width = size
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([(column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal, np.ones(size)], axis=-1)
    turn, origin = to_world(camera_place(channel), drive(seconds))
    return meet(origin, rays.reshape(-1, 3) @ turn.T)[1].reshape(size).astype(np.uint8)


def write(root: Path, scenes=("scene-0061",), version="v1.0-mini", frames=2, between=1, columns=120, size=(90, 160),
          with_labels=True):  # fmt: skip
    """The folder: scenes of key frames half a second apart with some sweeps between. Returns tables by name."""
    focal = size[1] / 2.0 / np.tan(np.deg2rad(35))
    tables = {
        name: []
        for name in (
            "attribute",
            "visibility",
            "instance",
            "sample_annotation",
            "sensor",
            "calibrated_sensor",
            "ego_pose",
            "log",
            "scene",
            "sample",
            "sample_data",
        )
    }
    tables["category"] = [
        {"token": token(name), "name": name, "description": "", **({"index": i} if with_labels else {})}
        for i, name in enumerate(FINE)
    ]
    tables["map"] = [{"token": token("map"), "log_tokens": [token("log")], "category": "", "filename": "maps/m.png"}]
    tables["log"] = [{"token": token("log"), "logfile": LOG, "vehicle": "n015", "date_captured": "", "location": ""}]
    channels = {"LIDAR_TOP": "lidar"} | dict.fromkeys(CAMERAS, "camera") | {"RADAR_FRONT": "radar"}
    for channel, modality in channels.items():
        tables["sensor"].append({"token": token(channel), "channel": channel, "modality": modality})
    (root / "maps").mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(root / "maps" / "m.png")
    if with_labels:
        tables["lidarseg"] = []
        (root / "lidarseg" / version).mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes):
        _write_scene(root, tables, scene, number, version, channels, frames, between, columns, size, focal)
    (root / version).mkdir(exist_ok=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return tables


def _write_scene(root, tables, scene, number, version, channels, frames, between, columns, size, focal):
    start = 1_532_402_927_000_000 + number * 60_000_000
    pinhole = [[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]]
    for channel, modality in channels.items():
        place = LIDAR_PLACE if channel not in CAMERAS else camera_place(channel)
        row = {"token": token(scene, channel), "sensor_token": token(channel), "translation": list(place[1])}
        tables["calibrated_sensor"].append(
            row | {"rotation": list(place[0]), "camera_intrinsic": pinhole if modality == "camera" else []}
        )
    samples = [token(scene, "sample", n) for n in range(frames)]
    for n, name in enumerate(samples):
        beside = {"prev": samples[n - 1] if n else "", "next": samples[n + 1] if n + 1 < frames else ""}
        time = start + n * 500_000
        tables["sample"].append({"token": name, "timestamp": time, "scene_token": token(scene), **beside})
    tables["scene"].append(
        {
            "token": token(scene),
            "log_token": token("log"),
            "nbr_samples": frames,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": scene,
            "description": "",
        }  # fmt: skip
    )
    for channel, modality in channels.items():
        steps = range((frames - 1) * (between + 1) + 1)
        tokens = [token(scene, channel, step) for step in steps]
        for step in steps:
            is_key = step % (between + 1) == 0
            late = 0 if modality == "lidar" else -1000 * (5 + 7 * list(channels).index(channel))
            time = start + step * 500_000 // (between + 1) + late
            seconds = (time - start) / 1e6
            folder = f"{'samples' if is_key else 'sweeps'}/{channel}"
            ending = {"lidar": ".pcd.bin", "camera": ".jpg", "radar": ".pcd"}[modality]
            file = f"{folder}/{LOG}__{channel}__{time}{ending}"
            (root / folder).mkdir(parents=True, exist_ok=True)
            if modality == "lidar":
                rows, label = sweep(seconds, columns)
                rows.tofile(root / file)
                if is_key and "lidarseg" in tables:
                    labels = f"lidarseg/{version}/{tokens[step]}_lidarseg.bin"
                    label.tofile(root / labels)
                    entry = {"token": tokens[step], "sample_data_token": tokens[step], "filename": labels}
                    tables["lidarseg"].append(entry)
            elif modality == "camera" and is_key:
                shown = picture(channel, seconds, size, focal)
                Image.fromarray(np.stack([shown * 8] * 3, axis=-1)).save(root / file, quality=95)
            ego = drive(seconds)
            tables["ego_pose"].append(
                {"token": tokens[step], "timestamp": time, "rotation": ego[0], "translation": ego[1]}
            )
            image = modality == "camera"
            tables["sample_data"].append(
                {
                    "token": tokens[step],
                    "sample_token": samples[-(-step // (between + 1))],
                    "ego_pose_token": tokens[step],
                    "calibrated_sensor_token": token(scene, channel),
                    "timestamp": time,
                    "fileformat": "jpg" if image else "pcd",
                    "is_key_frame": is_key,
                    "height": size[0] if image else 0,
                    "width": size[1] if image else 0,
                    "filename": file,
                    "prev": tokens[step - 1] if step else "",
                    "next": tokens[step + 1] if step + 1 < len(steps) else "",
                }  # fmt: skip
            )
