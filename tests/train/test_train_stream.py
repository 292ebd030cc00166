import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from synthetic_rooms import CLASSES, make_cache

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.train import order, stream
from hicl.train.config import HeadConfig, StreamConfig
from hicl.train.taught import Needs

CONFIG = StreamConfig(voxel_size=0.1, views=8, workers=0)
HEADS = HeadConfig(tokens=64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("stream") / "cache")


def _source(path, config=CONFIG, seed=0, labels="refined", heads=HEADS):
    return stream.make_source(open_cache(path), Needs(labels), heads, seed, config)


def _bytes(batch: stream.Batch) -> list[bytes]:
    tensors = (batch.coords, batch.features, batch.histogram, batch.tokens, batch.token_label)
    return [t.numpy().tobytes() for t in tensors] + [repr((batch.scenes, batch.views, batch.grid)).encode()]


def _all(source, first=0, epochs=3):
    steps = order.plan(len(source.scenes), 2, source.seed, epochs)
    return [_bytes(batch) for batch in stream.batches(source, steps, first)]


def test_a_batch_is_what_it_says(cache):
    source = _source(cache)
    opened = open_cache(cache)
    batch = stream.make_batch(opened, source, 0, [2, 0])
    assert batch.scenes == ["train02", "train00"] and batch.points == 3000
    assert len(batch.coords) == sum(batch.voxels) == len(batch.features) == len(batch.histogram)
    assert batch.coords[:, 0].bincount().tolist() == batch.voxels
    assert len(batch.coords.unique(dim=0)) == len(batch.coords)
    assert (batch.coords[:, 1:].amax(0) < torch.tensor(batch.grid)).all()
    assert batch.tokens.shape == (2, 64) and (batch.coords[batch.tokens[1]][:, 0] == 1).all()
    # Every labelled pair of the chosen views, and no other, is in the histogram.
    scene = opened.scene("train02")
    indptr, label = scene.read("pairs/indptr"), scene.read("pairs/refined")
    chosen = np.concatenate([label[indptr[v] : indptr[v + 1]] for v in batch.views[0]])
    expected = np.bincount(chosen[chosen != 255], minlength=len(CLASSES))
    assert (batch.histogram[: batch.voxels[0]].sum(0).numpy() == expected).all()
    assert len(batch.views[0]) == len(set(batch.views[0])) == 8


def test_a_token_that_no_view_shows_has_the_label_of_its_set(cache):
    opened = open_cache(cache)
    few = StreamConfig(voxel_size=0.1, views=1, workers=0)
    by_set, alone = (
        stream.make_batch(opened, _source(cache, few, heads=HeadConfig(tokens=64, token_label=kind)), 0, [0, 1])
        for kind in ("set", "own")
    )
    own = alone.histogram[alone.tokens]
    expected = torch.where(own.any(dim=2), own.argmax(dim=2), 255)
    assert torch.equal(alone.token_label, expected) and torch.equal(by_set.tokens, alone.tokens)
    seen = expected != 255
    assert torch.equal(by_set.token_label[seen], expected[seen])
    assert (~seen).any() and (by_set.token_label[~seen] != 255).float().mean() > 0.5


def test_true_labels_never_reach_training(cache, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(cache, bare)
    for folder in bare.glob("scenes/*/points/label"):
        shutil.rmtree(folder)
    assert not open_cache(bare).scene("train00").has("points/label")
    assert _all(_source(bare)) == _all(_source(cache))


def test_the_same_batches_come_from_any_number_of_workers_and_any_start(cache):
    source = _source(cache)
    straight = _all(source)
    assert len(straight) == 6 and len({b[0] for b in straight}) == 6
    parallel = StreamConfig(voxel_size=0.1, views=8, workers=2, prefetch=1)
    assert _all(_source(cache, parallel), first=1) == straight[1:]


def test_seed_epoch_and_labels_each_change_the_batch(cache):
    def first(epoch=0, **kwargs):
        return _bytes(stream.make_batch(open_cache(cache), _source(cache, **kwargs), epoch, [0, 1]))

    plain, raw = first(), first(labels="raw")
    assert plain == first() and plain != first(seed=1) and plain != first(epoch=1)
    assert plain[0] == raw[0] and plain[2] != raw[2] and plain[3] == raw[3]


def test_a_scene_does_not_depend_on_its_neighbours(cache):
    opened, source = open_cache(cache), _source(cache)
    alone, pair = (stream.make_batch(opened, source, 0, numbers) for numbers in ([1], [0, 1]))
    assert torch.equal(alone.features, pair.features[pair.voxels[0] :])
    assert torch.equal(alone.tokens[0], pair.tokens[1] - pair.voxels[0])


def test_every_epoch_visits_scenes_once_in_full_batches():
    visits = Counter(s for epoch in range(40) for step in order.epoch_order(11, 4, 0, epoch) for s in step)
    assert all(len(step) == 4 for step in order.epoch_order(11, 4, 0, 0))
    assert sum(visits.values()) == 40 * 8 and min(visits.values()) > 15  # the rest of an epoch is never the same
    assert order.epoch_order(3, 8, 0, 0) == [order.epoch_order(3, 8, 0, 0)[0]]
    assert len(order.plan(1201, 8, 0, 120)) * 8 == 144_000


def test_processes_share_a_step_without_overlap():
    whole = order.plan(10, 4, 0, 2)
    parts = [order.plan(10, 4, 0, 2, rank, 2) for rank in (0, 1)]
    assert [(e, a + b) for (e, a), (_, b) in zip(*parts, strict=True)] == whole
    with pytest.raises(HiclError, match="3 processes"):
        order.plan(10, 4, 0, 1, 0, 3)


def test_a_scene_without_a_labelled_pair_is_named(tmp_path):
    def erase(name, arrays):
        if name == "train01":
            arrays["pairs/refined"][:] = 255

    path = make_cache(tmp_path / "cache", train=2, val=0, edit=erase)
    source = _source(path)
    stream.make_batch(open_cache(path), source, 0, [0])
    with pytest.raises(HiclError, match="scene train01 has no labelled pair"):
        stream.make_batch(open_cache(path), source, 0, [1])


def test_a_cache_that_changes_under_a_run_stops_it(tmp_path):
    path = make_cache(tmp_path / "cache", train=2, val=0)
    steps = order.plan(2, 2, 0, 3)
    running = stream.batches(_source(path), steps)
    next(running)
    meta = path / "scenes" / "train01" / "zarr.json"
    meta.write_text(meta.read_text().replace('"labels": "1"', '"labels": "2"'))
    with pytest.raises(HiclError, match="scene train01 changed while training"):
        list(running)


def test_errors_travel_out_of_a_worker_as_values_of_one_line(tmp_path):
    path = make_cache(tmp_path / "cache", train=2, val=0)
    source = _source(path)
    (path / "scenes" / "train00" / "sets" / "id" / "c" / "0").unlink()
    error = stream._Batches(source, order.plan(2, 2, 0, 1))[0]
    assert isinstance(error, HiclError) and "\n" not in str(error) and "sets/id" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # how a DataLoader's queue carries it


def test_a_worker_that_dies_is_an_error_with_the_way_out(cache, monkeypatch):
    class Dying:
        def __init__(self, *_, **__):
            pass

        def __iter__(self):
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    monkeypatch.setattr(stream, "DataLoader", Dying)
    with pytest.raises(HiclError, match="lower stream.workers"):
        list(stream.batches(_source(cache), order.plan(4, 2, 0, 1)))
