"""A cache at a URL: the same bytes as in a folder, read through a mirror, and whole whatever is cut off.

`memory://` stands for any store; `tests/pipeline/test_cluster.py` does the same on S3.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from scenes import arrays, attributes, embedding, fill, put, set_text, tree

from hicl.cache import mirror
from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter, staging
from hicl.errors import HiclError

URL = "memory://bucket/cache"
LABELS = ("pairs/raw", "pairs/refined", "points/spread")


@pytest.fixture(autouse=True)
def empty_store():
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Where the user's mirror is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def relabel(location, seed=5):
    """Other labels for scene a, everything else kept."""
    with CacheWriter(location, "scannet") as writer:
        put(writer, "a", arrays(seed), keep=[name for name in arrays(seed) if name not in LABELS])
        writer.write_manifest({"a": ("val", "")})


def objects() -> dict[str, bytes]:
    """Every object of the cache with its bytes."""
    top = "/bucket/cache/"
    return {name.removeprefix(top): file.getvalue() for name, file in sorted(MemoryFileSystem.store.items())}


def files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if content is not None}


def assert_scene(scene, expected):
    assert scene.arrays() == list(expected)
    for name, content in expected.items():
        found = scene.read(name)
        assert found.dtype == content.dtype and not found.flags.writeable
        np.testing.assert_array_equal(found, content)


def test_the_same_bytes_as_in_a_folder(tmp_path):
    for location in (tmp_path / "cache", URL):
        fill(location)
        relabel(location)
    assert objects() == files(tmp_path / "cache")


def test_a_remote_cache_reads_like_any_other():
    fill(URL)
    cache = open_cache(URL)
    assert (cache.scene_ids(), cache.fingerprint, str(cache.path)) == (["a", "b"], "t1", URL)
    np.testing.assert_array_equal(cache.text, embedding())
    assert_scene(cache.scene("a"), arrays(0))
    assert cache.fingerprints(["a", "b"]) == [cache.scene(name).fingerprint for name in "ab"]
    with pytest.raises(HiclError, match="memory://bucket/cache/scenes/c: no such scene"):
        cache.scene("c")
    with pytest.raises(HiclError, match="no such scene"):
        cache.fingerprints(["a", "c"])


def test_only_what_is_read_is_fetched_and_only_once(home, monkeypatch):
    fill(URL)
    fetched = []
    original = MemoryFileSystem.get_file

    def spy(self, path, target, **options):
        fetched.append(path.removeprefix("/bucket/cache/scenes/a/"))
        return original(self, path, target, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", spy)
    for _ in range(2):  # the second time as another process would
        open_cache(URL).scene("a").read("points/xyz")
    assert sorted(fetched) == ["points/xyz/c/0/0", "points/xyz/zarr.json"]
    assert mirror.mirror_of(URL).is_relative_to(home / "hicl")
    owner = open_cache(URL).scene("a").read("points/xyz")
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)


def test_versions_are_never_mixed(home):
    fill(URL)
    before = open_cache(URL).scene("a")
    xyz = before.read("points/xyz")
    with CacheWriter(URL, "scannet") as writer:
        put(writer, "a", arrays(9, n=5), split="train")
    np.testing.assert_array_equal(xyz, arrays(0)["points/xyz"])  # whoever had mapped it still sees it
    with pytest.raises(HiclError, match="scenes/a: changed while it was read"):
        before.read("points/rgb")
    assert_scene(open_cache(URL).scene("a"), arrays(9, n=5))
    assert len(list((mirror.mirror_of(URL) / "scenes/a").iterdir())) == 1  # the old version is gone


def test_a_version_replaced_while_it_is_listed(monkeypatch):
    """A list of files taken halfway through a replacement must not be believed."""
    fill(URL)
    cache, store = open_cache(URL), open_cache(URL)._store
    original = type(store).files

    def files_then_replaced(self, folder):
        found = original(self, folder)
        with monkeypatch.context() as patch:
            patch.setattr(type(store), "files", original)
            with CacheWriter(URL, "scannet") as writer:
                put(writer, "a", arrays(9, n=5), split="train")
        return found

    monkeypatch.setattr(type(store), "files", files_then_replaced)
    with pytest.raises(HiclError, match="changed while it was read"):
        cache.scene("a")


def test_readers_share_a_mirror(tmp_path):
    url = f"file://{tmp_path}/cache"  # threads that read memory:// get in each other's way
    fill(url)

    def read(_):
        for name in ("a", "b"):
            assert_scene(open_cache(url).scene(name), arrays("ab".index(name)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(16)))
    assert not [path for path in mirror.mirror_of(url).rglob(".*") if path.is_dir()]


def test_a_fetch_that_ends_early_is_no_array(monkeypatch):
    fill(URL)
    original = MemoryFileSystem.get_file

    def short(self, path, target, **options):
        original(self, path, target, **options)
        Path(target).write_bytes(Path(target).read_bytes()[:-1])

    scene = open_cache(URL).scene("a")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", short)
        with pytest.raises(HiclError, match="points/xyz.*: fetched .* bytes of .*; try again"):
            scene.read("points/xyz")
    np.testing.assert_array_equal(scene.read("points/xyz"), arrays(0)["points/xyz"])


def test_what_is_kept_is_neither_uploaded_nor_copied(monkeypatch):
    fill(URL)
    written = []

    def spying(original):
        def spy(self, source, target, **options):
            written.append(target)
            return original(self, source, target, **options)

        return spy

    for name in ("put_file", "cp_file"):
        monkeypatch.setattr(MemoryFileSystem, name, spying(getattr(MemoryFileSystem, name)))
    relabel(URL)
    chunks = {path.split("/c/")[0].rsplit("/", 2)[-1] for path in written if "/c/" in path}
    assert chunks == {"raw", "refined", "spread"}
    assert_scene(open_cache(URL).scene("a"), arrays(0) | {name: arrays(5)[name] for name in LABELS})


class Cut(Exception):
    pass


class Dying:
    """A file system that is cut off at its n-th change."""

    def __init__(self, changes):
        self.left = changes

    def patch(self, monkeypatch):
        for name in ("pipe_file", "cp_file", "rm_file"):
            monkeypatch.setattr(MemoryFileSystem, name, self._until_then(getattr(MemoryFileSystem, name)))

    def _until_then(self, original):
        def change(*arguments, **options):
            self.left -= 1
            if self.left < 0:
                raise Cut
            return original(*arguments, **options)

        return change


def test_cut_off_anywhere(tmp_path, monkeypatch):
    """A new text, a scene replaced by a smaller one, and a relabelling that keeps features whose images are gone: at
    every change that is cut off, readers find the old, none or the new, and the next run makes the new of it."""
    monkeypatch.setattr("hicl.cache.remote._AT_ONCE", 1)

    def change(location):
        with CacheWriter(location, "scannet") as writer:
            set_text(writer, fingerprint="t2")
            put(writer, "b", arrays(9, n=5, with_optional=False), text="t2")
            put(writer, "a", arrays(5), text="t2", keep=[name for name in arrays(5) if name not in LABELS])
            writer.write_manifest({"a": ("val", ""), "b": ("val", "")})

    fill(tmp_path / "whole")
    change(tmp_path / "whole")
    expected = files(tmp_path / "whole")
    old, new = arrays(0), arrays(0) | {name: arrays(5)[name] for name in LABELS}
    fill(URL)
    before = objects()
    cut = 0
    for changes in range(0, 1000, 6):
        MemoryFileSystem.store.clear()
        for name, content in before.items():
            fsspec.filesystem("memory").pipe_file(f"/bucket/cache/{name}", content)
        with monkeypatch.context() as patch:
            Dying(changes).patch(patch)
            try:
                change(URL)
            except HiclError as error:
                assert "Cut" in str(error)
                cut += 1
            else:
                break
        scene = open_cache(URL).published("a")
        if scene is not None:
            assert_scene(scene, old if scene.attributes["stages"]["text"] == "t1" else new)
        with CacheWriter(URL, "scannet"):
            pass
        assert open_cache(URL).text.shape == (3, 6)  # sound at once
        assert open_cache(URL).published("a").has("features/grid")  # what can't be made again is never lost
        change(URL)
        assert objects() == expected
    assert cut > 15


def test_an_attempt_that_was_given_up_does_no_harm():
    fill(URL)
    before = objects()
    with CacheWriter(URL, "scannet") as writer:
        content = arrays(3)
        with staging(URL) as first, staging(URL) as second:
            given_up = first.build("c", content, attributes(content), [])
            staged = second.build("c", content, attributes(content), [])
        assert given_up != staged
        writer.publish("c", staged)
    assert {name.split("/")[0] for name in objects()} == {name.split("/")[0] for name in before}
    assert_scene(open_cache(URL).published("c"), arrays(3))


def test_whose_place_it_is():
    fsspec.filesystem("memory").pipe_file("/bucket/cache/thesis.tex", b"x")
    with pytest.raises(HiclError, match="memory://bucket/cache: not a cache but holds thesis.tex"):
        CacheWriter(URL, "scannet")
    with pytest.raises(HiclError, match="memory://bucket/none/zarr.json: missing; not a cache"):
        open_cache("memory://bucket/none")
    fsspec.filesystem("memory").rm_file("/bucket/cache/thesis.tex")
    fill(URL)
    with pytest.raises(HiclError, match="a cache of scannet, not of rgbd"):
        CacheWriter(URL, "rgbd")


def test_damage_is_told_by_the_objects_own_name():
    fill(URL)
    fsspec.filesystem("memory").pipe_file("/bucket/cache/scenes/a/points/xyz/c/0/0", b"x")
    with pytest.raises(HiclError, match="^memory://bucket/cache/scenes/a/points/xyz/c/0/0: 1 bytes, expected 88"):
        open_cache(URL).scene("a").read("points/xyz")


def test_a_store_that_cannot_be_reached(monkeypatch):
    with pytest.raises(HiclError, match="^nowhere://bucket: .*nowhere"):
        open_cache("nowhere://bucket")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(HiclError, match="^gs://bucket: .*pip install 'gcsfs'"):
        CacheWriter("gs://bucket", "scannet")

    def refused(self, path, **options):
        raise PermissionError("Forbidden\nand more")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refused)
    with pytest.raises(HiclError, match="^memory://x: PermissionError: Forbidden; are the bucket, .* right.$"):
        open_cache("memory://x")
