"""What the process that hands out the work keeps of a scene, and workers that start at the same time."""

import dataclasses
import os
import pickle
import subprocess
import sys
from concurrent.futures import Executor, Future

import pytest
from formats import sens, write_mesh

from hicl.errors import HiclError
from hicl.pipeline import run
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import scannet
from hicl.pipeline.datasets.sens import SensFile
from hicl.pipeline.teacher.choice import MINIATURE


class Refusing(Executor):
    """Does nothing but note how large the jobs are, as they would be sent."""

    def __init__(self):
        self.sizes = []

    def submit(self, work, job):
        self.sizes.append(len(pickle.dumps(job)))
        future = Future()
        future.set_exception(HiclError("not today"))
        return future


def test_frames_are_indexed_by_the_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(SensFile, "_index_frames", lambda *_: pytest.fail("indexed where the work is handed out"))
    frames = 3000
    for name in ("scene0000_00", "scene0001_00"):
        folder = write_mesh(tmp_path / "scans" / name)
        sens(1).but(frames=sens(1).frames * frames).write(folder / f"{name}.sens")
    scenes, _ = scannet.find_scenes(tmp_path)
    source = run.Source("scannet", tmp_path, scenes, scannet.CLASSES)
    config, executor, said = PreprocessConfig(clip=MINIATURE, weights=MINIATURE), Refusing(), []
    classes = ClassList.of(scannet.CLASSES)
    summary = run.preprocess(source, tmp_path / "cache", config, classes, None, "cpu", said.append, executor)
    assert set(summary.failed.values()) == {"not today"} and "2 scenes to do" in said[0]
    assert len(executor.sizes) == 2 and max(executor.sizes) < 4000
    for scene, _ in scenes:
        assert set(vars(scene)) == {field.name for field in dataclasses.fields(scene)}


COUNT = """
import sys
from hicl.pipeline.warmup import compile_kernels
compile_kernels()
kernels = [value for name, module in sys.modules.items() if name.startswith("hicl.pipeline.kernels.")
           for value in vars(module).values() if hasattr(value, "stats")]
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels), len(set(kernels)))
"""


def test_of_processes_that_start_together_one_compiles(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COUNT]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    compiled = sorted(int(process.communicate()[0].split()[0]) for process in processes)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert compiled[:2] == [0, 0] and compiled[2] > 10


def test_a_run_that_finds_all_up_to_date_loads_no_kernels():
    code = "import sys, hicl.pipeline.run; print([name for name in ('numba', 'torch', 'PIL') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
