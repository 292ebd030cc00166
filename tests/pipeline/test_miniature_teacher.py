"""The miniature's teacher: what it may learn from, and the weights that ship."""

import inspect
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from hicl.errors import HiclError
from hicl.pipeline.datasets.nuscenes_classes import WORDS
from hicl.pipeline.miniature import scan, train_teacher, writing
from hicl.pipeline.miniature.photos import Photographer, caption
from hicl.pipeline.miniature.street import write
from hicl.pipeline.miniature.subjects import ROOMS, STREETS, SUBJECTS, Frames, Subject
from hicl.pipeline.teacher.clip import Teacher, TeacherConfig

TEACHER = Path(str(files("hicl.pipeline.miniature"))) / "teacher"


@pytest.fixture(scope="module")
def seen() -> dict[str, Frames]:
    return {name: subject.shoot(writing.FIRST_TEACHER_SEED, 0, 4) for name, subject in SUBJECTS.items()}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request) -> Subject:
    return SUBJECTS[request.param]


@pytest.fixture
def frames(seen, subject) -> Frames:
    return seen[next(name for name, one in SUBJECTS.items() if one is subject)]


def test_captions_are_made_of_names_alone():
    """No label image, box or mask can reach a caption: its inputs are a generator and nouns."""
    assert list(inspect.signature(caption).parameters) == ["rng", "names", "subject"]
    rng = np.random.default_rng(0)
    lines = [caption(rng, ["bed", "lamp", "wall"], ROOMS) for _ in range(500)]
    used = [names for _, names in lines]
    assert frozenset() in used and frozenset(["bed"]) in used and frozenset(["bed", "lamp"]) in used
    assert all(names <= {"bed", "lamp", "wall"} for names in used)
    assert len({line for line, _ in lines}) > 100
    assert lines[:20] == [
        caption(g, ["bed", "lamp", "wall"], ROOMS) for g in [np.random.default_rng(0)] for _ in range(20)
    ]


def test_photographs_name_what_is_in_them(subject, frames):
    photographer = Photographer([frames], 80, subject)
    rng = np.random.default_rng(0)
    there = {subject.names.get(int(i)) for i in np.unique(frames.thing)}
    for _ in range(20):
        picture, names = photographer.shot(rng)
        assert picture.shape == (80, 80, 3) and picture.dtype == np.uint8
        assert names and set(names) <= there and len(names) == len(set(names))


def test_teacher_scenes_are_never_part_of_a_data_set(tmp_path):
    assert train_teacher.HELD_OUT_SEED > writing.FIRST_TEACHER_SEED
    for seed in (writing.FIRST_TEACHER_SEED, train_teacher.HELD_OUT_SEED):
        with pytest.raises(HiclError, match="seed"):
            scan.write_dataset(tmp_path / "x", scenes=1, seed=seed)
        with pytest.raises(HiclError, match="seed"):
            write.write_streets(tmp_path / "x", scenes=1, seed=seed)


def test_pair_loss_counts_shared_names():
    """A batch whose captions all name the same thing can't be told apart, and isn't asked to be."""
    unit = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    same = [frozenset(["bed"])] * 4
    flat = torch.ones(4, 8) / 8**0.5
    uniform = train_teacher.pair_loss(flat, flat, same, torch.tensor(10.0))
    assert uniform.item() == pytest.approx(np.log(4), abs=1e-5)
    told_apart = train_teacher.pair_loss(unit, unit, same, torch.tensor(10.0))
    assert told_apart > uniform
    other = [frozenset([name]) for name in ("bed", "sofa", "desk", "door")]
    assert train_teacher.pair_loss(unit, unit, other, torch.tensor(10.0)) < told_apart
    nothing = [frozenset()] * 2 + [frozenset(["bed"])] * 2
    assert torch.isfinite(train_teacher.pair_loss(unit, unit, nothing, torch.tensor(10.0)))


def test_a_batch_depends_on_its_seed_alone(seen):
    photographer = Photographer([seen["rooms"]], 80, ROOMS)
    a, b, c = (train_teacher.batch(photographer, seed, 3, 4) for seed in (1, 1, 2))
    assert np.array_equal(a[0], b[0]) and a[1:] == b[1:]
    assert not np.array_equal(a[0], c[0])


def test_street_words_are_those_that_streets_are_prompted_by():
    """Captions use every word that CLIP2Scene asks for, and nearly all of OpenScene's."""
    said = {word for name in STREETS.names.values() for word in STREETS.synonyms.get(name, (name,))}
    assert {word for words in WORDS["clip2scene"] for word in words} <= said
    assert len(set(STREETS.to_class.values())) == 16


def test_shipped_teachers_load_and_read_frames(subject, frames):
    config, weights = TEACHER / f"{subject.teacher}.json", TEACHER / f"{subject.teacher}.safetensors"
    assert config.stat().st_size + weights.stat().st_size <= 8 * 2**20
    assert json.loads(config.read_text()) == train_teacher.config_of(subject)
    teacher = Teacher(TeacherConfig(subject.teacher, subject.teacher))  # strict: every tensor or an error
    grid = teacher.encode_images(list(frames.picture))
    assert grid.shape[0] == 4 and grid.shape[3] == teacher.dim
    assert grid.shape[1] == subject.read_size // 32 and teacher.patches.short_side == subject.read_size
    # Far above chance on a scene that it has learned photographs of, far below perfect.
    measured = train_teacher.evaluate(subject, TEACHER, [frames])
    assert 0.2 < measured["accuracy"] < 0.98
    assert measured["confusion"].shape == (len(subject.classes),) * 2


def test_saved_teacher_is_the_trained_one(tmp_path):
    """Positions are stretched to the size that frames are read at; all other tensors are kept, as float16."""
    torch.manual_seed(0)
    model = train_teacher.build(train_teacher.config_of(ROOMS)).eval()
    train_teacher.save(model, ROOMS, tmp_path)
    teacher = Teacher(
        TeacherConfig(clip=str(tmp_path / "hicl-miniature.json"), weights=str(tmp_path / "hicl-miniature.safetensors"))
    )
    loaded = teacher._model.state_dict()
    for name, tensor in model.state_dict().items():
        if name != "visual.attnpool.positional_embedding":
            torch.testing.assert_close(loaded[name], tensor, atol=2e-3, rtol=2e-3)
