import json

import numpy as np
import pytest
from PIL import Image
from scenes import arrays, put, set_text

from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.pipeline import report

NONE = 255


def room(truth=True):
    """Six points in three sets, two views. A point's label is the majority of its views, ties to the lowest class.

    point      0    1    2    3    4    5
    set        0    0    0    1    1    2
    truth      0    0    1    1    -    2
    raw        0    1    1    0+1  2    unseen      point 3: a tie, so 0
    refined    0    0    0    1    1    unseen
    spread     0    0    0    1    1    2
    ceiling    0    0    0    1    1    2
    """
    scene = arrays(n=6, views=(4, 2))
    scene["points/xyz"][:] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0], [2, 0, 0]]
    scene["points/normal"][:] = [0, 0, 1]
    scene["sets/id"][:] = [0, 0, 0, 1, 1, 2]
    scene["points/label"][:] = [0, 0, 1, 1, NONE, 2]
    scene["pairs/point"][:] = [0, 1, 2, 3, 3, 4]
    scene["pairs/raw"][:] = [0, 1, 1, 1, 0, 2]
    scene["pairs/refined"][:] = [0, 0, 0, 1, 1, 1]
    scene["points/spread"][:] = [0, 0, 0, 1, 1, 2]
    scene["points/valid"][:] = 1
    if not truth:
        del scene["points/label"]
    return scene


def make(path, scene, classes=("wall", "floor", "chair"), truth=("wall", "floor", "chair"), names=("a",)):
    with CacheWriter(path, "scannet") as writer:
        set_text(writer, classes, truth=truth)
        for name in names:
            put(writer, name, scene)
        writer.write_manifest({name: ("val", "") for name in names})
    return open_cache(path)


def test_numbers_counted_by_hand(tmp_path):
    found = report.measure(make(tmp_path, room(), names=("a", "b")), ["a", "b"])
    assert (found["scenes"], found["points"], found["pairs"], found["sets"]) == (2, 12, 12, 6)
    assert found["coverage"] == pytest.approx(100 * 5 / 6)
    assert found["coverage_of_truth"] == pytest.approx(100 * 4 / 5)
    assert (found["with_label"], found["with_truth"], found["with_both"]) == (10, 10, 8)
    assert found["changed"] == 2 * 4  # pairs 1, 2, 4 and 5
    # View 0 shows set 0 with two right before and after, and set 1 as right as it was; view 1 set 1, point 3 now right.
    assert (found["voted"], found["helped"], found["hurt"]) == (6, 2, 0)
    # Scored are the points 0 to 3, with truth 0 0 1 1. Raw says 0 1 1 0, refined and the ceiling 0 0 0 1.
    assert found["raw"]["accuracy"] == pytest.approx(50)
    assert found["raw"]["iou"] == [pytest.approx(100 / 3), pytest.approx(100 / 3), None]
    assert found["raw"]["miou"] == pytest.approx(100 / 3)
    for kind in ("refined", "spread", "ceiling"):
        assert found[kind]["accuracy"] == pytest.approx(75)
        assert found[kind]["iou"] == [pytest.approx(200 / 3), pytest.approx(50), None]
        assert found[kind]["miou"] == pytest.approx((200 / 3 + 50) / 2)
    # With the unseen point counted as wrong its class, 2, comes in with 0.
    assert found["refined_all"]["accuracy"] == pytest.approx(60)
    assert found["refined_all"]["miou"] == pytest.approx((200 / 3 + 50) / 3)
    assert found["raw_all"]["miou"] == pytest.approx((100 / 3 + 100 / 3) / 3)
    # Point 5, the unseen one, has the label of its set; 0 0 1 1 2 is then 0 0 0 1 2.
    for kind in ("spread", "ceiling"):
        assert found[f"{kind}_unseen"] == {"accuracy": 100, "miou": 100, "iou": [None, None, 100]}
        assert found[f"{kind}_all"]["accuracy"] == pytest.approx(80)
        assert found[f"{kind}_all"]["miou"] == pytest.approx((200 / 3 + 50 + 100) / 3)
    assert found["refined_unseen"] == {"accuracy": 0, "miou": 0, "iou": [None, None, 0]}
    assert found["share"]["raw"] == pytest.approx([40, 40, 20])
    assert found["share"]["refined"] == pytest.approx([60, 40, 0])


@pytest.mark.parametrize("why", ["no labels", "no class in common"])
def test_without_truth(tmp_path, why):
    truth = ("wall",) if why == "no labels" else ("tree", "car")
    cache = make(tmp_path, room(truth=why != "no labels"), truth=truth)
    found = report.measure(cache, ["a"])
    assert "raw" not in found and found["with_truth"] == 0
    text = report.labels(tmp_path, None, None, tmp_path / "room.png", None)
    assert "no ground truth in these classes" in text and "mIoU" not in text
    assert "40.0" in text and "60.0" in text
    assert (tmp_path / "room.png").read_bytes().startswith(b"\x89PNG")


def test_classes_meet_by_name(tmp_path):
    """Asked for chair, sofa and wall, of a truth in wall, floor and chair: floor isn't asked for, sofa has no truth."""
    scene = room()
    scene["pairs/raw"][:] = [2, 0, 0, 0, 0, 1]  # wall, chair, …
    scene["pairs/refined"][:] = [2, 2, 0, 0, 0, 1]
    cache = make(tmp_path, scene, classes=("chair", "sofa", "wall"))
    table = report.truth_map(cache)
    assert (table[0], table[1], table[2], table[255]) == (2, NONE, 0, NONE)
    found = report.measure(cache, ["a"])
    assert found["with_truth"] == 3 and found["with_both"] == 2  # points 0 and 1 are wall; 5, a chair, is unseen
    assert found["raw"]["iou"] == [None, None, pytest.approx(50)]
    assert found["refined"]["accuracy"] == pytest.approx(100)


def test_table_json_and_picture(tmp_path):
    make(tmp_path / "cache", room(), names=("a", "b"))
    json_file, picture = tmp_path / "out" / "labels.json", tmp_path / "pictures" / "room.png"
    text = report.labels(tmp_path / "cache", "val", json_file, picture, "b")
    numbers = json.loads(json_file.read_text())
    assert set(numbers) >= {
        "dataset", "split", "scenes", "classes", "points", "pairs", "sets", "coverage", "coverage_of_truth", "share",
        "raw", "refined", "spread", "ceiling", "raw_all", "refined_all", "spread_all", "spread_unseen",
    }  # fmt: skip
    assert set(numbers["raw"]) == {"accuracy", "miou", "iou"}
    assert (numbers["dataset"], numbers["split"], numbers["classes"]) == ("scannet", "val", ["wall", "floor", "chair"])
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert lines["wall"] == ["33.3", "66.7", "66.7", "66.7"]
    assert lines["chair"] == ["-", "-", "-", "-"]
    scored = {name: " ".join(line.split()) for line in text.splitlines() for name in [" ".join(line.split()[:2])]}
    assert scored["mIoU, seen"] == "mIoU, seen 33.3 58.3 58.3 58.3"
    assert scored["mIoU, unseen"] == "mIoU, unseen 0.0 0.0 100.0 100.0"
    assert scored["mIoU, all"] == "mIoU, all 22.2 38.9 72.2 72.2"
    assert scored["accuracy, all"] == "accuracy, all 40.0 60.0 80.0 80.0"
    assert "annotated" not in text
    with Image.open(picture) as image:
        assert image.format == "PNG" and 500 < image.width < 4000 and 200 < image.height < 4000
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24)}
    # The benchmark's colours of wall, floor and chair.
    assert {(174, 199, 232), (152, 223, 138), (188, 189, 34)} <= colors


def test_truth_that_the_sets_were_drawn_from(tmp_path):
    scene = room()
    scene["points/label"][:] = [0, 0, 0, 1, 1, NONE]
    make(tmp_path, scene)
    text = report.labels(tmp_path, None, None, None, None)
    assert "a ceiling of 100: the truth was annotated on these very sets" in text


def test_a_cache_from_before_spread_labels(tmp_path):
    """Of one scene of two there are some: numbers of different scenes don't stand side by side."""
    scene = room()
    del scene["points/spread"]
    with CacheWriter(tmp_path, "scannet") as writer:
        set_text(writer, ("wall", "floor", "chair"), truth=("wall", "floor", "chair"))
        put(writer, "a", room())
        put(writer, "b", scene)
        writer.write_manifest({name: ("val", "") for name in "ab"})
    found = report.measure(open_cache(tmp_path), ["a", "b"])
    assert "spread" not in found and "spread_all" not in found and "spread" not in found["share"]
    text = report.labels(tmp_path, None, None, tmp_path / "room.png", "b")
    assert "no spread labels yet: the next `hicl preprocess` adds them" in text and "mIoU, unseen" in text


def test_what_is_not_there(tmp_path):
    make(tmp_path / "cache", room())
    with pytest.raises(HiclError, match="--scene z: not a complete scene"):
        report.labels(tmp_path / "cache", None, None, None, "z")
    with pytest.raises(HiclError, match="no complete scene in split 'test'"):
        report.labels(tmp_path / "cache", "test", None, None, None)
    with pytest.raises(HiclError, match="no such folder"):
        report.labels(tmp_path / "none", None, None, None, None)


def test_nothing_is_seen(tmp_path):
    scene = arrays(n=6, views=(0, 0))
    scene["sets/id"][:] = [0, 0, 0, 1, 1, 2]
    found = report.measure(make(tmp_path, scene), ["a"])
    assert found["coverage"] == 0 and np.sum(found["share"]["raw"]) == 0
    assert "coverage 0.0 %" in report.labels(tmp_path, None, None, None, None)
