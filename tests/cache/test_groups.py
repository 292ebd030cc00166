"""Many scenes in one Zarr group: cache/SPEC.md, "A group"."""

import json
import shutil
import struct

import google_crc32c
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem
from scenes import fill_groups, groups, key_frame, put_group, set_text, tree
from typer.testing import CliRunner

from hicl.cache.check import check
from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.commands import app
from hicl.errors import HiclError

IDS = ["none.000", "none.001", "one.000", "one.001", "one.002", "two.000"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fill_groups(tmp_path_factory.mktemp("groups") / "cache")


@pytest.fixture
def cache(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cache")


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


# Damage.


def with_checksum(payload: bytes) -> bytes:
    return payload + struct.pack("<I", google_crc32c.value(payload))


def shard_of(cache, name, group="one"):
    return next(path for path in (cache / "scenes" / group / name / "c").rglob("*") if path.is_file())


def refused(cache, name, said, scene="one.000"):
    with pytest.raises(HiclError, match=said) as error:
        open_cache(cache).scene(scene).read(name)
    assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize("name", sorted(key_frame()))
def test_every_flipped_byte_is_found(cache, name):
    """By one scene at least, each of which reads the index and its own chunk; and by `hicl check`."""
    file = shard_of(cache, name)
    whole = file.read_bytes()
    for byte in np.unique(np.linspace(0, len(whole) - 1, 16).astype(int)):
        file.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        found = []
        for scene in open_cache(cache).group("one"):
            try:
                scene.read(name)
            except HiclError as error:
                assert "delete the scene and preprocess again" in str(error) and "\n" not in str(error)
                found.append(scene.id)
        assert found, byte
    assert list(check(cache)[1]) == ["one"]
    file.write_bytes(whole)
    assert check(cache) == (["none", "one", "two"], {})


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", ["points/xyz", "pairs/raw", "features/grid"])
def test_truncated(cache, name, keep):
    file = shard_of(cache, name)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    refused(cache, name, "delete the scene and preprocess again")
    file.unlink()
    refused(cache, name, "missing")


@pytest.mark.parametrize("entry", [(1 << 64) - 1, 1 << 40])
@pytest.mark.parametrize("field", [0, 1])
def test_a_chunk_that_lies_outside(cache, field, entry):
    """With an index whose checksum is right, as one that is made to do harm has."""
    file = shard_of(cache, "points/xyz")
    data = bytearray(file.read_bytes())
    n = 16 * 3 + 4
    index = bytearray(data[-n:-4])
    index[8 * field : 8 * field + 8] = entry.to_bytes(8, "little")
    file.write_bytes(bytes(data[:-n]) + with_checksum(bytes(index)))
    refused(cache, "points/xyz", "a chunk lies outside it")
    assert open_cache(cache).scene("one.001").read("points/xyz").shape == (5, 3)


def test_a_chunk_of_another_scene(cache):
    """Its checksum is right; what it holds is then looked at like any other content."""
    file = shard_of(cache, "pairs/point")
    data = file.read_bytes()
    n = 16 * 3 + 4
    index = bytearray(data[-n:-4])
    index[16:32] = index[:16]
    file.write_bytes(data[:-n] + with_checksum(bytes(index)))
    sound, damaged = check(cache)
    assert sound == ["none", "two"] and "one" in damaged


@pytest.mark.parametrize(
    "shape", [[3, 9], [3, 6, 3], [4, 9, 3], [3, 9, 4], [3, 1 << 40, 3], [3], [], None, [3, "9", 3]]
)
def test_a_shape_is_compared_before_anything_is_allocated(cache, shape):
    file = cache / "scenes" / "one" / "points/xyz" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = meta["chunk_grid"]["configuration"]["chunk_shape"] = shape
    if shape and len(shape) > 1:
        meta["codecs"][0]["configuration"]["chunk_shape"] = [1, *shape[1:]]
    file.write_text(json.dumps(meta))
    refused(cache, "points/xyz", "shape|axes|can't hold|damaged", "one.002")


@pytest.mark.parametrize(
    "change",
    [
        {"items": None}, {"items": []}, {"items": [5]}, {"items": [{}] * 1001}, {"stages": {}}, {"split": 5},
        {"items": [{"counts": {"points": -1}}] * 3}, {"items": [{}, {}, {}]}, {"settings": []},
    ],
)  # fmt: skip
def test_a_group_that_describes_itself_otherwise(cache, change):
    file = cache / "scenes" / "one" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"] |= change
    file.write_text(json.dumps(meta))
    with pytest.raises(HiclError, match="scenes/one/zarr.json: no such (items|stages|split|settings|counts of item 0)"):
        open_cache(cache).scene("one.000")
    assert list(check(cache)[1]) == ["one"]


@pytest.mark.parametrize("count", [-1, 1001, 1 << 40])
def test_a_manifest_of_too_many(cache, count):
    rows = pq.read_table(cache / "manifest.parquet")
    column = rows.schema.get_field_index("items")
    pq.write_table(rows.set_column(column, "items", [[count, 3, 1]]), cache / "manifest.parquet")
    with pytest.raises(HiclError, match="manifest.parquet: .* scenes in none"):
        open_cache(cache).scene_ids()


def test_check_removes_a_damaged_group(cache):
    file = shard_of(cache, "sets/id")
    file.write_bytes(file.read_bytes()[:-1])
    found = CliRunner().invoke(app, ["check", str(cache), "--remove"])
    assert found.exit_code == 1 and "scenes/one/sets/id" in found.stdout
    assert check(cache) == (["none", "two"], {})
    assert open_cache(cache).scene_ids() == ["none.000", "none.001", "two.000"]


# In an object store.


@pytest.fixture
def remote(tmp_path, monkeypatch):
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return fill_groups("memory://bucket/cache")


def test_a_remote_cache_reads_like_any_other(remote):
    reader = open_cache(remote)
    assert reader.scene_ids() == IDS
    for name, items in groups().items():
        for number, expected in enumerate(items):
            assert_scene(reader.scene(f"{name}.{number:03d}"), expected)
    assert reader.fingerprints(IDS) == [reader.scene(name).fingerprint for name in IDS]
    assert check(remote) == (["none", "one", "two"], {})


def test_a_remote_group_is_replaced_whole(remote):
    old = open_cache(remote).scene("one.000")
    old.read("points/xyz")
    new = groups(50)["one"]
    keep = [name for name in new[0] if not name.startswith("pairs/r")]
    for item, before in zip(new, groups()["one"], strict=True):
        for name in ("pairs/raw", "pairs/refined"):
            item[name] = np.zeros_like(before[name])
    with CacheWriter(remote, "nuscenes", grouped=True) as writer:
        put_group(writer, "one", new, keep=keep)
    with pytest.raises(HiclError, match="changed while it was read"):
        old.read("pairs/raw")
    for number, before in enumerate(groups()["one"]):
        labels = {name: np.zeros_like(before[name]) for name in ("pairs/raw", "pairs/refined")}
        assert_scene(open_cache(remote).scene(f"one.{number:03d}"), before | labels)


def test_a_mirror_that_lost_a_bit_fetches_again(remote, tmp_path):
    open_cache(remote).scene("one.000").read("points/xyz")
    (file,) = (tmp_path / "home").rglob("xyz/c/0/0/0")
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.unlink()
    file.write_bytes(data)
    np.testing.assert_array_equal(
        open_cache(remote).scene("one.000").read("points/xyz"), groups()["one"][0]["points/xyz"]
    )
