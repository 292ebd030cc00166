"""The next command that a command ends with."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from hicl.commands import following


@pytest.mark.parametrize("split, wanted", [("train", "preprocess"), (None, "train")])
def test_the_other_split_is_made_with_the_same_settings(monkeypatch, split, wanted):
    """With other classes or another teacher the scenes that are there would be stale; and where all splits were asked
    for there is no other."""
    monkeypatch.setattr(following, "open_cache", lambda _: SimpleNamespace(splits=lambda: ["train"]))
    given = {"split": split, "classes": "chair, big table", "min_size": 30, "vote": None}
    line = following.preprocess("cache", "scannet", Path("scans"), Path("my.toml"), given)
    words = shlex.split(line.removeprefix("next: hicl "))
    assert words[0] == wanted
    if split:
        options = dict(zip(words[2::2], words[3::2], strict=True))
        assert options == {
            "--root": "scans",
            "--out": "cache",
            "--config": "my.toml",
            "--split": "val",
            "--classes": "chair, big table",
            "--min-size": "30",
        }
