import json
import shutil
import struct

import numpy as np
import pytest
import zarr
from scenes import CLASSES, arrays, embedding, put, set_text, tree

from hicl.cache.opening import open_cache
from hicl.cache.schema import SCENE_ARRAYS
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


MAPPED = [name for name, spec in SCENE_ARRAYS.items() if spec.codec is None]


@pytest.fixture
def cache(tmp_path):
    with CacheWriter(tmp_path / "cache", "scannet") as writer:
        set_text(writer)
        put(writer, "a", arrays(0))
        put(writer, "b", arrays(1, with_optional=False), split="train")
        writer.write_manifest({"a": ("val", ""), "b": ("train", "")})
    return tmp_path / "cache"


@pytest.mark.parametrize("name", sorted(SCENE_ARRAYS))
def test_round_trip(cache, name):
    expected = arrays(0)[name]
    found = open_cache(cache).scene("a").read(name)
    assert found.dtype == expected.dtype and not isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="read-only"):
        found[...] = 0
    by_zarr = zarr.open_group(cache, mode="r")[f"scenes/a/{name}"]
    assert by_zarr.dtype == expected.dtype
    np.testing.assert_array_equal(by_zarr[...], expected)
    assert by_zarr.metadata.zarr_format == 3
    assert (by_zarr.shards is None) == (name != "features/grid")


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapped_array_is_its_bytes_in_one_file(cache, name):
    expected = arrays(0)[name]
    files = [path for path in (cache / "scenes" / "a" / name / "c").rglob("*") if path.is_file()]
    assert len(files) == 1
    content = expected.astype(expected.dtype.newbyteorder("<")).tobytes()
    assert files[0].read_bytes() == content + struct.pack("<I", crc32c(content))


def test_arrays_without_rows_and_of_zeros(tmp_path):
    empty = arrays(0, views=(0, 0))
    zeros = arrays(1)
    for name in ("pairs/raw", "pairs/pixel", "points/label", "features/grid"):
        zeros[name] = np.zeros_like(zeros[name])
    with CacheWriter(tmp_path, "scannet") as writer:
        set_text(writer)
        put(writer, "empty", empty)
        put(writer, "zeros", zeros)
    for name, expected in {"empty": empty, "zeros": zeros}.items():
        for array, content in expected.items():
            found = open_cache(tmp_path).scene(name).read(array)
            assert found.dtype == content.dtype
            np.testing.assert_array_equal(found, content)


def test_a_cache_says_what_it_is(cache):
    reader = open_cache(cache)
    assert (reader.dataset, reader.classes, reader.truth_classes) == ("scannet", CLASSES, CLASSES)
    assert reader.fingerprint == "t1"
    np.testing.assert_array_equal(reader.text, embedding())
    np.testing.assert_array_equal(zarr.open_group(cache, mode="r")["text/embedding"][...], embedding())
    assert reader.scene_ids() == ["a", "b"] and reader.splits() == ["train", "val"]
    assert reader.scene_ids("train") == ["b"]
    assert reader.scene("a").arrays() == list(SCENE_ARRAYS)
    assert not reader.scene("b").has("points/label")
    assert reader.scene("a").fingerprint == reader.scene("b").fingerprint
    assert reader.scene("a").attributes["skipped"] == {"20": "why"}


def test_readers_never_write(cache):
    before = tree(cache, times=True)
    reader = open_cache(cache)
    for scene_id in reader.scene_ids():
        scene = reader.scene(scene_id)
        for name in scene.arrays():
            scene.read(name)
    _ = reader.text, reader.manifest, reader.splits()
    with pytest.raises(HiclError):
        reader.scene("c")
    assert tree(cache, times=True) == before


@pytest.mark.parametrize(
    "way",
    [
        {"chunks": (7, 3)},
        {"chunks": (7, 3), "compressors": zarr.codecs.BloscCodec()},
        {"chunks": (7, 3), "compressors": None},
        {"chunks": (3, 3), "compressors": zarr.codecs.Crc32cCodec()},
        {
            "chunks": (7, 3),
            "compressors": zarr.codecs.Crc32cCodec(),
            "serializer": zarr.codecs.BytesCodec(endian="big"),
        },
        {"chunks": (7, 3), "compressors": zarr.codecs.Crc32cCodec(), "chunk_key_encoding": {"name": "v2"}},
        {"chunks": (7, 3), "shards": (7, 3), "compressors": zarr.codecs.Crc32cCodec()},
    ],
)
def test_other_storage_is_refused(cache, way):
    """What Zarr would take, and decode without a checksum, or with chunks that needn't be there."""
    array = cache / "scenes" / "a" / "points" / "xyz"
    shutil.rmtree(array)
    zarr.create_array(array, data=arrays(0)["points/xyz"], zarr_format=3, **way)
    with pytest.raises(HiclError, match="points/xyz/zarr.json: .*stored otherwise than cache/SPEC.md says"):
        open_cache(cache).scene("a").read("points/xyz")


def test_how_blosc_packs_is_the_writers_own_business(cache):
    array = cache / "scenes" / "a" / "points" / "xyz"
    shutil.rmtree(array)
    codecs = [zarr.codecs.BloscCodec(cname="zlib", shuffle="bitshuffle"), zarr.codecs.Crc32cCodec()]
    zarr.create_array(array, data=arrays(0)["points/xyz"], zarr_format=3, chunks=(7, 3), compressors=codecs)
    np.testing.assert_array_equal(open_cache(cache).scene("a").read("points/xyz"), arrays(0)["points/xyz"])


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", ["points/xyz", "pairs/raw", "pairs/pixel", "features/grid", "points/normal"])
def test_truncated(cache, name, keep):
    (file,) = (path for path in (cache / "scenes" / "a" / name / "c").rglob("*") if path.is_file())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(HiclError, match=f"{name}.*delete the scene and preprocess again") as error:
        open_cache(cache).scene("a").read(name)
    assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(HiclError, match=name):
        open_cache(cache).scene("a").read(name)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "5", "{}", '{"shape": 5}', '{"shape": [3], "data_type": "z"}']
)
def test_metadata_that_will_not_do(cache, content):
    file = cache / "scenes" / "a" / "points" / "xyz" / "zarr.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(HiclError, match="points/xyz"):
        open_cache(cache).scene("a").read("points/xyz")


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "{}", '{"attributes": {"format": "x"}}', b"\xff"])
def test_not_a_cache(tmp_path, content):
    with pytest.raises(HiclError, match="missing; not a cache"):
        open_cache(tmp_path)
    (tmp_path / "zarr.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HiclError):
        open_cache(tmp_path)
    with pytest.raises(HiclError, match="no such folder"):
        open_cache(tmp_path / "none")
    with pytest.raises(HiclError, match="no such folder"):
        open_cache(tmp_path / "zarr.json")


@pytest.mark.parametrize("version", [1, 2, 5, "3", None])
def test_another_version(cache, version):
    root = json.loads((cache / "zarr.json").read_text())
    root["attributes"]["version"] = version
    (cache / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(HiclError, match="this hicl knows 3 and 4; preprocess into a new folder"):
        open_cache(cache)


def test_scenes_that_are_not_there(cache):
    reader = open_cache(cache)
    with pytest.raises(HiclError, match="no such scene"):
        reader.scene("c")
    with pytest.raises(HiclError, match="no complete scene in split 'test'"):
        reader.scene_ids("test")


def test_a_scene_of_another_class_list(cache):
    with CacheWriter(cache, "scannet") as writer:
        set_text(writer, ("wall", "door"), "t2")
        writer.write_manifest({})
    reader = open_cache(cache)
    with pytest.raises(HiclError, match="labelled with another class list"):
        reader.scene("a")
    with pytest.raises(HiclError, match="a is stale, b is stale"):
        reader.scene_ids()


def test_text_of_another_class_list(cache, tmp_path):
    with CacheWriter(tmp_path / "other", "scannet") as writer:
        set_text(writer, fingerprint="t2")
    shutil.rmtree(cache / "text")
    with pytest.raises(HiclError, match="cut off"):
        _ = open_cache(cache).text
    shutil.copytree(tmp_path / "other" / "text", cache / "text")
    with pytest.raises(HiclError, match="cut off"):
        _ = open_cache(cache).text
