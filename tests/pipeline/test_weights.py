"""Weights as people have them: how their images are made ready, and whose layouts they come in."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hicl.errors import HiclError
from hicl.pipeline.teacher import texts
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.features import PatchGrid
from hicl.pipeline.teacher.preprocessing import of_file

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic", "shortest")
HALF = (0.5, 0.5, 0.5)


def of(name, quick_gelu=False, trained_as=None):
    return tuple(of_file(name, quick_gelu, TeacherConfig(name, "w.pt", trained_as=trained_as)))


@pytest.mark.parametrize(
    "name, trained_as, expected",
    [
        ("ViT-B-16", None, OPENAI),
        ("tiny-unheard-of", None, OPENAI),
        ("PE-Core-B-16", None, (HALF, HALF, "bilinear", "squash")),
        ("ViT-B-16-SigLIP2", None, (HALF, HALF, "bicubic", "squash")),
        ("MobileCLIP2-S0", None, ((0.0,) * 3, (1.0,) * 3, "bilinear", "shortest")),
        ("ViT-L-14", "laion2b_s32b_b82k", (HALF, HALF, "bicubic", "shortest")),
        ("tiny-unheard-of", "ViT-B-16-SigLIP:webli", (HALF, HALF, "bicubic", "squash")),
    ],
)
def test_a_file_is_read_as_the_tags_of_its_model(name, trained_as, expected):
    assert of(name, trained_as=trained_as) == expected


def test_tags_that_disagree_are_told_apart_by_activation_or_asked_for():
    assert of("ViT-H-14", quick_gelu=False) == OPENAI  # the squashed one is QuickGELU's
    with pytest.raises(HiclError, match="dfn5b: .*squash.*; say --trained-as TAG"):
        of("ViT-H-14-quickgelu", quick_gelu=True)
    with pytest.raises(HiclError, match="--trained-as webli: no tag of ViT-B-16 .its tags: openai"):
        of("ViT-B-16", trained_as="webli")


def test_squashed_images_and_their_interpolation():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    grid = PatchGrid((8, 8), 32, "bilinear", squash=True)
    assert grid.shape(60, 90) == grid.shape(90, 60) == (4, 4)
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(grid.resize(image), expected)


@torch.no_grad()
def test_resize_and_templates_are_settings_of_a_teacher(tiny_clip):
    tiny, image = tiny_clip.vit, np.zeros((60, 90, 3), np.uint8)
    squashed = Teacher(TeacherConfig(tiny.config, tiny.weights, resize="squash", templates="none"))
    assert squashed.encode_images([image]).shape == (1, 4, 4, 12)
    found = squashed.encode_classes(SimpleNamespace(prompts=(("sofa",),)))[0]
    expected = tiny.model.encode_text(open_clip.tokenize(["sofa"]))[0].numpy()
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.fixture
def custom(tiny_clip, tmp_path):
    """The tiny model with its text half below `text.`, as `CustomTextCLIP` has it."""
    path = tmp_path / "tiny-custom-quickgelu.json"
    path.write_text(json.dumps(json.loads(Path(tiny_clip.vit.config).read_text()) | {"custom_text": True}))
    return str(path)


def test_the_text_half_is_found_in_either_place(tiny_clip, custom, tmp_path):
    tiny, words = tiny_clip.vit, ["a chair", "a chair! and a table!"]
    moved = {
        key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": value
        for key, value in load_file(tiny.weights).items()
    }
    save_file(moved, tmp_path / "moved.safetensors")
    expected = Teacher(TeacherConfig(tiny.config, tiny.weights)).encode_texts(words)
    for clip, weights in (
        (custom, tiny.weights),
        (custom, str(tmp_path / "moved.safetensors")),
        (tiny.config, str(tmp_path / "moved.safetensors")),
    ):
        np.testing.assert_allclose(Teacher(TeacherConfig(clip, weights)).encode_texts(words), expected, atol=1e-6)


def test_safetensors_by_another_name(tiny_clip, tmp_path):
    other = tmp_path / "weights.bin"
    other.write_bytes(Path(tiny_clip.vit.weights).read_bytes())
    Teacher(TeacherConfig(tiny_clip.vit.config, str(other)))


@pytest.mark.parametrize(
    "key, said",
    [
        ("vision_model.embeddings.class_embedding", "in the layout of Hugging Face's transformers"),
        ("image_encoder.model.cls_token", "in Apple's own layout"),
        ("visual.blocks.0.attn.q_bias", "in BAAI's own layout"),
        ("visual.attn_pool.probe", "in Meta's own layout"),
        ("patch_embed.proj.weight", "an image tower alone"),
    ],
)
def test_a_layout_of_others_is_named(tiny_clip, tmp_path, key, said):
    save_file({key: torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(HiclError, match=f"w.safetensors: {said}.*open_clip") as error:
        Teacher(TeacherConfig(tiny_clip.vit.config, str(tmp_path / "w.safetensors")))
    assert "\n" not in str(error.value)


def test_other_files_of_a_model_are_named(tiny_clip, tmp_path):
    np.savez(tmp_path / "w.pt", a=np.zeros(3))
    (tmp_path / "w.pt.npz").rename(tmp_path / "w.pt")
    (tmp_path / "w.bin").write_text('{"weight_map": {}}')
    for name, said in (("w.pt", "as big_vision publishes"), ("w.bin", "the list of its parts")):
        with pytest.raises(HiclError, match=f"{name}: not a file of weights .*{said}"):
            Teacher(TeacherConfig(tiny_clip.vit.config, str(tmp_path / name)))


@pytest.fixture
def hugging(tiny_clip, tmp_path):
    """A config of the tiny model whose tokenizer is Hugging Face's, with 16 tokens, of canonical text."""
    config = json.loads(Path(tiny_clip.vit.config).read_text())
    config["text_cfg"] |= {"hf_tokenizer_name": "some/one", "tokenizer_kwargs": {"clean": "canonicalize"}}
    path = tmp_path / "tiny-hf.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem


def test_what_a_tokenizer_needs_is_said_in_one_line(tiny_clip, hugging, tmp_path, monkeypatch):
    monkeypatch.setattr(texts.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HiclError, match=r"--clip tiny-hf: its tokenizer needs transformers.*install hicl\[hf\]"):
        texts.TextTower(tiny_clip.vit.model, hugging)
    monkeypatch.setattr(texts.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HiclError, match="from some/one .*; bring tokenizer.json and .* beside the file of weights"):
        texts.TextTower(tiny_clip.vit.model, hugging)


def test_a_tokenizer_lies_beside_the_weights(tiny_clip, hugging, tmp_path, monkeypatch):
    """What `transformers` would read is asked for there, and given cleaned text and the model's own length."""
    asked = []

    class Tokenizer:
        @classmethod
        def from_pretrained(cls, source, **options):
            asked.append(source)
            return cls()

        def __call__(self, words, max_length, **options):
            asked.extend(words)
            rows = [[len(word) for word in text.split()][:max_length] for text in words]
            return SimpleNamespace(input_ids=torch.tensor([row + [0] * (max_length - len(row)) for row in rows]))

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=Tokenizer))
    monkeypatch.setattr(texts.importlib.util, "find_spec", lambda name: True)
    (tmp_path / "tokenizer.json").write_text("{}")
    tower = texts.TextTower(tiny_clip.vit.model, hugging, tmp_path / "w.safetensors")
    tower.encode(["A Red_Chair!"])
    assert asked[:2] == [str(tmp_path), "a red chair"]
    with pytest.raises(HiclError, match="longer than the 77 tokens .* --templates none"):
        tower.encode(["a b c d e f " * 13])
