"""Objects: what hangs together, in boxes, and how they are scored beside true ones."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hicl.average_precision import Answer, average_precision
from hicl.errors import HiclError
from hicl.objects import box_around, find_objects, level, table
from hicl.pipeline.datasets.scannet_objects import read_objects

CLASSES = ("floor", "chair", "table")


def ball(centre, n=200, radius=0.2, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return (np.array(centre) + radius * points / np.linalg.norm(points, axis=1, keepdims=True)).astype("f4")


def test_what_hangs_together_is_one_object():
    parts = [ball((0, 0, 0)), ball((0.42, 0, 0)), ball((2, 0, 0)), ball((2.41, 0, 0)), ball((0, 0, 1), n=50)]
    xyz, label = np.concatenate(parts), np.repeat([1, 1, 1, 2, 1], [200, 200, 200, 200, 50]).astype("u1")
    score = np.repeat([0.4, 0.6, 0.9, 0.1, 1.0], [200, 200, 200, 200, 50])
    label[:20] = 255
    instance, found = find_objects(xyz, label, CLASSES, score, gap=0.1, smallest=100)
    # The first two are one chair, the table touches the other chair, and the last is too small.
    assert [(item.label, item.points) for item in found] == [(1, 200), (1, 380), (2, 200)]
    np.testing.assert_array_equal(instance, np.repeat([-1, 1, 0, 2, -1], [20, 380, 200, 200, 50]))
    assert found[1].score == pytest.approx((180 * 0.4 + 200 * 0.6) / 380)
    assert len(find_objects(xyz, label, CLASSES, gap=0.005, smallest=1)[1]) > 100
    # A set holds together what has gaps.
    sets = np.repeat([0, 1, 1, 2, 0], [200, 200, 200, 200, 50])
    _, joined = find_objects(xyz, label, CLASSES, sets=sets, gap=0.1, smallest=1)
    assert sorted(item.points for item in joined) == [200, 630]
    _, floors = find_objects(xyz, np.zeros(850, "u1"), CLASSES)
    assert floors == [] and find_objects(xyz[:0], label[:0], CLASSES)[1] == []
    with pytest.raises(HiclError, match="--gap 0"):
        find_objects(xyz, label, CLASSES, gap=0)


@given(st.integers(0, 99), st.floats(0.03, 0.3))
def test_pieces_are_those_of_all_pairs(seed, gap):
    """Beside single linkage over all pairs: never finer than at 0.56 of the gap, never coarser than at 1.44. (Points
    stand for those in a cell of a quarter of it, whose diagonal is 0.43 of the gap; both ends of a pair may be off.)"""
    rng = np.random.default_rng(seed)
    xyz, label = rng.random((60, 3)).astype("f4"), rng.integers(1, 3, 60)
    instance, _ = find_objects(xyz, label, CLASSES, gap=gap, smallest=1)

    def joined(reach):
        near = (np.linalg.norm(xyz[:, None] - xyz[None], axis=2) <= reach) & (label[:, None] == label)
        for _ in range(6):
            near = near @ near
        return near

    same = instance[:, None] == instance
    assert (same | ~joined(gap * (1 - 2 * 0.4331))).all() and (joined(gap * (1 + 2 * 0.4331)) | ~same).all()


@given(st.floats(-np.pi, np.pi), st.floats(0.2, 3), st.floats(0.05, 3), st.floats(0.1, 3))
def test_a_box_is_found_again_however_it_is_turned(angle, length, width, height):
    length, width = max(length, width) + 0.01, min(length, width)
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    shift = np.array([1.0, -2.0, 3.0])
    points = (corners * [length, width, height]) @ turn.T + shift
    box = box_around(points, np.eye(3))
    np.testing.assert_allclose(box.size, [length, width, height], atol=1e-6)
    np.testing.assert_allclose(box.centre, shift, atol=1e-6)
    assert -np.pi / 2 < box.yaw <= np.pi / 2
    assert abs(np.sin(box.yaw - angle)) * length < 1e-5
    lying = box_around(points[:, [2, 0, 1]], level(np.array([1.0, 0, 0])))
    np.testing.assert_allclose(lying.size, [length, width, height], atol=1e-6)
    np.testing.assert_allclose(lying.centre, shift[[2, 0, 1]], atol=1e-6)
    along = box_around(points, np.eye(3), aligned=True)
    assert along.yaw in (0, np.pi / 2)
    np.testing.assert_allclose(np.sort(along.size[:2]), np.sort(np.ptp(points[:, :2], axis=0)), atol=1e-6)


def test_a_box_of_few_points_and_a_table():
    assert box_around(np.zeros((1, 3)), np.eye(3)).size.tolist() == [0, 0, 0]
    _, found = find_objects(ball((0, 0, 0)), np.full(200, 2), (*CLASSES[:2], 'side "table", low'))
    (row,) = csv.DictReader(table(found, (*CLASSES[:2], 'side "table", low'), np.array([1e6, 0, 0])).splitlines())
    assert row["class"] == 'side "table", low' and row["points"] == "200" and row["id"] == "0"
    assert float(row["x"]) == pytest.approx(1e6, abs=0.01) and float(row["height"]) == pytest.approx(0.4, abs=0.02)


def answer(truth, instance, labels, scores, truth_label=None):
    truth = np.array(truth)
    return Answer(
        truth,
        np.where(truth < 0, 255, 1) if truth_label is None else np.array(truth_label),
        np.array(instance),
        np.array(labels),
        np.array(scores, float),
    )


def test_average_precision_by_hand():
    def ap(*answers):
        found = average_precision(answers, 3, smallest=2)
        return found[0.25][1], found[0.5][1], np.mean([found[o][1] for o in found if o >= 0.5])

    whole = [0] * 10 + [1] * 10
    assert ap(answer(whole, whole, [1, 1], [0.9, 0.8])) == (1, 1, 1)
    assert ap(answer(whole, np.full(20, -1), [], [])) == (0, 0, 0)
    # One found to 7 of 10, the other missed: hits up to 0.65. Recall 1/2 at a precision of 1.
    partly = [0] * 7 + [-1] * 13
    assert ap(answer(whole, partly, [1], [0.5])) == pytest.approx((0.5, 0.5, 4 / 9 * 0.5))
    # A surer mistake of 10 points elsewhere in the class' own terms: points (recall, precision) (1, 2/3), (1/2... ).
    truth, found = whole + [2] * 10, whole + [2] * 10
    labels = [1] * 20 + [2] * 10
    one = answer(truth, found, [1, 1, 1], [0.5, 0.4, 0.9], labels)
    # Thresholds 0.4, 0.5, 0.9: precision 2/3, 1/2, 0, recall 1, 1/2, 0, and the end (0, 1).
    assert ap(one)[1] == pytest.approx((2 / 3 + 1 / 2) / 2 * 0.5 + (1 / 2 + 0) / 2 * 0.5)
    # Where nobody annotated, a found object is no mistake; nor is one on a true object too small to count.
    for hidden in (
        answer([0] * 10 + [-1] * 10, whole, [1, 1], [0.5, 0.9]),
        answer([0] * 10 + [1], [0] * 10 + [1], [1, 1], [0.5, 0.9]),
    ):
        assert ap(hidden) == (1, 1, 1)
    # Two on one: at 0.25 both overlap it enough, and the less sure is a mistake. Scenes count together.
    halves = answer([0] * 10, [0] * 6 + [1] * 4, [1, 1], [0.9, 0.5])
    assert ap(halves)[0] == pytest.approx(1) and ap(halves)[1] == pytest.approx(1)
    assert ap(halves, answer([0] * 4, [-1] * 4, [], []))[1] == pytest.approx((1 / 2) * 1)
    assert np.isnan(average_precision([halves], 3, smallest=2)[0.5][0])


def test_scannets_annotation_is_read(tmp_path):
    scan = tmp_path / "scans/scene0000_00"
    scan.mkdir(parents=True)
    header = (
        "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (scan / "scene0000_00_vh_clean_2.ply").write_text(header + "0 0 0\n" * 5)
    with pytest.raises(HiclError, match="no scene0000_00_vh_clean_2.0.010000.segs.json"):
        read_objects(tmp_path, "scene0000_00")
    segments = {"segIndices": [7, 7, 3, 9, 3]}
    (scan / "scene0000_00_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    groups = [{"id": 0, "objectId": 0, "segments": [7], "label": "bed"}, {"objectId": 1, "segments": [9]}]
    path = scan / "scene0000_00.aggregation.json"
    path.write_text(json.dumps({"segGroups": groups}))
    assert read_objects(tmp_path, "scene0000_00").tolist() == [0, 0, -1, 1, -1]
    with pytest.raises(HiclError, match="no scan scene0000_01"):
        read_objects(tmp_path, "scene0000_01")
    for wrong in ({}, [], {"segGroups": [{"objectId": 0, "segments": [-1]}]}, {"segGroups": [{"segments": [10]}]}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(HiclError, match="aggregation.json: not ScanNet's"):
            read_objects(tmp_path, "scene0000_00")
