"""Damaged caches, and those made to do harm: each ends in one line, and nothing outside the cache is touched."""

import json
import os
import shutil
import struct

import google_crc32c
import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from numcodecs import blosc
from scenes import arrays, fill, tree
from typer.testing import CliRunner

from hicl.cache.check import check
from hicl.cache.names import is_plain
from hicl.cache.opening import open_cache
from hicl.cache.schema import SCENE_ARRAYS
from hicl.cache.writer import CacheWriter
from hicl.commands import app
from hicl.errors import HiclError

BAD_NAMES = ["", ".", "..", "../a", "a/b", "/a", "a\\b", ".a", "a\0", "a\nb", "x" * 201, "é" * 101, None, 5]


@pytest.fixture
def cache(tmp_path):
    return fill(tmp_path / "cache")


@pytest.fixture
def remote(tmp_path, monkeypatch):
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return fill("memory://bucket/cache")


def chunk_of(cache, name, scene="a"):
    return next(path for path in (cache / "scenes" / scene / name / "c").rglob("*") if path.is_file())


def with_checksum(payload: bytes) -> bytes:
    return payload + struct.pack("<I", google_crc32c.value(payload))


def put(cache, name, array):
    """Another content of the same shape, stored as it should be."""
    file = chunk_of(cache, name)
    data = np.ascontiguousarray(array, SCENE_ARRAYS[name].dtype).tobytes()
    file.write_bytes(with_checksum(blosc.compress(data, b"lz4", 5, 1) if SCENE_ARRAYS[name].codec else data))


def refused(cache, name, said):
    with pytest.raises(HiclError, match=said) as error:
        open_cache(cache).scene("a").read(name)
    assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize("name", sorted(SCENE_ARRAYS))
def test_every_flipped_bit_is_found(cache, name):
    file = chunk_of(cache, name)
    whole = file.read_bytes()
    for byte in np.unique(np.linspace(0, len(whole) - 1, 40).astype(int)):
        file.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        refused(cache, name, "delete the scene and preprocess again")
    file.write_bytes(whole)
    np.testing.assert_array_equal(open_cache(cache).scene("a").read(name), arrays(0)[name])


def at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    "name, change, said",
    [
        ("pairs/indptr", at(1, 5), "doesn't rise from 0 to 7"),
        ("pairs/indptr", at(1, 1 << 40), "doesn't rise"),
        ("pairs/indptr", at(1, -1), "doesn't rise"),
        ("pairs/indptr", at(-1, 6), "doesn't rise"),
        ("pairs/point", at(3, 7), "holds .*7, expected 0..6"),
        ("pairs/point", at(3, -1), "holds -1"),
        ("sets/id", at(3, 2**31 - 1), "expected 0..6"),
        ("sets/id", at(3, -1), "holds -1"),
        ("sets/id", at(slice(None), 0), "counts 1 sets, expected 3"),
        ("sets/id", at(slice(None), 2), "leaves out 0"),
        ("pairs/refined", at(0, 3), "holds .*, expected 0..2"),
        ("pairs/raw", at(0, 254), "expected 0..2"),
        ("points/label", at(0, 3), "expected 0..2"),
        ("pairs/pixel", at((0, 0), 24), "outside its view"),
        ("views/size", at((0, 0), 0), "holds 0"),
        ("points/xyz", at((0, 0), np.nan), "not finite"),
        ("views/pose", at((0, 0), -np.inf), "not finite"),
        ("features/scale", at((0, 0, 0), np.nan), "not finite"),
    ],
)
def test_values_that_kernels_must_not_meet(cache, name, change, said):
    put(cache, name, change(arrays(0)[name]))
    refused(cache, name, said)


def test_labels_up_to_the_last_class_are_sound(cache):
    put(cache, "pairs/raw", [0, 1, 2, 255, 2, 1, 0])
    assert open_cache(cache).scene("a").read("pairs/raw").tolist() == [0, 1, 2, 255, 2, 1, 0]


@pytest.mark.parametrize(
    "shape", [[8, 3], [1 << 40, 3], [7, 1 << 40], [7], [7, 3, 1], [-1, 3], ["7", 3], [True, 3], 7, None]
)
@pytest.mark.parametrize("name", ["points/xyz", "points/normal"])
def test_a_shape_is_compared_before_anything_is_allocated(cache, name, shape):
    file = cache / "scenes" / "a" / name / "zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = shape
    meta["chunk_grid"]["configuration"]["chunk_shape"] = shape
    file.write_text(json.dumps(meta))
    refused(cache, name, "shape|axes")


@pytest.mark.parametrize("dtype", ["object", "O", "float64", "int32", ["x"], None, "raw"])
def test_a_type_is_compared_before_anything_is_mapped(cache, dtype):
    file = cache / "scenes" / "a" / "points/xyz" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data_type": dtype}))
    refused(cache, "points/xyz", "expected float32")


def test_little_that_unpacks_to_much_is_refused(cache):
    """Sets of 2^28 points in 40 bytes: counts, shapes and Blosc's header agree, but nothing like it can be true."""
    group = cache / "scenes" / "a"
    attributes = json.loads((group / "zarr.json").read_text())
    attributes["attributes"]["counts"]["points"] = n = 1 << 28
    (group / "zarr.json").write_text(json.dumps(attributes))
    file = group / "sets/id" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = meta["chunk_grid"]["configuration"]["chunk_shape"] = [n]
    file.write_text(json.dumps(meta))
    header = bytearray(blosc.compress(bytes(64), b"lz4", 5, 1))
    header[4:8] = (4 * n).to_bytes(4, "little")
    chunk_of(cache, "sets/id").write_bytes(with_checksum(bytes(header)))
    refused(cache, "sets/id", "can't hold the 1073741824 of its shape")


def test_a_shard_with_a_chunk_missing(cache):
    """Zarr would fill it with zeros."""
    file = chunk_of(cache, "features/grid")
    data = bytearray(file.read_bytes())
    index = bytearray(data[-(3 * 16 + 4) : -4])
    index[16:32] = b"\xff" * 16
    file.write_bytes(data[: -(3 * 16 + 4)] + with_checksum(bytes(index)))
    refused(cache, "features/grid", "a chunk lies outside it")


@pytest.mark.parametrize(
    "change",
    [
        {"stages": None}, {"stages": {}}, {"stages": []}, {"counts": {}}, {"counts": {"points": -1}}, {"split": 5},
        {"counts": {"points": "7", "frames": 3, "pairs": 7, "sets": 3}}, {"skipped": []}, {"settings": 5},
        {"teacher": 5},
    ],
)  # fmt: skip
def test_a_scene_that_describes_itself_otherwise(cache, change):
    file = cache / "scenes" / "a" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"] |= change
    file.write_text(json.dumps(meta))
    reader = open_cache(cache)
    for read in (lambda: reader.scene("a"), lambda: reader.fingerprints(["a"])):
        with pytest.raises(HiclError, match=f"scenes/a/zarr.json: no such {next(iter(change))}"):
            read()


@pytest.mark.parametrize(
    "change",
    [
        {"classes": []}, {"classes": "wall"}, {"classes": [1]}, {"classes": ["a"] * 256}, {"dataset": None},
        {"text_fingerprint": 5}, {"teacher": "x"}, {"truth_classes": None},
    ],
)  # fmt: skip
def test_a_root_that_describes_itself_otherwise(cache, change):
    meta = json.loads((cache / "zarr.json").read_text())
    meta["attributes"] |= change
    (cache / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(HiclError, match=f"zarr.json: no such {next(iter(change))}"):
        open_cache(cache)


def test_json_nested_too_deeply(cache):
    (cache / "zarr.json").write_text("[" * 100_000)
    with pytest.raises(HiclError, match="nested too deeply"):
        open_cache(cache)


def test_a_pipe_is_not_waited_for(cache):
    (cache / "scenes" / "a" / "zarr.json").unlink()
    os.mkfifo(cache / "scenes" / "a" / "zarr.json")
    with pytest.raises(HiclError, match="not a regular file"):
        open_cache(cache).scene("a")


# Names.


def test_plain_names():
    assert [name for name in BAD_NAMES if is_plain(name)] == []
    assert all(is_plain(name) for name in ("a", "scene0000_00", "my scan", "zimmer-ä", "a..b", "x" * 200))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_in_a_manifest(cache, name):
    rows = pq.read_table(cache / "manifest.parquet")
    if not isinstance(name, str):
        name = None
    column = rows.schema.get_field_index("scene")
    pq.write_table(rows.set_column(column, "scene", [[name, "b"]]), cache / "manifest.parquet")
    with pytest.raises(HiclError, match="manifest.parquet: .*can't be a scene's name"):
        open_cache(cache).scene_ids()


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if isinstance(name, str)])
def test_names_of_scenes_asked_for(cache, remote, name):
    for reader in (open_cache(cache), open_cache(remote)):
        for read in (reader.scene, reader.published, lambda name, reader=reader: reader.fingerprints([name])):
            with pytest.raises(HiclError, match="can't be a scene's name"):
                read(name)


def test_names_in_a_listing(remote):
    MemoryFileSystem.store["/bucket/cache/scenes/a\\..\\b/zarr.json"] = MemoryFileSystem.store[
        "/bucket/cache/scenes/a/zarr.json"
    ]
    with pytest.raises(HiclError, match="can't be a scene's name"):
        CacheWriter(remote, "scannet")


def test_what_a_listing_adds_is_never_fetched(remote, tmp_path):
    top = "/bucket/cache/scenes/a/points/xyz"
    file = MemoryFileSystem.store[f"{top}/zarr.json"]
    for name in ("evil", "c/0/0.part", "c/1/0"):
        MemoryFileSystem.store[f"{top}/{name}"] = file
    open_cache(remote).scene("a").read("points/xyz")
    fetched = {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert fetched == {"zarr.json", ".files", "0"}


def test_a_mirror_that_lost_a_bit_fetches_again(remote, tmp_path):
    expected = open_cache(remote).scene("a").read("points/xyz").copy()
    (file,) = (tmp_path / "home").rglob("xyz/c/0/0")
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.unlink()
    file.write_bytes(data)
    np.testing.assert_array_equal(open_cache(remote).scene("a").read("points/xyz"), expected)


def test_a_link_in_a_mirror_leads_nowhere(remote, tmp_path):
    (outside := tmp_path / "outside").mkdir()
    from hicl.cache.mirror import mirror_of

    mirror_of(remote).mkdir(parents=True)
    (mirror_of(remote) / "scenes").symlink_to(outside)
    with pytest.raises(HiclError, match="leads out of the mirror"):
        open_cache(remote).scene("a")
    assert not list(outside.iterdir())


# What a writer meets.


@pytest.mark.parametrize("name", [".staging", ".replaced", "scenes", "text"])
def test_a_link_where_a_writer_writes(cache, tmp_path, name):
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (tmp_path / "outside" / "b" / "thesis.tex").write_text("x")
    shutil.rmtree(cache / name, ignore_errors=True)
    (cache / name).symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    with pytest.raises(HiclError, match="a link"):
        CacheWriter(cache, "scannet")
    assert tree(tmp_path / "outside") == before


def test_a_link_where_a_file_is_replaced(cache, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for name in ("manifest.parquet", "zarr.json"):
        (cache / f".{name}").symlink_to(tmp_path / "thesis.tex")
    (cache / "manifest.parquet").unlink()
    with CacheWriter(cache, "scannet") as writer:
        writer.write_manifest({})
    assert (tmp_path / "thesis.tex").read_text() == "x" and open_cache(cache).scene_ids() == ["a", "b"]


ORDER = {"staged": "a.0123456789ab", "home": "scenes/a", "root": None}


@pytest.mark.parametrize(
    "change",
    [
        {"home": "../x"}, {"home": "scenes/../../x"}, {"home": "scenes/"}, {"home": "scenes"}, {"home": ""},
        {"home": "/x"}, {"home": ["scenes/a"]}, {"staged": "../../x"}, {"staged": "b"}, {"staged": ""}, {"root": "{}"},
        {"root": 5}, None,
    ],
)  # fmt: skip
def test_orders_to_publish_elsewhere(remote, change):
    put_file = MemoryFileSystem().pipe_file
    put_file("/bucket/x/thesis.tex", b"x")
    order = b"{" if change is None else json.dumps(ORDER | change).encode()
    put_file("/bucket/cache/.publishing/a.0123456789ab", order)
    put_file("/bucket/cache/.staging/a.0123456789ab/.keep", b"[]")
    before = {name: file.getvalue() for name, file in MemoryFileSystem.store.items()}
    with pytest.raises(HiclError, match=".publishing/a.0123456789ab|zarr.json"):
        CacheWriter(remote, "scannet")
    assert {name: file.getvalue() for name, file in MemoryFileSystem.store.items()} == before


@pytest.mark.parametrize("keep", [b"{", b"{}", b"[5]", b'["../../x"]', b'[""]', b'["points"]'])
def test_lists_of_what_is_kept(remote, keep):
    MemoryFileSystem().pipe_file("/bucket/cache/.publishing/a.0123456789ab", json.dumps(ORDER).encode())
    MemoryFileSystem().pipe_file("/bucket/cache/.staging/a.0123456789ab/.keep", keep)
    with pytest.raises(HiclError, match=".keep"):
        CacheWriter(remote, "scannet")


def test_a_folder_by_url_that_links_outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "thesis.tex").write_text("x")
    url = fill(f"file://{tmp_path}/cache")
    (tmp_path / "cache" / ".staging").mkdir(exist_ok=True)
    (tmp_path / "cache" / ".staging" / "x").symlink_to(tmp_path / "outside")
    with pytest.raises(HiclError, match="leads out of it"):
        CacheWriter(url, "scannet")
    assert (tmp_path / "outside" / "thesis.tex").read_text() == "x"


# `hicl check`.


def test_check_names_what_is_damaged(cache):
    assert check(cache) == (["a", "b"], {})
    file = chunk_of(cache, "pairs/pixel", "b")
    data = bytearray(file.read_bytes())
    data[-9] ^= 16
    file.write_bytes(data)
    shutil.copytree(cache / "scenes" / "a", cache / "scenes" / "c")
    meta = json.loads((cache / "scenes" / "c" / "zarr.json").read_text())
    meta["attributes"]["digest"] = "0" * 16
    (cache / "scenes" / "c" / "zarr.json").write_text(json.dumps(meta))
    sound, damaged = check(cache)
    assert sound == ["a"] and list(damaged) == ["b", "c"]
    assert "scenes/b/pairs/pixel" in damaged["b"] and "scenes/c: its digest is not" in damaged["c"]


@pytest.mark.parametrize("damage", ["missing array", "metadata", "missing scene"])
def test_check_on_the_command_line(cache, damage):
    scene = cache / "scenes" / "a"
    if damage == "missing scene":
        shutil.rmtree(scene)
    elif damage == "metadata":
        (scene / "zarr.json").write_text("{")
    else:
        shutil.rmtree(scene / "sets")
    found = CliRunner().invoke(app, ["check", str(cache)])
    assert found.exit_code == 1 and len(found.stdout.splitlines()) == 1 and "scenes/a" in found.stdout
    assert f"hicl check {cache} --remove" in found.stderr
    assert CliRunner().invoke(app, ["check", str(cache), "--remove"]).exit_code == 1
    again = CliRunner().invoke(app, ["check", str(cache)])
    assert again.exit_code == 0 and "1 scene sound, 0 damaged" in again.stderr
    assert open_cache(cache).scene_ids() == ["b"]


def test_check_of_a_remote_cache_sees_the_store_and_not_the_mirror(remote):
    open_cache(remote).scene("a").read("points/xyz")
    assert check(remote) == (["a", "b"], {})
    file = MemoryFileSystem.store["/bucket/cache/scenes/a/points/xyz/c/0/0"]
    MemoryFileSystem().pipe_file("/bucket/cache/scenes/a/points/xyz/c/0/0", b"x" + file.getvalue()[1:])
    sound, damaged = check(remote)
    assert sound == ["b"] and damaged["a"].startswith("memory://bucket/cache/scenes/a/points/xyz")
    found = CliRunner().invoke(app, ["check", remote, "--remove"])
    assert found.exit_code == 1 and check(remote) == (["b"], {})
