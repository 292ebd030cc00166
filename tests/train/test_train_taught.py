"""The teacher's features in rows, against loops over pairs in float64 that know nothing of the stream's."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
import torch
from synthetic_rooms import add_features, make_cache

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.train import stream, twins
from hicl.train.config import HeadConfig, StreamConfig
from hicl.train.kernels import voxelise
from hicl.train.taught import Needs

PLAIN = StreamConfig(voxel_size=0.3, views=3, workers=0, rotate=False, flip=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("taught") / "cache", n_points=300, val=0, edit=add_features)


def _batch(path, needs, numbers=(0, 1)):
    opened = open_cache(path)
    source = stream.make_source(opened, needs, HeadConfig(tokens=8), 0, PLAIN)
    return stream.make_batch(opened, source, 0, list(numbers))


def _feature(codes, scale, size, pixel):
    """A pixel's feature: four patches' by the distances of their centres from its own, then of unit length."""
    shape = np.array(codes.shape[:2])
    at = np.clip((pixel + 0.5) * shape / size - 0.5, 0, shape - 1)
    found = np.zeros(codes.shape[2])
    for i, j in np.ndindex(*shape):
        weight = np.prod(np.maximum(0, 1 - np.abs(at - [i, j])))
        found += weight * scale[i, j] * codes[i, j].astype(float)
    return found / np.linalg.norm(found)


def _by_hand(path, batch, rows):
    """{row's key: ([features of its pairs], [their voxels])}, in whatever order."""
    found, view_number, first_voxel = defaultdict(lambda: ([], [])), 0, 0
    for name, views, n_voxels in zip(batch.scenes, batch.views, batch.voxels, strict=True):
        names = ("points/xyz", "sets/id", "pairs/indptr", "pairs/point", "pairs/pixel", "views/size")
        scene = open_cache(path).scene(name)
        xyz, sets, indptr, point, pixel, size = (scene.read(n) for n in names)
        codes, scale = scene.read("features/grid"), scene.read("features/scale")
        voxel_of_point = voxelise(xyz, PLAIN.voxel_size)[2]
        for view in views:
            for pair in range(indptr[view], indptr[view + 1]):
                voxel = first_voxel + int(voxel_of_point[point[pair]])
                patch = tuple((pixel[pair].astype(int) * codes.shape[1:3]) // size[view])
                key = {
                    "pairs": (view_number, pair),
                    "sets": (view_number, sets[point[pair]]),
                    "views": view_number,
                    "patches": (view_number, *patch),
                    "voxels": voxel,
                }[rows]
                found[key][0].append(_feature(codes[view], scale[view], size[view], pixel[pair].astype(float)))
                found[key][1].append(voxel)
            view_number += 1
        first_voxel += n_voxels
    return found


@pytest.mark.parametrize("rows", ["pairs", "sets", "views", "patches", "voxels"])
def test_rows_are_the_means_over_their_pairs(cache, rows):
    batch = _batch(cache, Needs(rows=rows))
    taught, expected = batch.taught, list(_by_hand(cache, batch, rows).values())
    student = torch.randn(len(batch.coords), 5, dtype=torch.float64)
    dense = dataclasses.replace(taught, share=taught.share.double())
    ours = np.hstack([taught.features.numpy(), dense.pooled(student).numpy(), taught.count.numpy()[:, None]])
    theirs = np.array([[*np.mean(f, axis=0), *student[v].mean(dim=0).tolist(), len(f)] for f, v in expected])
    assert ours.shape == theirs.shape
    for row in theirs:  # in another order
        assert np.abs(ours - row).max(axis=1).min() < 1e-4
    assert taught.view.max() == (-1 if rows == "voxels" else 5) and not batch.histogram.any()


def test_only_so_many_rows_are_drawn_and_they_are_of_those(cache):
    every, few = _batch(cache, Needs(rows="sets")).taught, _batch(cache, Needs(rows="sets", most=7)).taught
    assert len(few.count) == 14 < len(every.count)
    for row, view in zip(few.features, few.view, strict=True):
        same = (every.features - row).abs().amax(dim=1) < 1e-6
        assert same.any() and view in every.view[same]
    assert few.entries[0].unique().tolist() == list(range(14))
    again = _batch(cache, Needs(rows="sets", most=7)).taught
    assert torch.equal(again.features, few.features)


def test_a_cache_without_features_is_refused_in_one_line(tmp_path):
    path = make_cache(tmp_path / "cache", train=1, val=0, n_points=100)
    with pytest.raises(HiclError, match="train00: no features/grid, which this objective learns from; take a cache"):
        _batch(path, Needs(rows="pairs"), [0])


def test_an_objective_without_pairs_reads_none(cache, monkeypatch):
    read, names = type(open_cache(cache).scene("train00")).read, set()
    monkeypatch.setattr("hicl.cache.reader.Group.read", lambda self, name: names.add(name) or read(self, name))
    _batch(cache, Needs())
    assert names == {"points/xyz", "points/rgb", "sets/id"}


def test_a_scene_that_comes_twice_is_matched_point_by_point(cache):
    batch = _batch(cache, Needs(matches=30))
    assert batch.scenes == ["train00", "train00", "train01", "train01"] and len(batch.matches) == 60
    assert abs(batch.points / 600 - 2 / 1.7) < 0.02
    first = np.cumsum([0, *batch.voxels])
    taught = _batch(cache, Needs(rows="pairs", most=20, matches=30)).taught
    halves = np.searchsorted(first, taught.entries[1].numpy(), side="right") - 1
    assert len(taught.count) == 40 and halves.tolist() == [0] * 20 + [2] * 20  # pairs are of the first part alone
    assert taught.view.max() == 5
    for number in (0, 1):
        own = batch.matches[30 * number : 30 * (number + 1)].numpy()
        assert ((own >= first[2 * number : 2 * number + 2]) & (own < first[2 * number + 1 : 2 * number + 3])).all()
        assert len(set(own[:, 0])) == 30
        parts = [batch.coords[first[k] : first[k + 1], 1:].numpy() for k in (2 * number, 2 * number + 1)]
        shift = own - first[2 * number : 2 * number + 2]
        apart = parts[0][shift[:, 0]] - parts[1][shift[:, 1]]
        assert np.ptp(apart, axis=0).max() <= 1  # the same place but for the corners the voxels are counted from


def test_parts_overlap_by_three_tenths():
    xyz = np.random.default_rng(0).uniform(-3, 4, (5000, 3)).astype(np.float32)
    one, other = (twins.part(xyz, second, np.random.default_rng(7)) for second in (False, True))
    assert (one | other).all() and abs((one & other).sum() / one.sum() - 0.3) < 0.01
    kept, voxels = (np.flatnonzero(one), np.flatnonzero(other)), (np.flatnonzero(one) // 9, np.flatnonzero(other) // 4)
    matches = twins.matched(kept, voxels, 10_000, np.random.default_rng(0))
    expected = {}
    for point in np.flatnonzero(one & other):
        expected.setdefault(point // 9, set()).add(point // 4)
    assert len(matches) == len(expected) and all(b in expected[a] for a, b in matches.tolist())
