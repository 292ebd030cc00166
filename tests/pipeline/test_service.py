"""One teacher for many processes: everyone gets the features of its own images, whatever they were computed beside."""

import contextlib
import functools
import multiprocessing
import signal
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scans import tree, write_scan

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline import run
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import rgbd
from hicl.pipeline.datasets.scannet import CLASSES
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.features import FeatureReader, PatchGrid
from hicl.pipeline.teacher.service import TeacherService, feature_reader

SIZES = ((48, 64), (64, 48))


def images(count: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8))


def read(address: str, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    with feature_reader(address) as reader:
        for picture in pictures:
            reader.add(picture)
        return reader.features()


@pytest.fixture
def teacher(tiny_clip) -> Teacher:
    return Teacher(TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights), batch=16)


class Recording:
    """A teacher that notes how many images, of what size, it was given each time; slow at first, so that more come."""

    def __init__(self, teacher: Teacher):
        self.batch, self.device, self.patches = teacher.batch, teacher.device, teacher.patches
        self._teacher, self.seen, self.go = teacher, [], threading.Event()

    def encode_pixels(self, pixels):
        self.seen.append(pixels.shape)
        self.go.wait(60)
        return self._teacher.encode_pixels(pixels)


def test_every_process_gets_its_own_features(teacher):
    """Bit by bit those of its images read alone."""
    given = [images(count, SIZES[index % 2], seed=index) for index, count in enumerate((1, 3, 8, 9, 17, 30))]
    with TeacherService(teacher) as service:
        with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(read, [service.address] * len(given), given))
    for pictures, (codes, scales) in zip(given, found, strict=True):
        assert len(codes) == len(pictures)
        for picture, code, scale in zip(pictures, codes, scales, strict=True):
            alone = teacher.encode_pixels(teacher.patches.resize(picture)[None])
            assert np.array_equal(code, alone[0][0]) and np.array_equal(scale, alone[1][0])


def test_what_comes_in_meanwhile_is_the_next_batch_as_far_as_it_fits(teacher):
    slow = Recording(teacher)
    with TeacherService(slow) as service, contextlib.ExitStack() as stack:

        def start(count: int, size: tuple[int, int], arrived) -> None:
            thread = threading.Thread(target=read, args=[service.address, images(count, size, 0)])
            thread.start()
            stack.callback(thread.join)
            while not arrived():
                time.sleep(0.01)

        for busy in (1, 2):
            start(3, SIZES[0], lambda busy=busy: len(slow.seen) == busy)
        for waiting, size in enumerate([SIZES[0]] * 3 + [SIZES[1]] + [SIZES[0]] * 4, start=1):
            start(3, size, lambda waiting=waiting: len(service._queue) == waiting)
        slow.go.set()
    counts = [shape[0] for shape in slow.seen]
    # Five of three images fit into 16; the one of another size and the two that are left go by themselves.
    assert counts[:2] == [3, 3] and sorted(counts[2:]) == [3, 6, 15]


def test_a_failing_teacher_is_said_in_one_line(teacher):
    def fail(pixels):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate much")

    broken = SimpleNamespace(batch=None, device=teacher.device, patches=teacher.patches, encode_pixels=fail)
    with (
        TeacherService(broken) as service,
        pytest.raises(HiclError, match=r"on its device \(CUDA out of memory\.\); use --device cpu$"),
    ):
        read(service.address, images(3, SIZES[0], 0))


def kill_after_one_request(address: str) -> None:
    with feature_reader(address) as reader:
        for picture in images(8, SIZES[0], 0):
            reader.add(picture)
        signal.raise_signal(signal.SIGKILL)


def test_a_killed_process_costs_the_others_nothing(teacher):
    slow = Recording(teacher)
    with TeacherService(slow) as service:
        process = multiprocessing.get_context("spawn").Process(target=kill_after_one_request, args=[service.address])
        process.start()
        process.join()
        slow.go.set()
        pictures = images(5, SIZES[1], 1)
        codes, _ = read(service.address, pictures)
    assert process.exitcode == -signal.SIGKILL
    assert np.array_equal(codes, teacher.encode_pixels(np.stack([*map(teacher.patches.resize, pictures)]))[0])


def test_a_stranger_is_turned_away(teacher):
    with TeacherService(teacher) as service:
        with pytest.raises((multiprocessing.AuthenticationError, EOFError, OSError)):
            multiprocessing.connection.Client(service.address, authkey=b"a guess").recv()
        assert len(read(service.address, images(1, SIZES[0], 0))[0]) == 1


def within(seconds: float, work) -> None:
    """Fail rather than hang."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()


def test_a_service_can_be_left_at_any_moment(teacher):
    def come_and_go():
        for _ in range(200):
            with TeacherService(teacher) as service, socket.socket(socket.AF_UNIX) as peer:
                peer.connect(service.address)

    within(60, come_and_go)


def test_a_silent_peer_holds_up_nobody(teacher):
    def serve():
        with TeacherService(teacher) as service, socket.socket(socket.AF_UNIX) as silent:
            silent.connect(service.address)
            read(service.address, images(1, SIZES[0], 0))

    within(60, serve)


def test_what_a_service_leaves_unanswered_is_an_error(teacher):
    slow, errors = Recording(teacher), []

    def ask(address):
        try:
            read(address, images(1, SIZES[0], 0))
        except HiclError as error:
            errors.append(str(error))

    with TeacherService(slow) as service:
        threads = [threading.Thread(target=ask, args=[service.address]) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(slow.seen) < 2 or len(service._queue) + sum(shape[0] for shape in slow.seen) < 5:
            time.sleep(0.01)
        threading.Timer(0.3, slow.go.set).start()  # while it is being left
    for thread in threads:
        thread.join(60)
    assert len(errors) == 5 - sum(shape[0] for shape in slow.seen)
    with pytest.raises(HiclError, match="closed it; run the command again"):
        read(service.address, images(1, SIZES[0], 0))
    assert set(errors) <= {"the process that holds the teacher closed it; run the command again"}


def test_a_reader_asks_for_features_only_when_more_images_have_come_together():
    log = []

    def request(pixels):
        log.append(f"ask {len(pixels)}")
        return lambda: (log.append("take"), pixels[:, 0, 0], pixels[:, 0, 0, 0].astype(np.float32))[1:]

    reader = FeatureReader(PatchGrid((8, 8), 16), request, at_once=2)
    for shade in range(5):
        reader.add(np.full((20, 30, 3), shade, np.uint8))
    codes, scales = reader.features()
    assert log == ["ask 2", "take", "ask 2", "take", "ask 1", "take"]
    assert codes[:, 0].tolist() == scales.tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> list[Teacher]:
    """The CPU stands in for it: one teacher for all workers, and batches of one size. Gives the teachers loaded."""
    loaded = []

    @functools.lru_cache(maxsize=1)
    def load(config, device):
        torch.set_num_threads(1)  # as a teacher on a CPU is loaded
        loaded.append(Teacher(config, batch=16))
        return loaded[-1]

    monkeypatch.setattr(run, "_is_gpu", lambda device: True)
    monkeypatch.setattr(run, "load_teacher", load)
    return loaded


def test_scenes_share_one_teacher_and_its_bytes_do_not_depend_on_the_workers(tmp_path, tiny_clip, as_on_a_gpu):
    for index in range(5):
        write_scan(tmp_path / "scans" / f"corner{index}", frames=2 + 3 * index, seed=index)
    config = PreprocessConfig(clip=tiny_clip.vit.config, weights=tiny_clip.vit.weights, short_side=64)

    def preprocess(name: str, workers: int) -> dict:
        scenes = [(scene, "test") for scene in rgbd.find_scenes(tmp_path / "scans", 1)]
        source = run.Source("rgbd", tmp_path / "scans", scenes, ())
        classes = ClassList.of(CLASSES)
        summary = run.preprocess(source, tmp_path / name, config, classes, workers, "cpu", lambda _: None)
        assert len(summary.done) == 5 and not summary.failed
        return tree(tmp_path / name)

    one, two, three = (preprocess(f"cache{workers}", workers) for workers in (1, 2, 3))
    assert one == two == three
    assert len(as_on_a_gpu) == 1
    assert open_cache(tmp_path / "cache3").scene("corner4").read("features/grid").shape[0] == 14


def test_an_unknown_device_is_said_before_anything_is_compiled(tmp_path, tiny_clip, monkeypatch):
    write_scan(tmp_path / "scans" / "corner", frames=2)
    monkeypatch.setattr(run, "_compile_beside", lambda: pytest.fail("kernels are compiled"))
    config = PreprocessConfig(clip=tiny_clip.vit.config, weights=tiny_clip.vit.weights, short_side=64)
    scenes = [(scene, "test") for scene in rgbd.find_scenes(tmp_path / "scans", 1)]
    source = run.Source("rgbd", tmp_path / "scans", scenes, ())
    with pytest.raises(HiclError, match=r"^--device tpu: unknown; known are auto, cpu, cuda$"):
        run.preprocess(source, tmp_path / "cache", config, ClassList.of(CLASSES), 1, "tpu", lambda _: None)
    assert not list((tmp_path / "cache").glob("*"))
