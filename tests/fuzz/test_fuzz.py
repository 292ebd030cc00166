"""A small part of what `fuzz.py` does, and that it would see a fault."""

import os
import re
import signal
import warnings

import fuzz
import mutations
import numpy as np
import pytest
import readers

from hicl.errors import HiclError


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    monkeypatch.setattr(fuzz, "MEMORY", 1 << 27)
    before = signal.signal(signal.SIGALRM, fuzz._hang)
    with warnings.catch_warnings(action="ignore"):
        yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "name", ["sens", "ply", "images", "scan", "rgbd", "toml", "cache", "made cache", "orders", "model"]
)
def test_a_part_of_all_cases(tmp_path, name):
    bench = fuzz.Bench(name, tmp_path)
    ends = {number: bench.case(3, number) for number in range(30)}
    assert not {number: end for number, end in ends.items() if end[0].startswith("fault")}


def test_cases_in_a_process_of_their_own(capsys):
    assert fuzz.fuzz(20, 3, ["sens"]) == []
    assert capsys.readouterr().out.startswith("sens             20 ")


def test_the_same_case_is_the_same_bytes():
    data = bytes(range(200))
    for mutate in (mutations.any_bytes, mutations.text):
        first, again = (mutate(data, np.random.default_rng([1, 2])) for _ in range(2))
        assert first == again
    assert len({mutations.any_bytes(data, np.random.default_rng(seed)) for seed in range(50)}) > 40


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "broken, said",
    [
        (lambda content: {}["x"], "fault: KeyError"),
        (lambda content: content[:1], "fault: changed unseen"),
        (lambda content: np.ones(1 << 26), "fault: .* MiB"),
        (lambda content: os.kill(os.getpid(), signal.SIGALRM), "fault: hang"),
        (lambda content: _raise(HiclError("a: damaged")), "refused"),
        (lambda content: b"sound", "same"),
    ],
)
def test_every_fault_is_seen(tmp_path, monkeypatch, broken, said):
    def read(folder):
        content = (folder / "a").read_bytes()
        return content if content == b"sound" else broken(content)

    reader = readers.Reader(
        lambda folder: (folder / "a").write_bytes(b"sound"),
        read,
        {"": lambda data, rng: b"changed"},
        checked=lambda name: True,
    )
    monkeypatch.setitem(readers.READERS, "made up", reader)
    end, file = fuzz.Bench("made up", tmp_path).case(0, 0)
    assert re.match(said, end) and file == "a"
