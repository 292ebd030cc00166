import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.pipeline.refine import add_scores, count, elected, majority, set_ceiling, vote, vote_in_masks


@st.composite
def scenes(draw):
    n = draw(st.integers(1, 25))
    set_id = np.array(draw(st.lists(st.integers(-1, 5), min_size=n, max_size=n)))
    per_view = draw(st.lists(st.integers(0, 25), min_size=1, max_size=4))
    pairs = sum(per_view)
    point = np.array(draw(st.lists(st.integers(0, n - 1), min_size=pairs, max_size=pairs)), np.int32)
    label = st.sampled_from([0, 1, 2, 254, 255])
    labels = np.array(draw(st.lists(label, min_size=pairs, max_size=pairs)), np.uint8)
    return labels, point, np.r_[0, np.cumsum(per_view)], set_id


scopes = st.sampled_from(["image", "scene"])


def test_a_worked_case():
    set_id = np.array([4, 4, 4, 9, 9, -1])
    point = np.array([0, 1, 2, 3, 5, 0, 1, 3, 4], np.int32)
    labels = np.array([2, 1, 1, 255, 7, 3, 2, 255, 5], np.uint8)
    indptr = np.array([0, 5, 9])
    # Image 1: set 4 says 2 1 1, set 9 nothing. Image 2: set 4 is tied between 3 and 2, set 9 has one vote.
    assert vote(labels, point, indptr, set_id).tolist() == [1, 1, 1, 255, 7, 2, 2, 5, 5]
    # Pooled: set 4 has two votes for 1 and two for 2.
    assert vote(labels, point, indptr, set_id, scope="scene").tolist() == [1, 1, 1, 5, 7, 1, 1, 5, 5]


@settings(max_examples=200, deadline=None)
@given(scene=scenes(), scope=scopes)
def test_vote_equals_counting(scene, scope):
    assert np.array_equal(vote(*scene, scope), reference.vote(*scene, scope))


@settings(max_examples=100, deadline=None)
@given(scene=scenes(), scope=scopes)
def test_a_second_vote_changes_nothing(scene, scope):
    once = vote(*scene, scope)
    assert np.array_equal(vote(once, *scene[1:], scope), once)


@settings(max_examples=100, deadline=None)
@given(scene=scenes(), scope=scopes)
def test_a_set_never_has_more_labels_in_an_image_than_before(scene, scope):
    labels, point, indptr, set_id = scene
    refined = vote(*scene, scope)
    for f in range(len(indptr) - 1):
        view = slice(indptr[f], indptr[f + 1])
        for s in range(6):
            members = set_id[point[view]] == s
            after = set(refined[view][members].tolist())
            assert len(after) <= 1
            if scope == "image":
                assert after <= set(labels[view][members].tolist())


@settings(max_examples=100, deadline=None)
@given(scene=scenes(), scope=scopes, seed=st.integers(0, 999))
def test_neither_the_names_of_sets_nor_the_order_of_pairs_matter(scene, scope, seed):
    labels, point, indptr, set_id = scene
    rng = np.random.default_rng(seed)
    names = np.r_[rng.choice(2**50, 6, replace=False), -7]  # -1 picks the last
    expected = vote(*scene, scope)
    assert np.array_equal(vote(labels, point, indptr, names[set_id], scope), expected)
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in zip(indptr[:-1], indptr[1:], strict=True)])
    order = order.astype(int)
    assert np.array_equal(vote(labels[order], point[order], indptr, set_id, scope), expected[order])


def test_voting_mends_noise_below_one_half_and_spreads_a_wrong_majority():
    rng = np.random.default_rng(0)
    set_id = np.repeat(np.arange(40), 50)
    truth = (set_id % 7).astype(np.uint8)
    point = np.arange(2000, dtype=np.int32)
    for noise, better in ((0.4, True), (0.95, False)):
        wrong = rng.random(2000) < noise
        raw = np.where(wrong, 9, truth).astype(np.uint8)
        refined = vote(raw, point, np.array([0, 2000]), set_id)
        assert ((refined == truth).mean() > (raw == truth).mean()) == better


def test_masks_vote_in_their_image_alone():
    """Mask 7 of the first image says 2 1 2, mask 7 of the second 1 3: they have nothing to do with each other."""
    mask = np.array([7, 7, 7, 0, -2, 7, 7, 2**31 - 1], np.int32)
    labels = np.array([2, 1, 2, 4, 5, 1, 3, 255], np.uint8)
    assert vote_in_masks(labels, mask, np.array([0, 5, 8])).tolist() == [2, 2, 2, 4, 5, 1, 1, 255]


@settings(max_examples=50, deadline=None)
@given(scene=scenes())
def test_majority(scene):
    labels, point, _, set_id = scene
    expected = [reference.most_frequent(labels[point == i].tolist()) for i in range(len(set_id))]
    assert majority(labels, point, len(set_id)).tolist() == expected


def test_votes_by_hand():
    """Set 0 has the points 0 to 2, of which 2 isn't seen; set 1 is seen, but without labels; set 2 isn't seen."""
    set_id = np.array([0, 0, 0, 1, 2], np.int32)
    point, labels = np.array([0, 1, 1, 3], np.int32), np.array([1, 0, 0, 255], np.uint8)
    votes = count(labels, point, set_id, 3)
    assert votes.tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert elected(votes).tolist() == [0, 255, 255]
    # By scores, one sure pair outweighs two that are not.
    sums, scores = np.zeros((3, 3)), np.array([[0, 0.9, 0], [0.3, 0.2, 0], [0.3, 0.2, 0], [-3, -1, -2]], np.float32)
    add_scores(sums, scores[:2], point[:2], set_id)
    add_scores(sums, scores[2:], point[2:], set_id)
    assert elected(sums).tolist() == [1, 1, 255]


@settings(max_examples=100, deadline=None)
@given(scene=scenes())
def test_counting_a_set_is_the_vote_of_the_scene(scene):
    labels, point, indptr, set_id = scene
    set_id = (set_id + 1).astype(np.int32)
    found = elected(count(labels, point, set_id, 255))[set_id[point]]
    assert np.array_equal(found, vote(labels, point, indptr, set_id, "scene"))


def test_set_ceiling():
    truth = np.array([3, 3, 1, 255, 255, 2, 1], np.uint8)
    set_id = np.array([0, 0, 0, 0, 5, -1, -2])
    assert set_ceiling(truth, set_id).tolist() == [3, 3, 3, 3, 255, 2, 1]


def test_nothing_to_vote_on():
    none = np.zeros(0, np.uint8), np.zeros(0, np.int32)
    assert vote(*none, np.array([0, 0]), np.zeros(0, np.int32)).shape == (0,)
    assert vote(*none, np.array([0]), np.array([3, 4])).shape == (0,)
    assert majority(*none, 3).tolist() == [255, 255, 255]


def test_what_does_not_fit_is_refused():
    labels, point = np.zeros(3, np.uint8), np.arange(3, dtype=np.int32)
    with pytest.raises(ValueError, match="point"):
        vote(labels, point, np.array([0, 3]), np.zeros(2, int))
    for indptr in ([0, 2], [1, 3], [0, 4, 3], []):
        with pytest.raises(ValueError, match="indptr"):
            vote(labels, point, np.array(indptr, int), np.zeros(3, int))
    with pytest.raises(ValueError, match="uint8"):
        vote(labels.astype(int), point, np.array([0, 3]), np.zeros(3, int))
    with pytest.raises(ValueError, match="scope"):
        vote(labels, point, np.array([0, 3]), np.zeros(3, int), scope="view")
