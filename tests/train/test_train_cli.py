import subprocess
import sys

import pytest
from synthetic_rooms import make_cache
from typer.testing import CliRunner

from hicl import commands
from hicl.errors import HiclError

TINY = (
    *("--set", "stream.voxel_size=0.15", "--set", "stream.workers=0", "--set", "model.stem=4"),
    *("--set", "model.planes=[4, 4, 4, 4, 4, 4, 4, 4]", "--set", "heads.tokens=16", "--epochs", "2", "--batch", "2"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(make_cache(tmp_path_factory.mktemp("cli") / "cache", n_points=200, width=8))


def _run(*arguments):
    result = CliRunner().invoke(commands.app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_importing_the_commands_imports_nothing_heavy():
    code = "import sys, hicl.commands; print([m for m in ('torch', 'numba', 'zarr', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_from_training_to_the_papers_figures(cache, tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "V"
    every = ("--set", "schedule.evaluate_every=1")
    assert "next: hicl evaluate" in _run("train", "--cache", cache, "--exp", "v", "--out", run, *TINY, *every)
    text = _run("evaluate", "--model", run, "--cache", cache)
    assert "mIoU" in text and "400 labelled vertices of 2 val scans" in text and (run / "confusion-val.png").exists()
    assert _run("figure", "curves", "--model", run, "--out", tmp_path / "6.png") and (tmp_path / "6.png").exists()
    assert _run("figure", "features", "--model", run, "--cache", cache, "--out", tmp_path / "7.png")
    assert (tmp_path / "7.png").exists()


def test_what_is_missing_is_said(cache, tmp_path):
    with pytest.raises(HiclError, match="which experiment"):
        _run("train", "--cache", cache)
    with pytest.raises(HiclError, match="--out"):
        _run("train", "--cache", cache, "--resume")
    with pytest.raises(HiclError, match="must be key=value"):
        _run("train", "--cache", cache, "--exp", "I", "--set", "heads.tokens")
    with pytest.raises(HiclError, match="experiment VI: unknown"):
        _run("train", "--cache", cache, "--exp", "VI", "--out", tmp_path / "VI")
    with pytest.raises(HiclError, match="no such folder"):
        _run("train", "--cache", tmp_path / "none", "--exp", "I", "--out", tmp_path / "I")
