"""The commands as people type them, in processes of their own, from an empty working directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from hicl.cache.opening import open_cache


def hicl(*words, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hicl", *(str(word) for word in words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def fails(result: subprocess.CompletedProcess, *words: str) -> str:
    """The one line of an error; asserts the exit code, the words in it, and that there is no traceback."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("hicl: error: ")]
    assert result.returncode == 1 and len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0]
    return errors[0]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("miniature") / "rooms"
    result = hicl("miniature", "--scenes", 3, "--seed", 11, "--out", out, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    return out


def test_miniature_to_report(miniature, tmp_path):
    """The whole way of a first user: rooms, cache, report. The teacher is the miniature's own."""
    result = hicl("preprocess", "miniature", "--root", miniature, "--out", "cache", "--workers", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "3 scenes done" in result.stderr and " free)" in result.stderr
    again = hicl("preprocess", "scannet", "--root", miniature, "--out", "cache", cwd=tmp_path)
    assert "0 scenes done, 3 up to date" in again.stderr
    report = hicl(
        "report", "labels", "--cache", "cache", "--json", "out/labels.json", "--picture", "out/room.png", cwd=tmp_path
    )
    assert report.returncode == 0, report.stderr
    numbers = json.loads((tmp_path / "out/labels.json").read_text())
    assert numbers["scenes"] == 3 and numbers["coverage"] > 50
    # A teacher that knows nothing of a class list of 20 is right in 5 % of the points.
    assert numbers["raw"]["accuracy"] > 25
    assert numbers["ceiling"]["accuracy"] > numbers["refined"]["accuracy"]
    assert f"{numbers['refined']['miou']:.1f}" in report.stdout
    assert np.asarray(Image.open(tmp_path / "out/room.png")).std() > 10
    room = ("export", "--cache", "cache", "--scene", "scene0002_00", "--out", "room.ply", "--objects", "room.csv")
    export = hicl(*room, cwd=tmp_path)
    assert export.returncode == 0, export.stderr
    vertex = PlyData.read(str(tmp_path / "room.ply"))["vertex"].data
    mesh = PlyData.read(str(miniature / "scans/scene0002_00/scene0002_00_vh_clean_2.ply"))["vertex"].data
    np.testing.assert_array_equal(vertex["x"], mesh["x"])
    assert set(np.unique(vertex["label"])) <= {*range(20), 255} and len(np.unique(vertex["label"])) > 3
    rows = (tmp_path / "room.csv").read_text().splitlines()
    assert len(rows) == vertex["instance"].max() + 2 > 5
    judged = ("report", "objects", "--cache", "cache", "--root", miniature, "--split", "val")
    ap = {labels: hicl(*judged, "--labels", labels, cwd=tmp_path).stdout for labels in ("spread", "truth")}
    ap50 = {labels: float(said.splitlines()[-1].split()[2]) for labels, said in ap.items()}
    assert 0 < ap50["spread"] < ap50["truth"] and ap50["truth"] > 50
    val = hicl("report", "labels", "--cache", "cache", "--split", "val", cwd=tmp_path)
    assert "Labels of 1 scene, split val" in val.stdout


def test_from_a_trained_model_to_a_scan_in_other_words(miniature, tmp_path):
    """What is said of a room by the trained model is what its evaluation counted."""

    def run(*words):
        result = hicl(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout

    mesh = miniature / "scans/scene0002_00/scene0002_00_vh_clean_2.ply"
    run("preprocess", "miniature", "--root", miniature, "--out", "cache", "--workers", 2)
    small = ("--set", "model.stem=4", "--set", "model.planes=[4,4,4,4,4,4,4,4]", "--set", "stream.workers=0")
    run("train", "--cache", "cache", "--exp", "II", "--epochs", 20, "--batch", 2, *small, "--out", "II")
    run("evaluate", "--model", "II", "--cache", "cache")
    scores = json.loads((tmp_path / "II/evaluation-val.json").read_text())
    assert "points: " in run("predict", mesh, "--model", "II/model.safetensors", "--pool", "none", "-o", "out.ply")
    data = PlyData.read(str(tmp_path / "out.ply"))
    label = data["vertex"].data["label"].astype(int)
    assert len(data["face"].data) == len(PlyData.read(str(mesh))["face"].data)
    truth = open_cache(tmp_path / "cache").scene("scene0002_00").read("points/label")
    counted = np.zeros((20, 20), int)
    np.add.at(counted, (truth[truth != 255], label[truth != 255]), 1)
    assert counted.tolist() == scores["confusion"] and len(np.unique(label)) > 1

    run("predict", mesh, "--model", "II", "--classes", "floor, wall", "--pool", "none", "-o", "two.ply")
    assert set(PlyData.read(str(tmp_path / "two.ply"))["vertex"].data["label"]) == {0, 1}
    run("search", mesh, "a bed", "--model", "II", "-o", "near.ply")
    run("search", "a bed", "--cache", "cache", "--scene", "scene0002_00", "-o", "seen.ply")
    near, seen = (PlyData.read(str(tmp_path / f"{name}.ply"))["vertex"].data["similarity"] for name in ("near", "seen"))
    assert np.isfinite(near).all() and np.isnan(seen).any() and np.nanstd(seen) > 0.01
    run("figure", "scene", "--cache", "cache", "--scene", "scene0002_00", "--model", "II", "-o", "scene.png")
    assert np.asarray(Image.open(tmp_path / "scene.png")).std() > 10

    assert "3 scenes relabelled" in run("relabel", "--cache", "cache", "--classes", "floor, bed")
    (tmp_path / "words.txt").write_text("floor\nbed\n")
    words = ("--root", miniature, "--out", "cache", "--classes", "words.txt")
    assert "0 scenes done, 3 up to date" in hicl("preprocess", "miniature", *words, cwd=tmp_path).stderr
    fails(hicl("figure", "scene", "--cache", "cache", "--model", "II", "-o", "scene.png", cwd=tmp_path), "2 classes")
    run("train", "--cache", "cache", "--exp", "I", "--epochs", 1, "--batch", 2, *small, "--out", "I")
    fails(hicl("search", "a bed", "-o", "near.ply", cwd=tmp_path), "either --cache")
    fails(hicl("predict", "nowhere.ply", "--model", "II", "-o", "n.ply", cwd=tmp_path), "nowhere.ply")
    fails(hicl("predict", mesh, "--model", "III", "-o", "n.ply", cwd=tmp_path), "no finished model")


def test_help_is_light(tmp_path):
    code = "import sys, hicl.commands\ntry: hicl.commands.app(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'zarr', 'numba', 'open_clip') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "[default: the first]" in hicl("export", "--help", cwd=tmp_path).stdout


def test_a_users_own_train_py_is_never_imported(tmp_path):
    for name in ("train", "cache", "pipeline"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    assert hicl("--help", cwd=tmp_path).returncode == 0
    fails(hicl("export", "--cache", "nowhere", "--out", "room.obj", cwd=tmp_path), "room.obj", "ends in .ply, .glb")
    fails(hicl("report", "labels", "--cache", "nowhere", cwd=tmp_path), "nowhere", "no such folder")


def test_errors_are_one_line(miniature, tmp_path):
    fails(hicl("preprocess", "scannet", "--root", "gone", "--out", "c", cwd=tmp_path), "gone", "no such folder")
    fails(hicl("preprocess", "scannet", "--root", miniature, "--out", "c", "--split", "test", cwd=tmp_path), "empty")
    fails(hicl("preprocess", "scannet", "--root", miniature, "--out", "c", "--sets", "best2", cwd=tmp_path), "--sets")
    unknown = hicl("preprocess", "rgdb", "--root", miniature, "--out", "c", cwd=tmp_path)
    assert unknown.returncode == 2 and "there are scannet, miniature, rgbd" in unknown.stderr
    fails(hicl("preprocess", "rgbd", "--root", miniature, "--out", "c", cwd=tmp_path), "no posed RGB-D frames")
    fails(hicl("preprocess", "miniature", "--root", tmp_path, "--out", "c", cwd=tmp_path), "no miniature")
    (tmp_path / "bad.toml").write_text("vote = 'image'\nsnets = 1\n")
    words = ("preprocess", "scannet", "--root", miniature, "--out", "c", "--config", "bad.toml")
    fails(hicl(*words, cwd=tmp_path), "bad.toml", "snets")
    (tmp_path / "weights.safetensors").write_bytes(b"not weights")
    words = ("preprocess", "scannet", "--root", miniature, "--out", "c", "--weights", "weights.safetensors")
    fails(hicl(*words, cwd=tmp_path), "weights.safetensors", "safetensors")
    assert not list((tmp_path / "c").glob("*")), "an error leaves nothing behind"


def test_truncated_recording_fails_alone(miniature, tmp_path):
    root = tmp_path / "rooms"
    for source in miniature.rglob("*"):
        if source.is_file():
            target = root / source.relative_to(miniature)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    broken = root / "scans/scene0001_00/scene0001_00.sens"
    data = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(data[: len(data) // 2])
    label = tmp_path / "labels"
    for scene in ("scene0000_00", "scene0001_00", "scene0002_00"):
        (label / scene).mkdir(parents=True)
        for frame in range(24):
            Image.fromarray(np.full((6, 8), frame % 20, np.uint8)).save(label / scene / f"{frame}.png")
    words = ("--root", root, "--out", "cache", "--teacher", "labels", "--labels-dir", label)
    result = hicl("preprocess", "scannet", *words, cwd=tmp_path)
    fails(result, "scene0001_00.sens", "truncated")
    assert "2 scenes done, 0 up to date, 1 failed" in result.stderr
    broken.write_bytes(data)
    result = hicl("preprocess", "scannet", *words, cwd=tmp_path)
    assert result.returncode == 0 and "1 scene done, 2 up to date, 0 failed" in result.stderr
