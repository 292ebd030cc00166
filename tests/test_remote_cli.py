"""Commands take a URL for a cache, and say of it what they say of a folder."""

import re
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.opening import open_cache

URL = "memory://bucket/cache"


def hicl(*words) -> str:
    result = CliRunner().invoke(commands.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rooms")
    hicl("miniature", "--scenes", 2, "--seed", 3, "--out", out)
    return out


def test_a_url_is_as_good_as_a_folder(rooms, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    MemoryFileSystem.store.clear()
    said, written = {}, {}
    for name, cache in (("url", URL), ("folder", tmp_path / "cache")):
        out = tmp_path / name
        out.mkdir()
        plain = ("--set", "model.stem=4", "--set", "model.planes=[4,4,4,4,4,4,4,4]", "--set", "stream.workers=0")
        said[name] = [
            hicl("preprocess", "miniature", "--root", rooms, "--out", cache, "--workers", 1),
            hicl("report", "labels", "--cache", cache),
            hicl("export", "--cache", cache, "--out", out / "room.ply"),
            hicl("view", cache, "--out", out / "page.html"),
            hicl("relabel", "--cache", cache, "--classes", "floor, bed", "--workers", 1),
            hicl("train", "--cache", cache, "--exp", "II", "--epochs", 1, "--batch", 1, *plain, "--out", out / "II"),
        ]
        written[name] = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    names = {str(tmp_path / "cache"): "C", URL: "C", str(tmp_path / "url"): "O", str(tmp_path / "folder"): "O"}
    for name, texts in said.items():
        for i, text in enumerate(texts):
            text = re.sub(r" \([\d.]+ GB free\)|.* after \d+:\d\d.*\n", "", text)  # progress, where that takes long
            for place, letter in names.items():
                text = text.replace(place, letter)
            said[name][i] = text
    assert said["url"] == said["folder"]
    assert set(written["url"]) == {"room.ply", "page.html"}
    assert {**written["url"], "page.html": b""} == {**written["folder"], "page.html": b""}
    assert open_cache(URL).classes == ("floor", "bed")
