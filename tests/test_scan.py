"""`hicl scan` as people type it: what it leaves, what a second run does again, and how it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from plyfile import PlyData
from test_cli import hicl
from typer.testing import CliRunner, Result

from hicl import commands
from hicl.commands import app
from hicl.pipeline.teacher import hub
from hicl.scan import told

sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
import scans

TEACHER = ("--clip", "hicl-miniature", "--weights", "hicl-miniature")


def test_one_command(tmp_path, monkeypatch):
    scans.write_scan(tmp_path / "corner")
    first = hicl("scan", "corner", "-o", "out", "--classes", "floor, wall", *TEACHER, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    about = json.loads((tmp_path / "out/summary.json").read_text())["corner"]
    assert about["files"] == [f"corner.{kind}" for kind in ("ply", "csv", "glb", "png", "html")]
    label = PlyData.read(str(tmp_path / "out/corner.ply"))["vertex"].data["label"]
    assert len(label) == about["points"] == 3 * 14 * 14 and about["frames"] == 4
    share = {name: float((label == index).sum() / (label != 255).sum()) for index, name in enumerate(("floor", "wall"))}
    assert about["classes"] == pytest.approx({name: part for name, part in share.items() if part}, abs=1e-3)
    assert np.asarray(Image.open(tmp_path / "out/corner.png")).std() > 10
    assert b'"spread labels"' in (tmp_path / "out/corner.html").read_bytes()
    assert "corner: frames each with files of its own, 4 frames" in first.stderr
    assert "next: hicl train --cache out/cache" in first.stderr
    assert all(line in first.stdout for line in told("corner", about))

    def again(*words: str) -> Result:
        return run("scan", tmp_path / "corner", "-o", tmp_path / "out", *words, *TEACHER)

    before = (tmp_path / "out/corner.ply").stat().st_mtime_ns
    same = again("--classes", "floor, wall")
    assert "corner: up to date" in same.stdout and (tmp_path / "out/corner.ply").stat().st_mtime_ns == before
    (tmp_path / "out/corner.png").unlink()
    other = again("--classes", "floor, wall, lamp")
    assert "1 scene done" in other.stderr and (tmp_path / "out/corner.png").exists()
    monkeypatch.setattr(commands.scan, "MOST_FRAMES", 3)
    fewer = again("--classes", "floor, wall, lamp")
    assert "one frame in 2 is taken" in fewer.stderr and "seen by 2 frames" in fewer.stdout
    (tmp_path / "out/summary.json").write_text("[]")
    assert "out/summary.json: not a summary" in str(again("--classes", "floor, wall, lamp").exception)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_it_refuses(tmp_path, monkeypatch):
    scans.write_scan(tmp_path / "corner")
    monkeypatch.setattr(hub, "cached", lambda entry: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = str(run("scan", tmp_path / "corner", "-o", tmp_path / "out").exception)
    assert "give it: --weights FILE" in said and "--clip hicl-miniature --weights hicl-miniature" in said
    said = str(run("scan", tmp_path / "nothing", "-o", tmp_path / "out").exception)
    assert said == f"{tmp_path}/nothing: no such folder"
    said = str(run("scan", tmp_path / "corner", "-o", tmp_path / "corner").exception)
    assert f"-o {tmp_path}/corner: is a capture" in said
