"""Many scenes in one Zarr group: cache/SPEC.md, "A group"."""

import numpy as np
import pytest
import zarr
from scenes import fill_groups, groups, put_group, set_text, tree

from hicl.cache.check import check
from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError

IDS = ["none.000", "none.001", "one.000", "one.001", "one.002", "two.000"]


@pytest.fixture
def cache(tmp_path):
    return fill_groups(tmp_path / "cache")


def assert_scene(scene, expected):
    assert set(scene.arrays()) == set(expected)
    for name, array in expected.items():
        found = scene.read(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_round_trip(cache):
    reader = open_cache(cache)
    assert reader.grouped and reader.scene_ids("val") == reader.scene_ids() == IDS
    for name, items in groups().items():
        assert [scene.id for scene in reader.group(name)] == [f"{name}.{n:03d}" for n in range(len(items))]
        for number, expected in enumerate(items):
            scene = reader.scene(f"{name}.{number:03d}")
            assert_scene(scene, expected)
            about = scene.attributes
            assert (about["token"], about["split"]) == (f"{name}-{number}", "val")
            assert about["counts"]["points"] == len(expected["points/xyz"])
            assert about["counts"]["pairs"] == len(expected["pairs/point"])
    assert check(cache) == (["none", "one", "two"], {})


def test_zarr_reads_it(cache):
    group = zarr.open_group(cache, mode="r")["scenes/one"]
    for name in groups()["one"][0]:
        whole = group[name][...]
        for item, expected in zip(whole, groups()["one"], strict=True):
            n = len(expected[name])
            np.testing.assert_array_equal(item[:n], expected[name])
            assert not item[n:].any()


def test_files_of_a_group(cache):
    """An array is two files however many key frames share it."""
    found = [name for name, content in tree(cache / "scenes" / "one").items() if content is not None]
    assert len(found) == 2 * len(groups()["one"][0]) + len(["", "points", "views", "pairs", "sets", "features"])


def test_fingerprints(cache):
    reader = open_cache(cache)
    assert reader.fingerprints(IDS) == [reader.scene(name).fingerprint for name in IDS]
    for name in ("one.003", "three.000", "one", "one.00", "one.0000", "one.-01", "one.٠٠١"):
        assert reader.published(name) is None
        with pytest.raises(HiclError, match="no such scene"):
            reader.scene(name)
        with pytest.raises(HiclError, match="no such scene"):
            reader.fingerprints([IDS[0], name])
    assert reader.group("three") is None


def test_arrays_can_be_kept(cache):
    """As when only the classes change: labels are new, all else stays as it is published."""
    new, old = groups(50)["one"], groups()["one"]
    for item, before in zip(new, old, strict=True):
        for name in ("pairs/raw", "pairs/refined"):
            item[name] = np.resize(item[name] if len(item[name]) else 0, len(before[name])).astype("u1")
    keep = [name for name in old[0] if name not in ("pairs/raw", "pairs/refined")]
    with CacheWriter(cache, "nuscenes", grouped=True) as writer:
        put_group(writer, "one", new, keep=keep)
    for number, (item, before) in enumerate(zip(new, old, strict=True)):
        labels = {name: item[name] for name in ("pairs/raw", "pairs/refined")}
        assert_scene(open_cache(cache).scene(f"one.{number:03d}"), before | labels)
    with CacheWriter(cache, "nuscenes", grouped=True) as writer, pytest.raises(HiclError, match="one went away"):
        put_group(writer, "one", new[:2], keep=keep)


def test_the_manifest_has_a_row_a_group(cache):
    rows = {row["scene"]: row for row in open_cache(cache).manifest}
    assert {name: row["items"] for name, row in rows.items()} == {"none": 2, "one": 3, "two": 1}
    assert rows["one"]["points"] == 7 + 5 + 9 and rows["one"]["frames"] == 3 + 2 + 3 and rows["one"]["pairs"] == 10
    before = tree(cache, times=True)
    with CacheWriter(cache, "nuscenes", grouped=True) as writer:
        writer.write_manifest({"one": ("val", "")})
    assert tree(cache, times=True) == before
    with CacheWriter(cache, "nuscenes", grouped=True) as writer:
        writer.write_manifest({"two": ("val", "why"), "three": ("val", "why not")})
    assert open_cache(cache).scene_ids() == [name for name in IDS if name != "two.000"]


def test_a_change_of_classes_makes_them_stale(cache):
    with CacheWriter(cache, "nuscenes", grouped=True) as writer:
        set_text(writer, ("wall", "door"), "t2")
        writer.write_manifest({})
    with pytest.raises(HiclError, match="none is stale"):
        open_cache(cache).scene_ids()
    with pytest.raises(HiclError, match="another class list"):
        open_cache(cache).scene("one.000")
    assert len(open_cache(cache).group("one")) == 3


def test_a_cache_is_of_groups_or_of_scenes(cache):
    with pytest.raises(HiclError, match="cache version 4, not 3"):
        CacheWriter(cache, "nuscenes")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda items: items[1].pop("points/label"), "scene x.001: points/label is missing"),
        (lambda items: items[0].pop("points/label"), "scene x.001: points/label is not in the scenes before it"),
        (lambda items: [item.pop("views/size") for item in items], "scene x.000: views/size is missing"),
        (lambda items: items[1]["pairs/raw"].fill(9), "scene x.001: pairs/raw holds"),
        (lambda items: items[1].update({"sets/id": items[1]["sets/id"][:-1]}), "x.001: sets/id"),
        (lambda items: items[1].update({"points/xyz": items[1]["points/xyz"].astype("f8")}), "points/xyz: rows of"),
        (lambda items: items[1].update({"points/xyz": items[1]["points/xyz"][:, :2]}), "points/xyz: rows of"),
        (lambda items: [item.update({"points/sweep": item["points/sweep"].astype("i4")}) for item in items], "int32"),
        (lambda items: [item.update({"points/ring": item["points/sweep"]}) for item in items], "points/ring is not"),
        (lambda items: items.clear(), "0 scenes, expected 1 to 1000"),
    ],
)
def test_what_breaks_the_rules_is_not_published(cache, change, said):
    before, items = tree(cache), groups(7)["one"]
    change(items)
    with CacheWriter(cache, "nuscenes", grouped=True) as writer:
        with pytest.raises(HiclError, match=said) as error:
            put_group(writer, "x", items) if items else _empty(writer)
        assert "\n" not in str(error.value)
    assert tree(cache) == before


def _empty(writer):
    from hicl.cache.writer import staging

    with staging(writer.path) as stage:
        stage.build_group("x", [], {}, [])
