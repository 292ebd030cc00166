"""The teacher on a GPU: first whether it gives what the CPU gives, then how fast it is, and whether it ever waits.

    python tests/benchmarks/bench_teacher.py [--device cuda] [--scans 258]

ViT-B/16 with random weights: the time doesn't depend on them. Images are 320x240, the shape of ScanNet's, so 15x20
patches. Then `hicl preprocess` on scans of ScanNet's size, 16 frames of 1296x968 each as in scannet_frames_25k, with a
teacher for all workers: what share of the time its device computes, and how long all of ScanNet takes. Without a GPU,
the CPU stands in for it: then the figures say what the service costs, not what a GPU gives.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_towers import SPEED, speed
from formats import matrix, write_color, write_depth, write_matrix
from PIL import Image
from rooms import COLOR, DEPTH, Room, scannet_sized, write_ply

from hicl.devices import checked_device, computes_bf16
from hicl.pipeline import run
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import scannet
from hicl.pipeline.teacher.choice import MINIATURE, TeacherConfig
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.features import PatchGrid
from hicl.pipeline.teacher.service import TeacherService, feature_reader
from hicl.processes import cores, pool

VIT, PATCHES, SIDE = "ViT-B-16-quickgelu", (15, 20), 240
SCANS, SCANNET_FRAMES, FRAMES = 1513, 24_902, 16  # FRAMES: of a scan
COLOR_SIZE, DEPTH_SIZE = (968, 1296), (480, 640)
CLASSES = ClassList.of(scannet.CLASSES)


def agree(room: Room, device: str) -> None:
    """The miniature's teacher, that knows what it sees, here and there: the same features, and labels."""
    images = list(room.color[:FRAMES])
    config = TeacherConfig(MINIATURE, MINIATURE)
    here = Teacher(config)
    text, wanted = here.encode_classes(CLASSES), here.encode_images(images)
    print("on the device, against the CPU in fp32:")
    for bf16 in (False, True):
        teacher = Teacher(config, device, bf16, batch=FRAMES)
        found = teacher.encode_images(images)
        one_by_one = np.concatenate([teacher.encode_images([image]) for image in images[:3]])
        assert np.array_equal(one_by_one, found[:3]), "features: depend on what they are computed beside"
        changed = ((found @ text.T).argmax(axis=-1) != (wanted @ text.T).argmax(axis=-1)).mean()
        worst = np.abs(found - wanted).max()
        print(f"  {_name(bf16)}: features differ by {worst:.1e} at most, {100 * changed:.3f} % of patches' labels do")
        assert changed < 0.05 and worst < (0.2 if bf16 else 0.01), "features: others than the CPU's"


def _name(bf16: bool) -> str:
    return "bf16" if bf16 else "fp32"


def write_vit(path: Path) -> TeacherConfig:
    import open_clip
    from safetensors.torch import save_file

    state = open_clip.create_model(VIT, pretrained=None, load_weights=False).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return TeacherConfig(VIT, str(path), short_side=SIDE)


def speeds(config: TeacherConfig, device: str, seconds: float, batches: tuple[int, ...] = (8,)) -> float:
    """Print images a second in each arithmetic, by batches of so many; the best."""
    best = 0.0
    tokens = PATCHES[0] * PATCHES[1] + 1
    flops = 2.0 * 12 * tokens * (12 * 768**2 + 2 * tokens * 768)
    print(f"ViT-B/16 on images 320x240, {flops / 1e9:.0f} GFLOP each; of the device's matrix products:")
    for bf16 in (False, True):
        peak = _products(device, torch.bfloat16 if bf16 else torch.float32)
        for batch in batches:
            teacher = Teacher(config, device, bf16, batch=batch)
            pixels = np.zeros((batch, SIDE, 320, 3), np.uint8)
            teacher.encode_pixels(pixels)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            count, start = 0, time.perf_counter()
            while not count or time.perf_counter() - start < seconds:
                teacher.encode_pixels(pixels)
                count += batch
            rate = count / (time.perf_counter() - start)
            best = max(best, rate)
            memory = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device == "cuda" else ""
            print(
                f"  {_name(bf16)}, batch {batch:3}: {rate:8.1f} images/s, {100 * rate * flops / peak:.0f} % of"
                f" {peak / 1e12:.2f} TFLOP/s{memory}",
                flush=True,
            )
    return best


def _products(device: str, dtype: torch.dtype) -> float:
    """Multiplications and additions a second in large matrix products."""
    side = 8192 if device == "cuda" else 1024
    a = torch.ones(side, side, dtype=dtype, device=device)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2.0 * side**3 / min(times)


class Instant:
    """A teacher that takes no time."""

    batch, device, patches = 32, torch.device("cpu"), PatchGrid((16, 16), SIDE)

    def encode_pixels(self, pixels: np.ndarray):
        return np.zeros((len(pixels), *PATCHES, 512), np.int8), np.zeros((len(pixels), *PATCHES), np.float32)


def read_images(address: str, count: int) -> float:
    """Seconds that a worker needs for so many images, decoded beforehand and of the right size."""
    image = np.zeros((SIDE, 320, 3), np.uint8)
    start = time.perf_counter()
    with feature_reader(address) as reader:
        for _ in range(count):
            reader.add(image)
        reader.features()
    return time.perf_counter() - start


def carrying(count: int = 2000) -> None:
    with TeacherService(Instant()) as service, pool(cores()) as workers:
        list(workers.map(read_images, [service.address] * cores(), [8] * cores()))
        seconds = max(workers.map(read_images, [service.address] * cores(), [count] * cores()))
    print(f"the service alone, to and from {cores()} workers: {cores() * count / seconds:.0f} images/s")


def write_scans(room: Room, root: Path, count: int) -> None:
    """Scans that share their files' bytes by hard links."""
    first = root / "scannet_frames_25k" / "scene0000_00"
    for kind, camera, size in (("color", COLOR, COLOR_SIZE), ("depth", DEPTH, DEPTH_SIZE)):
        across, down = size[1] / camera.width, size[0] / camera.height
        k = camera.fx * across, camera.fy * down, camera.cx * across, camera.cy * down
        write_matrix(first / f"intrinsics_{kind}.txt", matrix(k))
    for frame in range(FRAMES):
        image = Image.fromarray(room.color[frame]).resize(COLOR_SIZE[::-1], Image.Resampling.BICUBIC)
        write_color(first / "color" / f"{100 * frame:06d}.jpg", np.asarray(image), quality=90)
        write_depth(first / "depth" / f"{100 * frame:06d}.png", np.kron(1000 * room.depth[frame], np.ones((2, 2))))
        write_matrix(first / "pose" / f"{100 * frame:06d}.txt", room.poses[frame])
    mesh = root / "scans" / "scene0000_00" / "scene0000_00_vh_clean_2.ply"
    mesh.parent.mkdir(parents=True)
    write_ply(room, mesh)
    for index in range(1, count):
        name = f"scene{index:04d}_00"
        shutil.copytree(first, first.with_name(name), copy_function=os.link)
        (root / "scans" / name).mkdir()
        os.link(mesh, root / "scans" / name / f"{name}_vh_clean_2.ply")


class Timed:
    """A teacher, and the seconds in which at least one of the service's threads has it read."""

    def __init__(self, teacher: Teacher):
        self._teacher, self._lock = teacher, threading.Lock()
        self._reading, self._since = 0, 0.0
        self.images, self.busy, self.batches = 0, 0.0, 0

    def __getattr__(self, name: str):
        return getattr(self._teacher, name)

    def encode_pixels(self, pixels: np.ndarray):
        with self._lock:
            self._since = self._since if self._reading else time.perf_counter()
            self._reading += 1
        try:
            return self._teacher.encode_pixels(pixels)
        finally:
            with self._lock:
                self._reading -= 1
                self.images, self.batches = self.images + len(pixels), self.batches + 1
                self.busy += 0 if self._reading else time.perf_counter() - self._since


def preprocessing(room: Room, folder: Path, config: TeacherConfig, device: str, count: int) -> None:
    write_scans(room, folder / "root", count)
    scenes, _ = scannet.find_scenes(folder / "root")
    settings = PreprocessConfig(clip=config.clip, weights=config.weights, short_side=config.short_side)
    teacher = Timed(run.load_teacher(config.absolute(), device))

    def preprocess(part: list) -> float:
        start = time.perf_counter()
        source = run.Source("scannet", folder / "root", part, scannet.CLASSES)
        summary = run.preprocess(source, folder / "cache", settings, CLASSES, None, device, lambda _: None)
        assert len(summary.done) == len(part), summary.failed
        return time.perf_counter() - start

    def shared(config, device):
        return teacher

    shared.cache_clear = lambda: None
    with mock.patch.object(run, "load_teacher", shared), mock.patch.object(run, "_is_gpu", lambda _: True):
        preprocess(scenes[:2])  # kernels compiled, classes embedded
        teacher.images, teacher.busy, teacher.batches = 0, 0.0, 0
        seconds = preprocess(scenes[2:])
    count -= 2
    frames = count * FRAMES
    assert teacher.images == frames
    print(f"{count} scans of {len(room.xyz):,} points and {FRAMES} frames, {min(cores(), count)} workers, one teacher:")
    print(f"  {60 * count / seconds:.1f} scans/min, {frames / seconds:.1f} images/s, from the workers' start")
    reading = 100 * teacher.busy / seconds
    batch = frames / teacher.batches
    print(f"  the device reads {reading:.1f} % of the time, copies included; {batch:.1f} images a batch")
    minutes = SCANNET_FRAMES / frames * seconds / 60
    print(f"  all {SCANS:,} scans of ScanNet, {SCANNET_FRAMES:,} frames: {minutes:.0f} min")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scans", type=int, default=0, help="default: 258 on a GPU, 6 on a CPU")
    parser.add_argument("--seconds", type=float, default=5, help="for each speed")
    parser.add_argument("--read-outs", action="store_true", help="only their table, a model a family")
    options = parser.parse_args()
    device = checked_device(options.device)
    gpu = device == "cuda"
    name = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    print(f"{name}, {cores()} cores, torch {torch.__version__}, preprocesses in {_name(computes_bf16(device))}")
    torch.set_num_threads(1)
    speed(SPEED, device, 32 if gpu else 1)
    if options.read_outs:
        return
    with tempfile.TemporaryDirectory(dir=".") as folder:
        config = write_vit(Path(folder) / "vit.safetensors")
        room = scannet_sized(FRAMES)
        agree(room, device)
        speeds(config, device, options.seconds, (8, 32, 128) if gpu else (8,))
        carrying()
        preprocessing(room, Path(folder), config, device, options.scans or (258 if gpu else 6))


if __name__ == "__main__":
    main()
