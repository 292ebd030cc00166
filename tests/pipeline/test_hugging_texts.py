"""Text towers of Hugging Face, as open_clip builds them: small ones, of random numbers, against its own encode_text."""

import json

import numpy as np
import open_clip
import pytest
import torch
from conftest import TINY_VISION

from hicl.errors import HiclError
from hicl.pipeline.teacher import model
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher

WORDS = "a the photo of chair sofa plant there is in scene red .".split()
HEADS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
OF_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "is_encoder_decoder": True}
OF_NLLB = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
OF_NLLB |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "is_encoder_decoder": True}
# Of each kind that open_clip's models have: the text's config, and how it is pooled.
KINDS = {
    "roberta": (HEADS, "mean_pooler"),
    "xlm-roberta": (HEADS, "mean_pooler"),
    "mt5": (OF_T5, "mean_pooler"),
    "m2m_100": (OF_NLLB, "cls_pooler"),
}


@pytest.fixture
def files(tmp_path):
    """Config and tokenizer of a text tower as they lie in a repository of the hub; then the model's own files."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from safetensors.torch import save_file

    def write(kind):
        vocabulary = {word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        ends = [("<s>", 0), ("</s>", 2)]
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
        names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(tmp_path)
        of_text, pooler = KINDS[kind]
        known = {"vocab_size": len(vocabulary), "pad_token_id": 1, "max_position_embeddings": 40}
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind} | known | of_text))
        text = {"hf_model_name": str(tmp_path), "hf_tokenizer_name": str(tmp_path), "context_length": 20}
        text |= {"hf_proj_type": "linear", "hf_pooler_type": pooler}
        config = tmp_path / f"tiny-{kind}.json"
        config.write_text(json.dumps({"embed_dim": 12, "vision_cfg": TINY_VISION["vit"], "text_cfg": text}))
        open_clip.add_model_config(config)
        torch.manual_seed(0)
        made = open_clip.create_model(config.stem, load_weights=False, pretrained_text=False).eval()
        state = {name: value.contiguous().clone() for name, value in made.state_dict().items()}
        (tmp_path / "weights").mkdir()
        save_file(state, tmp_path / "weights" / "w.safetensors")
        return made, TeacherConfig(str(config), str(tmp_path / "weights" / "w.safetensors"))

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_open_clip_reads_them(files, tmp_path, kind):
    made, config = files(kind)
    teacher = Teacher(config)
    texts = ["a photo of the red chair.", "sofa", "there is a plant in the scene . " * 2]
    tokens = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=20)(texts)
    with torch.inference_mode():
        expected = made.encode_text(tokens).numpy()
    found = teacher.encode_texts(texts)
    assert found.shape == (3, 12) and expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(found, expected, atol=1e-7)
    with pytest.raises(HiclError, match="longer than the 20 tokens"):
        teacher.encode_texts(["the sofa " * 10])


def test_a_text_config_that_can_not_be_had_is_said_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(model.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(
        HiclError, match=r"--clip roberta-ViT-B-32: .* config.json of roberta-base .*: --clip COPY.json"
    ):
        model.build(TeacherConfig("roberta-ViT-B-32", "laion2b_s12b_b32k"))
