"""nuScenes' tables, projection and sets, beside the devkit's.

    python tests/benchmarks/bench_nuscenes.py tables [FOLDER] [--share 1.0] [--devkit PYTHON]
    python tests/benchmarks/bench_nuscenes.py frames ROOT [--devkit PYTHON]

`tables` writes made-up tables of v1.0-trainval's size, or a share of it, and opens them by both, each in a process of
its own, in a FOLDER that is kept or in one that isn't; before the clocks count, what both found is compared. `frames`
projects a key frame of a folder in nuScenes' layout (`hicl miniature --kind street` writes one) into its six cameras
by both, and makes its sets. PYTHON is one that has nuscenes-devkit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import table

from hicl.pipeline import lidar, normals, partition
from hicl.pipeline.datasets import nuscenes
from hicl.pipeline.datasets.nuscenes_splits import official
from hicl.processes import keep_freed_memory

best_ms = partial(table.best_ms, clock=time.process_time)  # of one core, whatever else the machine does
SCENES, SAMPLES, VERSION = 850, 40, "v1.0-trainval"
_CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
_RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
RATES = {"LIDAR_TOP": 10} | dict.fromkeys(_CAMERAS + _RADARS, 6)  # shots a sample
BOXES = 34  # annotations a sample

_OURS = """
import sys, time, json
from pathlib import Path
from hicl.pipeline.datasets import nuscenes
root, sweeps = Path(sys.argv[1]), int(sys.argv[2])
nuscenes.NuScenesScene.is_there = lambda scene: True
def read():
    start = time.process_time()
    found = nuscenes.source(root, nuscenes.Settings(sweeps=sweeps))
    return time.process_time() - start, found
first, found = read()
items = [item for scene, _ in found.scenes for item in scene.key_frames]
said = {item.lidar.token: [item.lidar.ego.translation[0], len(item.cameras)] for item in items[::501]}
peak = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024
print(json.dumps({"s": first, "mb": peak, "items": len(items), "said": said}))
"""
_DEVKIT = """
import sys, time, json
from nuscenes import NuScenes
start = time.process_time()
found = NuScenes("v1.0-trainval", sys.argv[1], verbose=False)
took = time.process_time() - start
said = {}
for token in json.loads(sys.stdin.read()):
    row = found.get("sample_data", token)
    data = found.get("sample", row["sample_token"])["data"]
    ego = found.get("ego_pose", row["ego_pose_token"])["translation"][0]
    said[token] = [ego, sum(channel.startswith("CAM") for channel in data)]
peak = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024
print(json.dumps({"s": took, "mb": peak, "items": len(found.sample), "said": said}))
"""

_DEVKIT_PROJECTS = """
import sys, time, json, os
from nuscenes import NuScenes
known = NuScenes(sys.argv[2], sys.argv[1], verbose=False)
data = known.get("sample", known.get("sample_data", sys.argv[3])["sample_token"])["data"]
def project():
    see = known.explorer.map_pointcloud_to_image
    return {c: see(sys.argv[3], t)[0].shape[1] for c, t in data.items() if "CAM" in c}
counts = project()
times = []
for _ in range(10):
    start = time.process_time()
    project()
    times.append(time.process_time() - start)
print(json.dumps({"ms": 1000 * min(times), "counts": counts}))
"""


def write_tables(folder: Path, share: float) -> int:
    """Tables of this share of v1.0-trainval, in the layout of its own files. Returns the rows of sample_data."""
    rng = np.random.default_rng(0)
    pool = iter(lambda: rng.bytes(16).hex(), "")
    (folder / VERSION).mkdir(parents=True, exist_ok=True)
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "m.png").write_bytes(b"")
    small = {name: [] for name in ("attribute", "visibility", "calibrated_sensor", "scene", "sample", "instance")}
    small["sensor"] = [{"token": next(pool), "channel": c, "modality": _modality(c)} for c in RATES]
    small["category"] = [{"token": next(pool), "name": "vehicle.car", "description": ""}]
    small["log"] = [{"token": next(pool), "logfile": "", "vehicle": "", "date_captured": "", "location": ""}]
    small["map"] = [
        {"token": next(pool), "log_tokens": [small["log"][0]["token"]], "category": "", "filename": "maps/m.png"}
    ]
    big = {
        name: open(folder / VERSION / f"{name}.json", "w") for name in ("sample_data", "ego_pose", "sample_annotation")
    }
    count, first = 0, dict.fromkeys(big, "[\n")

    def add(name: str, row: dict) -> None:
        big[name].write(first[name] + json.dumps(row, indent=0))
        first[name] = ",\n"

    number = 0
    for number in range(max(1, round(SCENES * share))):
        scene, log = next(pool), "n015-2018-07-24-11-22-45+0800"
        mounts = {}
        for sensor in small["sensor"]:
            mounts[sensor["channel"]] = next(pool)
            matrix = (
                [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if sensor["modality"] == "camera" else []
            )
            small["calibrated_sensor"].append(
                {"token": mounts[sensor["channel"]], "sensor_token": sensor["token"], "translation": [0.9, 0.0, 1.8],
                 "rotation": [0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817],
                 "camera_intrinsic": matrix})  # fmt: skip
        tokens = [next(pool) for _ in range(SAMPLES)]
        begin = 1_532_402_927_647_951 + number * 60_000_000
        small["scene"].append({"token": scene, "log_token": small["log"][0]["token"], "nbr_samples": SAMPLES,
            "first_sample_token": tokens[0], "last_sample_token": tokens[-1], "name": _names()[number],
            "description": ""})  # fmt: skip
        for n, sample in enumerate(tokens):
            small["sample"].append({"token": sample, "timestamp": begin + 500_000 * n,
                "prev": tokens[n - 1] if n else "", "next": tokens[n + 1] if n + 1 < SAMPLES else "",
                "scene_token": scene})  # fmt: skip
            instance = next(pool)
            small["instance"].append({"token": instance, "category_token": small["category"][0]["token"],
                "nbr_annotations": 1, "first_annotation_token": "", "last_annotation_token": ""})  # fmt: skip
            for _ in range(BOXES):
                add("sample_annotation", {"token": next(pool), "sample_token": sample, "instance_token": instance,
                    "visibility_token": "1", "attribute_tokens": [], "translation": [373.214, 1130.48, 1.25],
                    "size": [0.621, 0.669, 1.642], "rotation": [0.9831098797903927, 0.0, 0.0, -0.18301629506281616],
                    "prev": "", "next": "", "num_lidar_pts": 5, "num_radar_pts": 0})  # fmt: skip
            for channel, rate in RATES.items():
                for step in range(rate):
                    token, time_ = next(pool), begin + 500_000 * n + 50_000 * step
                    ending = "pcd.bin" if channel == "LIDAR_TOP" else "jpg" if channel[0] == "C" else "pcd"
                    kind, image = "sweeps" if step else "samples", channel[0] == "C"
                    add("sample_data", {"token": token, "sample_token": sample, "ego_pose_token": token,
                        "calibrated_sensor_token": mounts[channel], "timestamp": time_, "fileformat": ending[:3],
                        "is_key_frame": step == 0, "height": 900 * image, "width": 1600 * image,
                        "filename": f"{kind}/{channel}/{log}__{channel}__{time_}.{ending}",
                        "prev": "", "next": ""})  # fmt: skip
                    x = rng.random(3)
                    add("ego_pose", {"token": token, "timestamp": time_,
                        "rotation": [0.5720320396729045, x[0] / 64, x[1] / 64, 0.8201],
                        "translation": [411.3039245605469 + x[2], 1180.890362519 + x[1], 0.0]})  # fmt: skip
                    count += 1
    for file in big.values():
        file.write("\n]")
        file.close()
    for name, rows in small.items():
        (folder / VERSION / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return count


def _names() -> list[str]:
    return sorted(official("train") + official("val"))


def _modality(channel: str) -> str:
    return {"L": "lidar", "C": "camera", "R": "radar"}[channel[0]]


def in_a_process(python: str, program: str, *words: str, given: str = "") -> dict:
    done = subprocess.run([python, "-c", program, *words], input=given, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def tables(folder: Path, share: float, devkit: str | None) -> None:
    if not (folder / VERSION).exists():
        rows = write_tables(folder, share)
        print(f"{rows:,} rows of sample_data written", flush=True)
    in_a_process(sys.executable, _OURS, str(folder), "0")  # compiles, and brings the files into memory
    for sweeps in (0, 9):
        ours = in_a_process(sys.executable, _OURS, str(folder), str(sweeps))
        print(
            f"hicl, {sweeps} sweeps: {ours['s']:.1f} s, {ours['mb']:.0f} MB at most, {ours['items']:,} key frames",
            flush=True,
        )
    if devkit:
        theirs = in_a_process(devkit, _DEVKIT, str(folder), given=json.dumps(list(ours["said"])))
        assert theirs["said"] == ours["said"] and theirs["items"] == ours["items"], "both must find the same"
        again = in_a_process(sys.executable, _OURS, str(folder), "0")
        print(f"devkit: {theirs['s']:.1f} s, {theirs['mb']:.0f} MB at most")
        print(f"times: {theirs['s'] / again['s']:.1f} of the time, {theirs['mb'] / again['mb']:.1f} of the memory")


def frames(root: Path, devkit: str | None) -> None:
    """The first key frame of a root: its six cameras, and its sets."""
    keep_freed_memory()  # as the pipeline's worker processes do
    scene = nuscenes.source(root, nuscenes.Settings()).scenes[0][0]
    item = scene.items[0]
    points = item.points()
    cameras = {channel: item.image(channel)[1:] for channel in item.channels}
    every = np.ones_like(points.valid)  # the devkit leaves the car's own points in

    def project(valid: np.ndarray, sensor: np.ndarray | None) -> dict[str, int]:
        return {
            c: len(lidar.project(points.xyz, valid, pose, camera, sensor)[0]) for c, (camera, pose) in cameras.items()
        }

    counts = project(every, None)
    without, with_hidden = (best_ms(partial(project, points.valid, sensor), 20) for sensor in (None, points.sensor))
    print(f"six cameras: {without:.2f} ms, with what hides what {with_hidden:.2f} ms")
    xyz = points.xyz[points.valid]
    toward = (points.sensor - xyz).astype(np.float32)
    index, _ = normals.neighbors(xyz, 32, 2.0)
    print(f"sets of {len(xyz):,} points: {best_ms(lambda: partition.sweep_sets(xyz, toward), 10):.1f} ms")
    print(f"  of it 32 neighbours {best_ms(lambda: normals.neighbors(xyz, 32, 2.0), 10):.1f} ms")
    print(f"  of it normals {best_ms(lambda: normals.pca_normals(xyz, index, toward), 10):.1f} ms")
    if devkit:
        version = next(path.parent.name for path in root.glob("*/sample_data.json"))
        theirs = in_a_process(devkit, _DEVKIT_PROJECTS, str(root), version, item.token)
        assert all(abs(counts[c] - n) <= 2 for c, n in theirs["counts"].items()), "both must see the same points"
        print(
            f"devkit: {theirs['ms']:.1f} ms, {theirs['ms'] / without:.0f} times; {theirs['ms'] / with_hidden:.0f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("tables", "frames"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--devkit")
    options = parser.parse_args()
    if options.what == "frames":
        frames(options.root, options.devkit)
        return
    with tempfile.TemporaryDirectory() as folder:
        tables(options.root or Path(folder), options.share, options.devkit)


if __name__ == "__main__":
    main()
