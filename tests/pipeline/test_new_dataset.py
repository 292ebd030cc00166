"""A data set is one file: the one below, listed once, has its command, its options, its help and its caches."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline import datasets

TOY = '''
"""Square floors, seen from above."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hicl.config import setting
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Scene, Source


@dataclass(frozen=True)
class Settings(PreprocessConfig):
    height: float = setting(2.0, "Of the camera above the floor", unit="metres", above=0)
    scenes: int = setting(1, "How many", least=1, recorded=False)


@dataclass(frozen=True)
class Floor(Scene):
    id: str
    file: Path
    height: float
    color_camera: Camera = Camera(60.0, 60.0, 31.5, 31.5, 64, 64)
    depth_camera: Camera = Camera(60.0, 60.0, 31.5, 31.5, 64, 64)

    @property
    def frame_ids(self):
        return np.arange(1, dtype=np.int32)

    def points(self):
        side = np.linspace(-0.9, 0.9, 40, dtype=np.float32)
        xyz = np.stack([*np.meshgrid(side, side), np.zeros((40, 40), np.float32)], axis=-1).reshape(-1, 3)
        return Points(xyz, np.full(xyz.shape, 128, np.uint8), label=np.zeros(len(xyz), np.uint8))

    def frame(self, frame_id):
        pose = np.diag([1.0, -1, -1, 1])
        pose[2, 3] = self.height
        return Frame(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), self.height, np.float32), pose)

    def point_files(self):
        return [self.file]

    def frame_files(self):
        return [self.file]


def source(root, settings):
    scenes = [(Floor(f"floor{i}", root / "floors.txt", settings.height), "train") for i in range(settings.scenes)]
    return Source("toy", root, scenes, classes=("floor", "wall"), truth_classes=("floor", "wall"))
'''


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(datasets.DATASETS, "toy", "toy")
    (tmp_path / "floors.txt").write_text("a floor")
    (tmp_path / "labels").mkdir()
    image = np.zeros((64, 64), np.uint8)
    image[:, 32:] = 1
    Image.fromarray(image).save(tmp_path / "labels" / "0.png")

    def run(*words):
        return CliRunner().invoke(commands.app, [str(word) for word in words])

    return run


def test_it_is_one_file_of_under_60_lines(run):
    assert len(TOY.strip().splitlines()) < 60
    listed = run("preprocess", "--help").output
    assert "toy" in listed and "Square floors, seen from above." in listed
    page = run("preprocess", "toy", "--help").output
    assert "--height <float>" in page and "metres. [default: 2.0]" in " ".join(page.split()) and "--max-gap" in page
    assert "height = 2.0" in run("config", "preprocess", "toy").output


def test_from_its_scenes_to_a_cache(run, tmp_path):
    where = ("--root", tmp_path, "--out", tmp_path / "cache", "--workers", 1)
    labels = ("--teacher", "labels", "--labels-dir", tmp_path / "labels")
    first = run("preprocess", "toy", *where, *labels)
    assert first.exit_code == 0, first.output
    cache = open_cache(tmp_path / "cache")
    scene = cache.scene("floor0")
    assert cache.dataset == "toy" and cache.classes == ("floor", "wall")
    x, raw = scene.read("points/xyz")[scene.read("pairs/point"), 0], scene.read("pairs/raw")
    # The camera looks down with x to the right: the right half of its image is where x > 0.
    np.testing.assert_array_equal(raw, x > 0)
    assert "1 up to date" in run("preprocess", "toy", *where, *labels).output
    higher = run("preprocess", "toy", *where, *labels, "--height", 3)
    assert "1 scene done" in higher.output  # its own options count in its fingerprints
    assert open_cache(tmp_path / "cache").scene("floor0").attributes["settings"]["height"] == 3
    refused = run("preprocess", "toy", *where, "--height", -1)
    assert isinstance(refused.exception, HiclError) and "--height -1.0: must be greater than 0" in str(
        refused.exception
    )
    (tmp_path / "mine.toml").write_text("heigth = 3.0\n")
    misspelt = run("preprocess", "toy", *where, "--config", tmp_path / "mine.toml")
    assert "did you mean 'height'?" in str(misspelt.exception)
