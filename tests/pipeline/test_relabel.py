"""Other words on a finished cache: the same bytes as a full preprocess with those words."""

import shutil

import numpy as np
import pytest
from scans import tree, write_scan

from hicl.cache.opening import open_cache
from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.pipeline import relabel, run, stages
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import rgbd
from hicl.pipeline.run import Source, preprocess

OLD = ClassList.of(("wall", "floor"))
NEW = ClassList(("plant", "lamp", "rug"), (("plant",), ("lamp", "light"), ("rug",)))


@pytest.fixture
def teacher(tiny_clip):
    return {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}


@pytest.fixture
def root(tmp_path):
    for index in range(2):
        write_scan(tmp_path / "scans" / f"corner{index}", seed=index)
    return tmp_path / "scans"


@pytest.fixture
def made(root, teacher):
    def make(out, classes, **settings):
        source = Source("rgbd", root, [(scene, "test") for scene in rgbd.find_scenes(root)], ())
        config = rgbd.Settings(**(teacher | settings))
        preprocess(source, out, config, classes, 1, "cpu", say=lambda _: None)
        return out

    return make


@pytest.mark.parametrize("workers, short_side", [(1, None), (2, 64)])
def test_relabelling_gives_the_bytes_of_a_full_run(made, root, tmp_path, teacher, workers, short_side):
    cache, fresh = (made(tmp_path / name, words, short_side=short_side) for name, words in (("c", OLD), ("f", NEW)))
    shutil.rmtree(root)  # the images are gone
    summary = relabel.relabel(cache, NEW, **teacher, workers=workers, device="cpu")
    assert sorted(summary.done) == ["corner0", "corner1"]
    assert tree(cache) == tree(fresh)
    again = relabel.relabel(cache, NEW, **teacher, device="cpu")
    assert sorted(again.unchanged) == ["corner0", "corner1"] and not again.done
    assert open_cache(cache).classes == ("plant", "lamp", "rug")


def test_folded_words_are_labelled_as_classes_of_their_own(made, tmp_path, teacher):
    """What a pair's label would be with every word a class, each then taken for what it counts as; the sets' scores
    stay those of the best word of each class."""
    words = ClassList(
        ("plant", "lamp"), (("plant",), ("lamp", "light")), ((0, ("tree",)), (0, ("rug",)), (2, ("sofa",)))
    )
    cache, fresh = made(tmp_path / "cache", OLD), made(tmp_path / "fresh", words)
    relabel.relabel(cache, words, **teacher, workers=1, device="cpu")
    assert tree(cache) == tree(fresh)
    raw = {scene: open_cache(fresh).scene(scene).read("pairs/raw").copy() for scene in ("corner0", "corner1")}
    flat = ClassList(("plant", "lamp", "tree", "rug", "sofa"), (*words.prompts, ("tree",), ("rug",), ("sofa",)))
    relabel.relabel(fresh, flat, **teacher, workers=1, device="cpu")
    counts = np.array([0, 1, 0, 0, NO_LABEL])
    for scene, labels in raw.items():
        alone = open_cache(fresh).scene(scene).read("pairs/raw")
        # Between patches of which different words of a class are best, that class gains.
        differ = labels != counts[alone]
        assert differ.mean() < 0.05 and (labels[differ] == 0).all()
        assert {2, 4} <= set(np.unique(alone))


def test_another_vote_is_a_relabelling_too(made, tmp_path, teacher):
    cache, fresh = made(tmp_path / "cache", OLD), made(tmp_path / "fresh", OLD, vote="scene")
    relabel.relabel(cache, OLD, vote="scene", **teacher, workers=1, device="cpu")
    assert tree(cache) == tree(fresh)


def test_a_relabelling_cut_off_is_finished_by_the_next(made, tmp_path, teacher, monkeypatch):
    cache, fresh = made(tmp_path / "cache", OLD), made(tmp_path / "fresh", NEW)
    original, calls = run.process_scene, []

    def dying(job, tick=None):
        calls.append(job)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(job)

    monkeypatch.setattr(run, "process_scene", dying)
    with pytest.raises(KeyboardInterrupt):
        relabel.relabel(cache, NEW, **teacher, workers=1, device="cpu")
    assert open_cache(cache).scene_ids() == ["corner0"]
    monkeypatch.undo()
    assert relabel.relabel(cache, NEW, **teacher, workers=1, device="cpu").done == ["corner1"]
    assert tree(cache) == tree(fresh)


def test_a_scene_that_failed_is_done_by_the_next_run(made, tmp_path, teacher, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    cache = made(tmp_path / "cache", OLD)
    monkeypatch.setattr(stages, "make_labels", out_of_memory)
    assert len(relabel.relabel(cache, NEW, **teacher, workers=1, device="cpu").failed) == 2
    monkeypatch.undo()
    assert len(relabel.relabel(cache, NEW, **teacher, workers=1, device="cpu").done) == 2
    assert open_cache(cache).scene_ids() == ["corner0", "corner1"]


def test_scenes_that_another_teacher_saw_are_left_alone(made, tmp_path, tiny_clip, teacher):
    cache = made(tmp_path / "cache", OLD)
    other = {"clip": tiny_clip.resnet.config, "weights": tiny_clip.resnet.weights}
    source = Source("rgbd", tmp_path, [(scene, "val") for scene in rgbd.find_scenes(tmp_path / "scans")[:1]], ())
    preprocess(source, cache, PreprocessConfig(**other), OLD, 1, "cpu", say=lambda _: None)
    summary = relabel.relabel(cache, NEW, **other, workers=1, device="cpu")
    assert summary.done == ["corner0"] and "another teacher" in summary.failed["corner1"]
    assert open_cache(cache).scene_ids() == ["corner0"]


def test_words_of_another_teacher_are_refused(made, tmp_path, tiny_clip, teacher):
    cache = made(tmp_path / "cache", OLD)
    before = tree(cache)
    with pytest.raises(HiclError, match="came from a file; name it again by --clip and --weights"):
        relabel.relabel(cache, NEW)
    with pytest.raises(HiclError, match="came from a file; name it again"):
        relabel.relabel(cache, NEW, clip=teacher["clip"])
    with pytest.raises(HiclError, match="text space of another teacher"):
        relabel.relabel(cache, NEW, clip=tiny_clip.resnet.config, weights=tiny_clip.resnet.weights)
    with pytest.raises(HiclError, match="prompt 'a bad photo of a long long .* tokens that the teacher reads"):
        relabel.relabel(cache, ClassList.of(("long " * 100,)), **teacher, device="cpu")
    assert tree(cache) == before


def test_names_as_they_are_need_no_images(made, tmp_path, teacher):
    """The features are the same whatever sentences the words stand in."""
    cache, fresh = made(tmp_path / "cache", OLD), made(tmp_path / "fresh", OLD, templates="none")
    assert open_cache(fresh).teacher["templates"] == "none" and "templates" not in open_cache(cache).teacher
    before = open_cache(cache).text.copy()
    relabel.relabel(cache, OLD, templates="none", **teacher, workers=1, device="cpu")
    assert tree(cache) == tree(fresh)
    assert not np.allclose(before, open_cache(cache).text)
    assert relabel.relabel(cache, OLD, **teacher, device="cpu").unchanged  # and so they stay
    relabel.relabel(cache, OLD, templates="all", **teacher, workers=1, device="cpu")
    assert np.array_equal(before, open_cache(cache).text)
