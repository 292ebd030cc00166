import os

import pytest

from hicl.errors import HiclError
from hicl.read import parse_json, read_bytes


def test_what_json_holds_can_be_written_again():
    assert parse_json(b'{"a": "\\u00e4\\ud83e\\udd16"}', "x.json") == {"a": "ä\U0001f916"}
    with pytest.raises(HiclError, match="x.json: not readable JSON"):
        parse_json(b'{"a": "\\ud800"}', "x.json")
    with pytest.raises(HiclError, match="nested too deeply"):
        parse_json(100_000 * b"[", "x.json")


def test_a_file_is_read_to_a_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(HiclError, match="5 bytes, expected at most 4"):
        read_bytes(tmp_path / "a", 4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HiclError, match="pipe: not a regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "b")
