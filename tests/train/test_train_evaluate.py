import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score
from synthetic_rooms import CLASSES, make_cache, text_embedding

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.metrics import confusion
from hicl.train import evaluate, inference, network
from hicl.train.config import Config, ModelConfig, StreamConfig

SMALL = Config(stream=StreamConfig(voxel_size=0.1), model=ModelConfig(stem=4, planes=(4, 4, 4, 4, 4, 4, 4, 4)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(make_cache(tmp_path_factory.mktemp("evaluate") / "cache", train=1, val=2))


def _model(classes=CLASSES, width=16):
    torch.manual_seed(0)
    net = network.build(SMALL, width, torch.device("cpu"))
    text = torch.from_numpy(text_embedding(width))
    return inference.Model(net.eval(), text, {"classes": list(classes)}, SMALL.stream)


def test_scores_equal_scikit_learns_and_a_count_by_hand():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    hidden = rng.random(500) < 0.2
    matrix = confusion(np.where(hidden, 255, truth).astype(np.uint8), prediction, 4)
    t, p = truth[~hidden], prediction[~hidden]
    scores = evaluate.score(matrix, ("a", "b", "c", "d"))
    assert (scores.confusion == confusion_matrix(t, p)).all()
    assert np.allclose(scores.iou, jaccard_score(t, p, average=None))
    assert np.isclose(scores.miou, jaccard_score(t, p, average="macro"))
    assert np.isclose(scores.accuracy, accuracy_score(t, p))
    by_hand = [np.sum((t == c) & (p == c)) / np.sum((t == c) | (p == c)) for c in range(4)]
    assert np.allclose(scores.iou, by_hand)


def test_a_class_that_is_not_in_the_truth_is_left_out_of_the_mean():
    scores = evaluate.score(confusion(np.array([0, 0]), np.array([0, 1]), 3), ("a", "b", "c"))
    assert np.isnan(scores.iou[1:]).all() and scores.iou[0] == 0.5 and scores.miou == 0.5
    assert "absent" in evaluate.report(scores)


def test_every_vertex_is_predicted_by_its_voxel_and_scored(cache):
    model = _model()
    scores = evaluate.evaluate(model, cache)
    assert scores.confusion.sum() == 3000 and scores.scans == 2
    text = evaluate.report(scores)
    assert "3000 labelled vertices of 2 val scans" in text and "mIoU without other" in text


def test_scores_are_written_whole(cache, tmp_path):
    scores = evaluate.evaluate(_model(), cache)
    saved = json.loads(evaluate.save(scores, tmp_path, cache).read_text())
    assert np.isclose(saved["miou"], 100 * scores.miou) and np.array(saved["confusion"]).sum() == 3000
    assert list(saved["iou"]) == list(CLASSES)


def test_another_class_list_or_teacher_is_refused(cache, tmp_path):
    with pytest.raises(HiclError, match="class 2: bed instead of sofa"):
        evaluate.evaluate(_model(("wall", "floor", "sofa", "chair", "other furniture")), cache)
    with pytest.raises(HiclError, match="width 16, the model's 24"):
        evaluate.evaluate(_model(width=24), cache)
    unlabelled = open_cache(make_cache(tmp_path / "c", 1, 1, edit=lambda _, arrays: arrays.pop("points/label")))
    with pytest.raises(HiclError, match="no scene of split 'val' has true labels"):
        evaluate.evaluate(_model(), unlabelled)
    with pytest.raises(HiclError, match="no finished model"):
        inference.load(tmp_path, torch.device("cpu"))
