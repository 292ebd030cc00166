"""Caches side by side: agreement and correlation against plain loops."""

import itertools
import json
import math

import numpy as np
import pytest
from test_report import make, room
from typer.testing import CliRunner

from hicl.commands import app
from hicl.pipeline.comparison import agreement, measure, rank_correlation


def agreement_by_hand(labels, group):
    """Each label with each other one of its group."""
    shares = []
    for i, label in enumerate(labels):
        others = [labels[j] for j in range(len(labels)) if j != i and group[j] == group[i] and labels[j] != 255]
        if label != 255 and others:
            shares.append(sum(other == label for other in others) / len(others))
    return sum(shares), len(shares)


@pytest.mark.parametrize("seed", range(20))
def test_agreement_is_that_of_a_label_with_each_other(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], 30).astype(np.uint8)
    group = rng.integers(0, 9, 30).astype(np.int32)
    assert agreement(labels, group) == pytest.approx(agreement_by_hand(labels, group))


def test_numbers_counted_by_hand(tmp_path):
    found = measure(make(tmp_path, room(), names=("a", "b")), ["a", "b"])
    # Raw labels 0 1 1 1 0 2 of points 0 1 2 3 3 4: the two views of point 3 disagree. By majority 0 1 1 0 2, the sets
    # 000, 11 have 0 1 1 and 0 2: the ones agree with half of their others.
    chance = (2**2 + 3**2 + 1) / 36
    assert found["views"] == pytest.approx(100 * (0 - chance) / (1 - chance))
    assert found["sets"] == pytest.approx(100 * (1 / 5 - chance) / (1 - chance))
    assert found["entropy"] == pytest.approx(-sum(p * math.log2(p) for p in (2 / 6, 3 / 6, 1 / 6)))
    assert found["raw"] == pytest.approx(100 * (1 / 3 + 1 / 3) / 2)  # truth 0 0 1 1, raw 0 1 1 0


def test_one_label_for_everything_agrees_with_nothing(tmp_path):
    scene = room()
    scene["pairs/raw"][:] = 1
    found = measure(make(tmp_path, scene), ["a"])
    assert (found["views"], found["sets"], found["entropy"]) == (0, 0, 0)


@pytest.mark.parametrize("true", list(itertools.permutations(range(4))))
def test_rank_correlation(true):
    expected = 1 - 6 * sum((i - place) ** 2 for i, place in enumerate(true)) / (4 * 15)  # without ties
    assert rank_correlation([0.1, 0.2, 5, 9], list(true)) == pytest.approx(expected)


def test_no_order_has_no_correlation():
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def run(*args):
    return CliRunner().invoke(app, ["report", "labels", *map(str, args)])


def test_from_the_command_line(tmp_path):
    paths = [tmp_path / name for name in "abcd"]
    for wrong, path in enumerate(paths):
        scene = room()
        scene["pairs/raw"][:] = [0, 0, 1, 1, 1, 2]
        scene["pairs/raw"][:wrong] = 2
        make(path, scene)
    result = run("--compare", *paths, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines() if str(tmp_path / "a") in line] == [str(paths[0])]
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert [row["cache"] for row in numbers["caches"]] == list(map(str, paths))
    assert sorted(numbers["rank_correlation"]) == ["entropy", "sets", "views"]
    without = [tmp_path / name for name in "ef"]
    for path in without:
        make(path, room(truth=False))
    assert "mIoU" not in run("--compare", *without).output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give --cache CACHE, or --compare CACHE CACHE …"),
        (["--cache", "a", "--compare", "a", "b"], "give --cache CACHE, or --compare"),
        (["--compare", "a"], "name at least two caches"),
        (["--compare", "a", "c"], "has other classes than"),
        (["--compare", "a", "b"], "have no scene in common"),
        (["--compare", "a", "b", "--scene", "a"], "makes no picture"),
    ],
)
def test_what_cannot_be_compared(tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a", room())
    make(tmp_path / "b", room(), names=("other",))
    make(tmp_path / "c", room(), classes=("wall", "floor", "sofa"))
    result = run(*args)
    assert said in str(result.exception), result.output
