"""`hicl scan` as people type it: what it leaves, what a second run does again, and how it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData
from test_cli import fails, hicl

from hicl.scan import told

sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
import scans

TEACHER = ("--clip", "hicl-miniature", "--weights", "hicl-miniature")


def test_one_command(tmp_path):
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
    assert all(line in first.stdout for line in told("corner", about))

    before = (tmp_path / "out/corner.ply").stat().st_mtime_ns
    again = hicl("scan", "corner", "-o", "out", "--classes", "floor, wall", *TEACHER, cwd=tmp_path)
    assert "corner: up to date" in again.stdout and (tmp_path / "out/corner.ply").stat().st_mtime_ns == before
    (tmp_path / "out/corner.png").unlink()
    words = ("--classes", "floor, wall, lamp")
    other = hicl("scan", "corner", "-o", "out", *words, *TEACHER, cwd=tmp_path)
    assert "1 scene done" in other.stderr and "written: out/corner.png" in other.stdout


def test_what_it_refuses(tmp_path, monkeypatch):
    scans.write_scan(tmp_path / "corner")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    fails(hicl("scan", "corner", "-o", "out", cwd=tmp_path), "--weights FILE", "--weights hicl-miniature")
    (tmp_path / "out/summary.json").write_text("[]")
    fails(hicl("scan", "corner", "-o", "out", *TEACHER, cwd=tmp_path), "out/summary.json: not a summary")
    fails(hicl("scan", "nothing", "-o", "out", cwd=tmp_path), "nothing: no such folder")
