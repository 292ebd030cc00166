"""`hicl scan` as people type it: what it leaves, what a second run does again, and how it refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from plyfile import PlyData
from typer.testing import CliRunner, Result

from hicl.commands import app
from hicl.commands.scan import _step
from hicl.errors import HiclError
from hicl.pipeline.datasets.scene import Source
from hicl.pipeline.teacher import hub
from hicl.scan import told

sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
import scans

TEACHER = ("--clip", "hicl-miniature", "--weights", "hicl-miniature")


def test_one_command(tmp_path):
    scans.write_scan(tmp_path / "corner")
    words = ("scan", tmp_path / "corner", "-o", tmp_path / "out", "--classes", "floor, wall", *TEACHER)
    first = run(*words)
    assert first.exit_code == 0, first.output
    about = json.loads((tmp_path / "out/summary.json").read_text())["corner"]
    assert about["files"] == [f"corner.{kind}" for kind in ("ply", "csv", "glb", "png", "html")]
    label = PlyData.read(str(tmp_path / "out/corner.ply"))["vertex"].data["label"]
    assert len(label) == about["points"] == 3 * 14 * 14 and about["frames"] == 4
    share = {name: float((label == index).sum() / (label != 255).sum()) for index, name in enumerate(("floor", "wall"))}
    assert about["classes"] == pytest.approx({name: part for name, part in share.items() if part}, abs=1e-3)
    assert np.asarray(Image.open(tmp_path / "out/corner.png")).std() > 10
    assert b'"spread labels"' in (tmp_path / "out/corner.html").read_bytes()
    assert "corner: frames each with files of its own, 4 frames" in first.stderr
    assert f"next: hicl train --cache {tmp_path}/out/cache" in first.stderr
    assert all(line in first.stdout for line in told("corner", about))

    before = (tmp_path / "out/corner.ply").stat().st_mtime_ns
    same = run(*words)
    assert "corner: up to date" in same.stdout and (tmp_path / "out/corner.ply").stat().st_mtime_ns == before
    (tmp_path / "out/corner.png").unlink()
    run(*words)
    assert (tmp_path / "out/corner.png").exists() and (tmp_path / "out/corner.ply").stat().st_mtime_ns != before
    (tmp_path / "out/summary.json").write_text("[]")
    assert "out/summary.json: not a summary" in str(run(*words).exception)


def test_of_a_long_recording_some_frames():
    source = Source("rgbd", Path(), [(SimpleNamespace(frame_ids=range(n)), "train") for n in (7, 301, 2)])
    assert [_step(source), _step(replace(source, scenes=source.scenes[:1]))] == [2, 1]


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


def test_a_refusal_leaves_no_empty_folder(tmp_path, monkeypatch):
    scans.write_scan(tmp_path / "corner")
    monkeypatch.setattr(hub, "cached", lambda entry: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "there").mkdir()
    out = tmp_path / "there/a/b"
    for words in (
        ("scan", tmp_path / "corner", "-o", out),
        ("preprocess", "rgbd", "--root", tmp_path / "corner", "-o", out),
        ("train", "--exp", "V", "--cache", tmp_path / "nothing", "-o", out),
        ("masks", "rgbd", "--root", tmp_path / "nothing", "-o", out),
        ("predict", tmp_path / "nothing.ply", "--model", tmp_path / "nothing", "-o", out / "labels.ply"),
        ("export", "--cache", tmp_path / "nothing", "-o", out / "scene.ply"),
        ("student", "--root", tmp_path / "corner", "--cache", tmp_path / "nothing", "-o", out),
    ):
        done = run(*words)
        assert isinstance(done.exception, HiclError), (words, done.output, done.exception)
        assert list(tmp_path.glob("there/**/*")) == [], words
    (out / "mine").mkdir(parents=True)
    run("scan", tmp_path / "corner", "-o", out)
    assert [path.name for path in out.iterdir()] == ["mine"]
