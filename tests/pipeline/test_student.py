"""MaskCLIP+ and Chen et al. from rooms to their rows of Table 1, by the commands."""

import json

import numpy as np
import pytest
from invoke import hicl
from PIL import Image

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline.miniature import scan
from hicl.pipeline.report import measure


def test_a_2d_networks_labels_and_a_segmenters_masks_become_rows_of_table_1(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "FRAMES", 4)  # a room takes as long as its images
    root, cache, out = tmp_path / "rooms", tmp_path / "cache", tmp_path / "student"
    hicl("miniature", "--scenes", 2, "--out", root, "--workers", 1)
    hicl("preprocess", "miniature", "--root", root, "--out", cache, "--workers", 1)
    opened = open_cache(cache)
    refined = {name: opened.scene(name).read("pairs/refined") for name in opened.scene_ids()}
    said = hicl("masks", "miniature", "--root", root, "--out", tmp_path / "masks", "--workers", 1)
    assert f"--masks-dir {tmp_path / 'masks'} --masks kept" in said
    images = sorted((tmp_path / "masks").rglob("*.png"))
    times = [image.stat().st_mtime_ns for image in images]
    hicl("masks", "miniature", "--root", root, "--out", tmp_path / "masks", "--workers", 1)
    assert len(images) == sum(len(opened.scene(name).read("views/frame")) for name in refined)
    assert [image.stat().st_mtime_ns for image in images] == times
    kept = ("--masks-dir", tmp_path / "masks", "--masks", "kept")
    hicl("preprocess", "miniature", "--root", root, "--out", cache, "--workers", 1, *kept)
    opened = open_cache(cache)
    for name, labels in refined.items():  # masks are there, and say nothing yet
        np.testing.assert_array_equal(opened.scene(name).read("pairs/refined"), labels)
        assert opened.scene(name).read("pairs/mask").max() > 5
    said = hicl("student", "--root", root, "--cache", cache, "--out", out, "--steps", 4, "--workers", 1)
    assert "next: hicl table1 --cache" in said and json.loads((out / "student.json").read_text())["parameters"] > 1e6
    before = (out / "student.json").read_bytes()
    hicl("student", "--root", root, "--cache", cache, "--out", out, "--steps", 4, "--workers", 1)
    assert (out / "student.json").read_bytes() == before  # with its minutes: it wasn't trained anew
    opened, labelled = open_cache(cache), open_cache(out / "cache")
    assert labelled.scene_ids() == opened.scene_ids("val")
    scene = labelled.scene(labelled.scene_ids()[0])
    same = opened.scene(scene.id)
    np.testing.assert_array_equal(scene.read("pairs/point"), same.read("pairs/point"))
    # Each pair has what the image says at its pixel.
    view, pixel = 1, scene.read("pairs/pixel")
    own = slice(*scene.read("pairs/indptr")[view : view + 2])
    frame = scene.attributes.get("frame_names", scene.read("views/frame").astype(str))[view]
    image = np.asarray(Image.open(out / "labels" / scene.id / f"{frame}.png"))
    row, column = np.floor((pixel[own] + 0.5) * image.shape / scene.read("views/size")[view]).astype(int).T
    np.testing.assert_array_equal(scene.read("pairs/raw")[own], image[row, column])
    rows = ("--row", "maskclip", "--row", "maskclip-plus", "--row", "chen", "--epochs", 3)
    text = hicl("table1", "--cache", cache, "--out", tmp_path / "results", "--student", out, *rows)
    assert "| MaskCLIP+ | 21.6 |" in text and "| Chen et al. | 33.5 |" in text
    table = json.loads((tmp_path / "results/table1.json").read_text())["rows"]
    assert table["maskclip-plus"]["all"]["miou"] == [measure(labelled, labelled.scene_ids())["raw_all"]["miou"]]
    with pytest.raises(HiclError, match="--row maskclip-plus: needs what `hicl student` wrote"):
        hicl("table1", "--cache", cache, "--out", tmp_path / "results", *rows)
