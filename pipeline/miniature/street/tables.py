"""nuScenes' tables: rows of one scene, and the files that hold those of all."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hicl.pipeline.miniature.street.categories import CATEGORIES
from hicl.pipeline.miniature.street.rig import CHANNELS, HEIGHT, WIDTH, Rig

VERSION = "v1.0-street"
LIDAR = "LIDAR_TOP"
# Every one of these is read by nuscenes-devkit (`nuscenes/nuscenes.py`), rows or none.
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "lidarseg", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
Row = dict[str, Any]
Rows = dict[str, list[Row]]


def token(*what: object) -> str:
    """A row's name: 32 hexadecimal digits that depend on what it is of alone."""
    return hashlib.md5("/".join(map(str, what)).encode(), usedforsecurity=False).hexdigest()


def quaternion(turn: np.ndarray) -> list[float]:
    """w, x, y, z of a rotation float64 [3, 3]."""
    x, y, z, w = Rotation.from_matrix(turn).as_quat()
    return [float(w), float(x), float(y), float(z)]


def _placed(pose: np.ndarray) -> Row:
    return {"translation": [float(v) for v in pose[:3, 3]], "rotation": quaternion(pose[:3, :3])}


class SceneRows:
    """The rows of one scene, gathered file by file in the order of time."""

    def __init__(self, seed: int, index: int, name: str, kind: str, dusk: bool, start: int, rig: Rig):
        """start: microseconds since 1970. rig: the car's sensors."""
        self.rows: Rows = {table: [] for table in TABLES}
        self._of = (seed, index)
        self._last: dict[str, Row] = {}
        when = datetime.fromtimestamp(start / 1e6, UTC)
        self.logfile = f"m{index:03d}-{when:%Y-%m-%d-%H-%M-%S}+0000"
        log = self._token("log")
        self.rows["log"].append({
            "token": log, "logfile": self.logfile, "vehicle": f"m{index:03d}",
            "date_captured": f"{when:%Y-%m-%d}", "location": "miniature",
        })  # fmt: skip
        light = "dusk" if dusk else "day"
        self.rows["scene"].append({
            "token": self._token("scene"), "log_token": log, "nbr_samples": 0, "first_sample_token": "",
            "last_sample_token": "", "name": name, "description": f"{kind}, {light}",
        })  # fmt: skip
        for channel in (LIDAR, *CHANNELS):
            lidar = channel == LIDAR
            k = None if lidar else rig.intrinsics[channel]
            self.rows["calibrated_sensor"].append({
                "token": self._token("sensor", channel), "sensor_token": token("sensor", channel),
                **_placed(rig.lidar if lidar else rig.cameras[channel]),
                "camera_intrinsic": [[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]] if k else [],
            })  # fmt: skip

    def _token(self, *what: object) -> str:
        return token(*self._of, *what)

    def add_sample(self, time: int) -> str:
        """A key frame; returns its token."""
        row = {
            "token": self._token("sample", time), "timestamp": time, "prev": "", "next": "",
            "scene_token": self.rows["scene"][0]["token"],
        }  # fmt: skip
        self._chain("sample", row)
        self.rows["sample"].append(row)
        scene = self.rows["scene"][0]
        scene["nbr_samples"] += 1
        scene["first_sample_token"] = scene["first_sample_token"] or row["token"]
        scene["last_sample_token"] = row["token"]
        return row["token"]

    def add_file(self, channel: str, time: int, ego: np.ndarray, sample: str, key: bool) -> Row:
        """A file of a sensor, and the ego car's place in the world (float64 [4, 4]) at its time."""
        lidar = channel == LIDAR
        folder, ending = "samples" if key else "sweeps", "pcd.bin" if lidar else "jpg"
        row = {
            "token": self._token(channel, time), "sample_token": sample, "ego_pose_token": self._token(channel, time),
            "calibrated_sensor_token": self._token("sensor", channel), "timestamp": time,
            "fileformat": "pcd" if lidar else "jpg", "is_key_frame": key,
            "height": 0 if lidar else HEIGHT, "width": 0 if lidar else WIDTH,
            "filename": f"{folder}/{channel}/{self.logfile}__{channel}__{time}.{ending}", "prev": "", "next": "",
        }  # fmt: skip
        self._chain(channel, row)
        self.rows["sample_data"].append(row)
        self.rows["ego_pose"].append({"token": row["token"], "timestamp": time, **_placed(ego)})
        return row

    def add_labels(self, lidar: Row) -> str:
        """The labels of a key frame's sweep; returns their file's name."""
        row = {
            "token": lidar["token"], "sample_data_token": lidar["token"],
            "filename": f"lidarseg/{VERSION}/{lidar['token']}_lidarseg.bin",
        }  # fmt: skip
        self.rows["lidarseg"].append(row)
        return row["filename"]

    def _chain(self, what: str, row: Row) -> None:
        last = self._last.get(what)
        if last is not None:
            last["next"], row["prev"] = row["token"], last["token"]
        self._last[what] = row


def whole(scenes: list[Rows], map_name: str) -> Rows:
    """All tables: the rows of the scenes, and those that belong to none."""
    rows: Rows = {table: [row for scene in scenes for row in scene[table]] for table in TABLES}
    rows["category"] = [
        {"token": token("category", name), "name": name, "description": "", "index": index}
        for index, name in enumerate(CATEGORIES)
    ]
    rows["sensor"] = [
        {"token": token("sensor", c), "channel": c, "modality": "lidar" if c == LIDAR else "camera"}
        for c in (LIDAR, *CHANNELS)
    ]
    rows["map"] = [{
        "token": token("map"), "log_tokens": [row["token"] for row in rows["log"]], "category": "semantic_prior",
        "filename": map_name,
    }]  # fmt: skip
    return rows


def as_json(rows: Any) -> str:
    """Text of a table, as nuScenes' are."""
    return json.dumps(rows, indent=0) + "\n"


def read_rows(path: Path) -> Rows:
    """What `as_json` wrote of one scene."""
    return json.loads(path.read_text())
