"""How `hicl preprocess` scales: with workers, with scenes, and when it starts.

    python tests/benchmarks/bench_scale.py

Rooms of the miniature, with workers that have started: scenes a minute with 1, 2, … of them. Then a data set of
ScanNet's size, small scans with recordings as long as ScanNet's: what a run costs that finds nothing to do, and the
memory of the process that hands out the work. Then processes that meet at an empty cache of compiled kernels.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from formats import Sens, encoded, picture, write_frames_25k, write_mesh

from hicl.cache.writer import CacheWriter
from hicl.pipeline import fingerprint
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import scannet
from hicl.pipeline.miniature.scan import write_dataset
from hicl.pipeline.run import Source, preprocess
from hicl.pipeline.teacher.choice import MINIATURE, TeacherConfig
from hicl.processes import cores, pool

SCANS, FEW = 1513, 100
FRAMES = 1669  # the mean of ScanNet's recordings
TEACHER = {"clip": MINIATURE, "weights": MINIATURE}
CLASSES = ClassList.of(scannet.CLASSES)
# VmHWM: getrusage's peak would be that of this process, where it is larger.
_COMMAND = """
import sys, hicl.commands
try: hicl.commands.main()
finally: print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def hicl(*words) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a command, workers' memory apart."""
    start = time.perf_counter()
    command = [sys.executable, "-c", _COMMAND, *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return time.perf_counter() - start, int(result.stderr.split()[-1]) / 1000


def throughput(folder: Path, rooms: int) -> None:
    """Rooms a minute, all stages, by workers that have each done one before. Where other work shares the machine,
    compare the processor's seconds a room: those should not depend on the number of workers."""
    write_dataset(folder / "rooms", rooms, seed=0, workers=cores())
    scenes, _ = scannet.find_scenes(folder / "rooms")

    def run(part: list, out: Path, executor) -> None:
        source = Source("miniature", folder / "rooms", part, scannet.CLASSES)
        preprocess(source, out, PreprocessConfig(**TEACHER), CLASSES, None, "cpu", lambda _: None, executor)

    print(f"{rooms} rooms of the miniature")
    print("  workers  scenes/min  efficiency  CPU s a room")
    alone = None
    for count in range(1, cores() + 1):
        with pool(count) as executor:
            run(scenes[:count], folder / f"warm{count}", executor)
            start, before = time.perf_counter(), processor_seconds(executor)
            run(scenes, folder / f"all{count}", executor)
            rate = 60 * rooms / (time.perf_counter() - start)
            used = processor_seconds(executor) - before
        alone = alone or rate
        print(f"  {count:7}  {rate:10.1f}  {100 * rate / (count * alone):8.0f} %  {used / rooms:12.2f}")


def processor_seconds(executor) -> float:
    """What the processes of a pool have used so far."""
    times = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in executor._processes)
    return sum(int(user) + int(system) for user, system in times) / os.sysconf("SC_CLK_TCK")


def make_scans(root: Path, n: int, form: str) -> None:
    """n scans that share their files' bytes by hard links, as recordings or as frames of scannet_frames_25k."""
    model = write_mesh(root / "model")
    jpeg, depth = encoded(picture(), quality=80), zlib.compress(np.full((12, 16), 2000, "<u2").tobytes())
    Sens([(np.eye(4), jpeg, depth)] * FRAMES).write(model / "model.sens")
    frames = write_frames_25k(root / "frames", range(0, FRAMES, 100))
    for index in range(n):
        name = f"scene{index // 3:04d}_{index % 3:02d}"
        (root / "scans" / name).mkdir(parents=True)
        for ending in ("_vh_clean_2.ply", ".sens"):
            os.link(model / f"model{ending}", root / "scans" / name / f"{name}{ending}")
        if form == "frames":
            shutil.copytree(frames, root / "scannet_frames_25k" / name, copy_function=os.link)
    shutil.rmtree(model), shutil.rmtree(frames)


def make_cache(root: Path, out: Path) -> None:
    """The cache of all scans of a root, by copies of the first scene, each with the fingerprints of its own scan."""
    config, teacher = PreprocessConfig(**TEACHER), TeacherConfig(MINIATURE, MINIATURE)
    scenes, _ = scannet.find_scenes(root)
    source = Source("scannet", root, scenes[:1], scannet.CLASSES)
    preprocess(source, out, config, CLASSES, 1, "cpu", lambda _: None)
    text = fingerprint.text(teacher.identity(), CLASSES)
    first = out / "scenes" / scenes[0][0].id
    metadata = json.loads((first / "zarr.json").read_text())
    for scene, split in scenes[1:]:
        folder = out / "scenes" / scene.id
        shutil.copytree(first, folder, copy_function=os.link)
        stages = fingerprint.scene(scene, root, config, teacher.identity(), [], [], text)
        metadata["attributes"] |= {"stages": stages, "split": split}
        (folder / "zarr.json").unlink()
        (folder / "zarr.json").write_text(json.dumps(metadata))
    with CacheWriter(out, "scannet") as writer:
        writer.write_manifest({})


def scale(folder: Path) -> None:
    """A run that finds nothing to do, and one that makes all labels anew, on few scans and on many."""
    print(f".sens of {FRAMES} frames; frames of every 100th of them")
    print("    scans  form    up to date, s  memory, MB  all labels anew, s  memory of the parent, MB")
    for n, form in ((FEW, ".sens"), (SCANS, ".sens"), (SCANS, "frames")):
        root, out = folder / f"{n}{form}", folder / f"cache{n}{form}"
        make_scans(root, n, form)
        make_cache(root, out)
        words = ["preprocess", "scannet", "--root", root, "--out", out, "--clip", MINIATURE, "--weights", MINIATURE]
        seconds, memory = min(hicl(*words) for _ in range(3))
        line = f"  {n:7,}  {form:6}  {seconds:13.2f}  {memory:10.0f}"
        if form == ".sens":
            anew, parent = hicl(*words, "--vote", "scene")
            line += f"  {anew:18.0f}  {parent:24.0f}"
        print(line)


def start_up(folder: Path) -> None:
    """Processes that begin at the same time, as the workers of a cluster do."""
    print(f"hicl --help: {min(hicl('--help')[0] for _ in range(5)):.2f} s")
    compile_all = [sys.executable, "-c", "from hicl.pipeline.warmup import compile_kernels; compile_kernels()"]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kernels")}
    for what in ("with an empty cache of kernels", "with all compiled"):
        start = time.perf_counter()
        processes = [subprocess.Popen(compile_all, env=environment) for _ in range(4)]
        failed = sum(process.wait() != 0 for process in processes)
        print(f"4 processes at once, {what}: {time.perf_counter() - start:.1f} s, {failed} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start_up(Path(folder))
        scale(Path(folder))
        throughput(Path(folder), args.rooms)


if __name__ == "__main__":
    main()
