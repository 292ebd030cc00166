import shlex
import shutil
import subprocess
import sys

import pytest
from invoke import hicl
from synthetic_rooms import make_cache

from hicl.errors import HiclError
from hicl.files import locked

TINY = (
    *("--set", "stream.voxel_size=0.15", "--set", "stream.workers=0", "--set", "model.stem=4"),
    *("--set", "model.planes=[4, 4, 4, 4, 4, 4, 4, 4]", "--set", "heads.tokens=16", "--epochs", "2", "--batch", "2"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(make_cache(tmp_path_factory.mktemp("cli") / "cache", n_points=200, width=8))


def test_importing_the_commands_imports_nothing_heavy():
    code = "import sys, hicl.commands; print([m for m in ('torch', 'numba', 'zarr', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_from_training_to_the_papers_figures(cache, tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "V"
    every = ("--set", "schedule.evaluate_every=1")
    assert "next: hicl evaluate" in hicl("train", "--cache", cache, "--exp", "v", "--out", run, *TINY, *every)
    text = hicl("evaluate", "--model", run, "--cache", cache)
    assert "mIoU" in text and "400 labelled vertices of 2 val scans" in text and (run / "confusion-val.png").exists()
    assert hicl("figure", "curves", "--model", run, "--out", tmp_path / "6.png") and (tmp_path / "6.png").exists()
    assert hicl("figure", "features", "--model", run, "--cache", cache, "--out", tmp_path / "7.png")
    assert (tmp_path / "7.png").exists()


def test_answers_are_pooled_in_sets_and_joined_with_the_images(cache, tmp_path):
    run = tmp_path / "I"
    hicl("train", "--cache", cache, "--exp", "I", "--out", run, *TINY)
    said = {}
    for pool in ("sets", "none"):
        for ensemble in ("none", "product", "average", "surer"):
            ways = ("--model", run, "--cache", cache, "--pool", pool, "--ensemble", ensemble)
            said[pool, ensemble] = hicl("evaluate", *ways)
            name = "-".join(["val", *(way for way in (pool, ensemble) if way != "none")])
            assert (run / f"evaluation-{name}.json").exists()
            hicl("export", *ways, "--scene", "val04", "--out", tmp_path / f"{pool}-{ensemble}.ply")
    assert "each by its set and its images (surer)" in said["sets", "surer"]
    assert "each by its voxel, argmax" in said["none", "none"]
    files = {path.read_bytes() for path in tmp_path.glob("*.ply")}
    assert len(files) > 2  # they do differ
    hicl("export", "--model", run, "--cache", cache, "--scene", "val04", "--out", tmp_path / "default.ply")
    assert (tmp_path / "default.ply").read_bytes() == (tmp_path / "sets-none.ply").read_bytes()
    with pytest.raises(HiclError, match="--pool voxels: unknown; known are sets, none"):
        hicl("export", "--cache", cache, "--model", run, "--out", tmp_path / "a.ply", "--pool", "voxels")
    with pytest.raises(HiclError, match="--ensemble average joins a network with the scene's labels: give --model"):
        hicl("export", "--cache", cache, "--out", tmp_path / "a.ply", "--ensemble", "average")


def test_the_next_command_is_one_that_works(cache, tmp_path):
    """A scan of one's own has neither a split val nor truth: no evaluation. Paths are quoted."""
    own = str(make_cache(tmp_path / "my cache", val=0, n_points=200, width=8))
    said = hicl("train", "--cache", own, "--exp", "I", "--out", tmp_path / "my run", *TINY)
    (line,) = [line for line in said.splitlines() if line.startswith("next: hicl ")]
    words = shlex.split(line.removeprefix("next: hicl "))
    assert words[0] == "export"
    command = [sys.executable, "-m", "hicl", *words]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "my run/labels.ply").stat().st_size > 1000


def test_a_folder_that_is_trained_in_is_refused(cache, tmp_path):
    with locked(tmp_path / "V"), pytest.raises(HiclError, match="V: another hicl is writing to it"):
        hicl("train", "--cache", cache, "--exp", "V", "--out", tmp_path / "V", *TINY)
    with locked(tmp_path / "t"), pytest.raises(HiclError, match="t: another hicl is writing to it"):
        hicl("table2", "--cache", cache, "--out", tmp_path / "t", *TINY)


def test_a_folder_that_holds_something_else_is_refused(cache, tmp_path):
    """A cache, or the source folder cache/ of a checkout; but not what a run that was killed at once has left."""
    copy = shutil.copytree(cache, tmp_path / "cache")
    before = sorted(copy.iterdir())
    with pytest.raises(HiclError, match="cache: holds manifest.parquet and no run; choose another --out"):
        hicl("train", "--cache", copy, "--exp", "I", "--out", copy, *TINY)
    assert sorted(copy.iterdir()) == before
    for name in (".part.config.toml", "config.toml"):
        (tmp_path / name / "tensorboard").mkdir(parents=True)
        (tmp_path / name / name).write_text("")
        if name != "config.toml":
            (tmp_path / name / "tensorboard").rmdir()
        hicl("train", "--cache", cache, "--exp", "I", "--out", tmp_path / name, *TINY)


def test_a_full_disk_is_one_line_that_names_the_file(cache, tmp_path):
    hicl("export", "--cache", cache, "--out", tmp_path / "a.ply")  # its kernels are compiled
    (tmp_path / "a.ply").unlink()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    code = f"{limit}; from hicl.commands import main; main()"
    command = [sys.executable, "-c", code, "export", "--cache", cache, "--out", tmp_path / "a.ply"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == f"hicl: error: {tmp_path / 'a.ply'}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said(cache, tmp_path):
    with pytest.raises(HiclError, match="which experiment"):
        hicl("train", "--cache", cache)
    with pytest.raises(HiclError, match="--out"):
        hicl("train", "--cache", cache, "--resume")
    with pytest.raises(HiclError, match="must be key=value"):
        hicl("train", "--cache", cache, "--exp", "I", "--set", "heads.tokens")
    with pytest.raises(HiclError, match="experiment VII: unknown"):
        hicl("train", "--cache", cache, "--exp", "VII", "--out", tmp_path / "VII")
    with pytest.raises(HiclError, match="--exp VII: unknown; known are I, II"):
        hicl("table2", "--cache", cache, "--exp", "VII", "--out", tmp_path / "t")
    with pytest.raises(HiclError, match="no such folder"):
        hicl("train", "--cache", tmp_path / "none", "--exp", "I", "--out", tmp_path / "I")
