import errno
import fcntl
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from scenes import CLASSES, arrays, fill, put, set_text, tree

from hicl.cache import store as store_module
from hicl.cache.opening import open_cache
from hicl.cache.store import Folder
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError


def without_manifest(found):
    return {name: content for name, content in found.items() if name != "manifest.parquet"}


def test_nothing_of_ours_is_left_behind(tmp_path):
    path = fill(tmp_path / "cache")
    assert sorted(entry.name for entry in path.iterdir()) == ["manifest.parquet", "scenes", "text", "zarr.json"]
    assert Folder(path).size("") == sum(len(content) for content in tree(path).values() if content is not None)


def test_the_same_scenes_give_the_same_bytes(tmp_path):
    first, second = tree(fill(tmp_path / "x")), tree(fill(tmp_path / "y", ("a", "b")))
    assert first == second


def test_a_scene_is_replaced_whole(tmp_path):
    path = fill(tmp_path / "cache")
    old = open_cache(path).scene("a").read("points/xyz")
    before = old.copy()
    with CacheWriter(path, "scannet") as writer:
        put(writer, "a", arrays(9, n=5, with_optional=False))
        writer.write_manifest({"a": ("val", "")})
    scene = open_cache(path).scene("a")
    np.testing.assert_array_equal(scene.read("points/xyz"), arrays(9, n=5)["points/xyz"])
    assert not scene.has("features/grid")
    np.testing.assert_array_equal(old, before)  # whoever had mapped the old one still sees it


def test_arrays_can_be_kept(tmp_path):
    path, new = fill(tmp_path / "cache"), arrays(5)
    labels = {name: new[name] for name in ("pairs/raw", "pairs/refined", "points/spread")}
    kept = [name for name in new if name not in labels]
    with CacheWriter(path, "scannet") as writer:
        put(writer, "a", new, keep=kept)
    scene, old = open_cache(path).scene("a"), arrays(0)
    for name in old:
        np.testing.assert_array_equal(scene.read(name), (labels if name in labels else old)[name])


def test_a_scene_that_breaks_the_rules_is_not_published(tmp_path):
    path = fill(tmp_path / "cache")
    before = tree(path)
    with CacheWriter(path, "scannet") as writer:
        bad = arrays(3)
        bad["pairs/raw"][0] = 77
        with pytest.raises(HiclError, match="scene a: pairs/raw"):
            put(writer, "a", bad)
        writer.write_manifest({"a": ("val", "")})
    assert tree(path) == before


@pytest.mark.parametrize("classes, rows", [((), 0), (("a", "b"), 3), (tuple(map(str, range(256))), 256)])
def test_classes_that_will_not_do(tmp_path, classes, rows):
    with CacheWriter(tmp_path / "cache", "scannet") as writer, pytest.raises(HiclError, match="classes with"):
        writer.set_text(classes, np.ones((rows, 4), "f4"), "t", {})


# What `kill -9` can leave behind. Each state is made by hand from whole caches.


def reopen(path):
    with CacheWriter(path, "scannet"):
        pass
    return tree(path)


def test_killed_while_staging(tmp_path):
    path = fill(tmp_path / "cache")
    before = tree(path)
    shutil.copytree(path / "scenes" / "a" / "points", path / ".staging" / "a" / "points")
    (path / ".staging" / ".text").mkdir()
    assert reopen(path) == before


def test_killed_with_the_old_scene_put_aside(tmp_path):
    path = fill(tmp_path / "cache")
    before = tree(path)
    (path / ".replaced").mkdir()
    os.replace(path / "scenes" / "a", path / ".replaced" / "a")
    shutil.copytree(path / "scenes" / "b", path / ".staging" / "a")
    assert reopen(path) == before


def test_killed_with_the_new_scene_in_place(tmp_path):
    path = fill(tmp_path / "cache")
    before = tree(path)
    shutil.copytree(path / "scenes" / "b", path / ".replaced" / "a")
    assert reopen(path) == before


def test_killed_with_the_old_text_put_aside(tmp_path):
    path = fill(tmp_path / "cache")
    before = tree(path)
    (path / ".replaced").mkdir()
    os.replace(path / "text", path / ".replaced" / ".text")
    assert reopen(path) == before


def test_killed_between_the_text_and_the_root(tmp_path):
    """The root still speaks of the old text, so that is what stays; meanwhile readers refuse."""
    path, other = fill(tmp_path / "cache"), fill(tmp_path / "other", text="t2")
    before = tree(path)
    (path / ".replaced").mkdir()
    os.replace(path / "text", path / ".replaced" / ".text")
    shutil.copytree(other / "text", path / "text")
    (path / ".zarr.json").write_text("{")
    with pytest.raises(HiclError, match="cut off"):
        _ = open_cache(path).text
    after = reopen(path)
    after.pop(".zarr.json", None)
    assert after == before
    np.testing.assert_array_equal(open_cache(path).text, open_cache(path).text)


def test_killed_between_the_root_and_tidying_up(tmp_path):
    path, other = fill(tmp_path / "cache", text="t2"), fill(tmp_path / "other")
    before = tree(path)
    shutil.copytree(other / "text", path / ".replaced" / ".text")
    assert reopen(path) == before


def test_killed_before_the_first_root(tmp_path):
    whole, path = fill(tmp_path / "whole"), tmp_path / "cache"
    shutil.copytree(whole / "text", path / "text")
    (path / ".staging").mkdir()
    (path / ".zarr.json").write_text("{")
    assert without_manifest(tree(fill(path))) == without_manifest(tree(whole))


class Dying:
    """`os`, until the n-th rename. (For the writer alone: Zarr renames too, in a thread of its own.)"""

    def __init__(self, renames):
        self.renames = renames

    def __getattr__(self, name):
        return getattr(os, name)

    def replace(self, source, target):
        self.renames -= 1
        if self.renames < 0:
            raise KeyboardInterrupt
        os.replace(source, target)


@pytest.mark.parametrize("renames", range(4))
def test_a_change_of_text_cut_off(tmp_path, monkeypatch, renames):
    expected = tree(fill(tmp_path / "whole", text="t2"))
    path = fill(tmp_path / "cut")
    writer = CacheWriter(path, "scannet")
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "os", Dying(renames))
        try:
            set_text(writer, fingerprint="t2")
        except KeyboardInterrupt:
            assert renames < 3
    os.close(writer.store._lock)  # as a kill does: no tidying up
    with CacheWriter(path, "scannet") as writer:
        assert open_cache(path).text.shape == (3, 6)  # sound at once
        assert writer.root["text_fingerprint"] == ("t1" if renames < 3 else "t2")
    assert tree(fill(path, text="t2")) == expected


# Whose folder it is.


@pytest.mark.parametrize("what, cut", [("scene", 1), ("scene", 2), ("text", 1), ("text", 2), ("text", 3)])
def test_a_publishing_that_fails_halfway_is_undone(tmp_path, monkeypatch, what, cut):
    """A full disk, say: unlike a kill, it leaves the writer time to make things worse."""
    path = fill(tmp_path / "cache")
    before, renames, rename = tree(path), [], os.replace

    def full(*names):
        renames.append(names)
        if len(renames) == cut:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(*names)

    with pytest.raises(OSError, match="No space"), CacheWriter(path, "scannet") as writer:
        monkeypatch.setattr(os, "replace", full)
        try:
            put(writer, "a", arrays(5)) if what == "scene" else set_text(writer, fingerprint="t2", seed=1)
        finally:
            monkeypatch.setattr(os, "replace", rename)
    assert tree(path) == before


def test_another_data_set(tmp_path):
    path = fill(tmp_path / "cache")
    (path / ".staging").mkdir()
    before = tree(path)
    with pytest.raises(HiclError, match="a cache of scannet, not of rgbd"):
        CacheWriter(path, "rgbd")
    assert tree(path) == before


@pytest.mark.parametrize("change, said", [({"version": 1}, "cache version 1"), ({"format": "ome-zarr"}, "not a cache")])
def test_another_format(tmp_path, change, said):
    path = fill(tmp_path / "cache")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"] |= change
    (path / "zarr.json").write_text(json.dumps(root))
    (path / ".staging").mkdir()
    before = tree(path)
    with pytest.raises(HiclError, match=said):
        CacheWriter(path, "scannet")
    assert tree(path) == before


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(HiclError, match="not a cache but holds thesis.tex"):
        CacheWriter(tmp_path, "scannet")
    with pytest.raises(HiclError, match="is a file"):
        CacheWriter(tmp_path / "thesis.tex", "scannet")
    assert list(tree(tmp_path)) == ["thesis.tex"]


def test_one_writer_at_a_time(tmp_path):
    path = fill(tmp_path / "cache")
    with CacheWriter(path, "scannet") as writer:
        (path / ".staging" / "a").mkdir(parents=True)
        with pytest.raises(HiclError, match="another hicl preprocess"):
            CacheWriter(path, "scannet")
        assert (path / ".staging" / "a").is_dir()  # not the second one's to tidy up
        assert writer.rows["a"]["split"] == "val"
    with CacheWriter(path, "scannet"):
        pass
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(HiclError, match="another hicl preprocess"):
        CacheWriter(path, "scannet")
    os.close(lock)


# The manifest.


def test_manifest(tmp_path):
    path = fill(tmp_path / "cache", ("b", "a"))
    rows = pq.read_table(path / "manifest.parquet").to_pylist()
    assert [row["scene"] for row in rows] == ["a", "b"]
    row = rows[0]
    assert (row["split"], row["state"], row["error"], row["skipped_frames"]) == ("val", "complete", "", 1)
    assert [row[name] for name in ("points", "frames", "pairs", "sets")] == [7, 3, 7, 3]
    stages = ("points", "views", "sets", "features", "labels")
    assert [row[f"{stage}_fingerprint"] for stage in stages] == [f"{stage}1" for stage in stages]
    assert row["text_fingerprint"] == "t1"
    files = [content for content in tree(path / "scenes" / "a").values() if content is not None]
    assert row["bytes"] == sum(map(len, files))
    assert open_cache(path).manifest == rows


def states(path):
    return {row["scene"]: (row["state"], row["error"]) for row in open_cache(path).manifest}


def test_states(tmp_path):
    path = fill(tmp_path / "cache", ("a", "b", "c"))
    with CacheWriter(path, "scannet") as writer:
        writer.write_manifest({"b": ("val", "b.sens: truncated"), "d": ("train", "d.ply: missing")})
    assert states(path) == {
        "a": ("complete", ""),
        "b": ("failed", "b.sens: truncated"),
        "c": ("complete", ""),
        "d": ("failed", "d.ply: missing"),
    }
    with CacheWriter(path, "scannet") as writer:
        set_text(writer, ("wall", "door", "lamp"), "t2", seed=1)
        put(writer, "c", arrays(2), text="t2")
        writer.write_manifest({"c": ("val", "")})
    assert {name: state for name, (state, _) in states(path).items()} == {
        "a": "stale", "b": "failed", "c": "complete", "d": "failed",
    }  # fmt: skip
    assert open_cache(path).scene_ids() == ["c"]


def test_files_are_counted_only_where_something_changed(tmp_path, monkeypatch):
    path, counted = fill(tmp_path / "cache", ("a", "b", "c")), []
    original = Folder.size
    monkeypatch.setattr(Folder, "size", lambda self, name: counted.append(name) or original(self, name))
    before = tree(path, times=True)
    with CacheWriter(path, "scannet") as writer:
        writer.write_manifest({"a": ("val", "")})
    assert not counted and tree(path, times=True) == before
    with CacheWriter(path, "scannet") as writer:
        put(writer, "b", arrays(9, n=5), split="train")  # and killed: no manifest is written
    with CacheWriter(path, "scannet") as writer:
        writer.write_manifest({"c": ("val", "why")})
    assert set(counted) == {"scenes/b"}
    files = [content for content in tree(path / "scenes" / "b").values() if content is not None]
    assert open_cache(path).manifest[1]["bytes"] == sum(map(len, files))
    assert states(path)["c"] == ("failed", "why")


def test_folders_that_came_or_went_by_hand(tmp_path):
    path = fill(tmp_path / "cache")
    shutil.rmtree(path / "scenes" / "a")
    (path / "scenes" / "stray").mkdir()
    (path / "manifest.parquet").unlink()
    with CacheWriter(path, "scannet") as writer:
        writer.write_manifest({})
    assert states(path) == {"b": ("complete", "")}
    assert open_cache(path).manifest[0]["split"] == "val"  # as the scene itself says


@pytest.mark.parametrize("content", [None, b"", b"junk", "table"])
def test_a_manifest_that_will_not_do(tmp_path, content):
    path = fill(tmp_path / "cache")
    file = path / "manifest.parquet"
    if content is None:
        file.unlink()
    elif content == "table":
        pq.write_table(pq.read_table(file).drop_columns("state"), file)
    else:
        file.write_bytes(content)
    with pytest.raises(HiclError, match="manifest.parquet: "):
        _ = open_cache(path).manifest


def test_classes_are_in_the_root(tmp_path):
    root = json.loads((fill(tmp_path / "cache") / "zarr.json").read_text())
    assert (root["zarr_format"], root["node_type"]) == (3, "group")
    found = root["attributes"]
    assert (found["format"], found["version"], found["dataset"]) == ("hicl-cache", 3, "scannet")
    assert tuple(found["classes"]) == CLASSES and found["text_fingerprint"] == "t1"
