"""Words in the teacher's text space."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hicl.devices import fastest_products
from hicl.errors import HiclError
from hicl.pipeline.teacher import hub


class TextTower:
    """The text half of an open_clip model, and its tokenizer, with the model's own context length and its own way to
    clean a text (SigLIP: lower case, no punctuation)."""

    def __init__(self, model: Any, name: str, weights: Path | None = None):
        """weights: the model's file; tokenizers that open_clip doesn't hold are looked for beside it.

        Raises `HiclError` where the tokenizer can't be had.
        """
        self._model, self._tokenizer = model, _tokenizer(name, weights)

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> np.ndarray:
        """Embedding float32 [T, d] of texts as they are, not normalised. Raises `HiclError` for one too long to read.

        Tokenizers cut what goes beyond the model's context without a word.
        """
        tokens = self._tokenizer(texts)
        context = tokens.shape[1]
        beyond = self._tokenizer(texts, context_length=4 * context)[:, context:]
        cut = (beyond != beyond[:, -1:]).any(dim=1)
        if cut.any():
            text = texts[int(cut.nonzero()[0])]
            raise HiclError(
                f"prompt {_shortened(text)!r}: longer than the {context} tokens that the teacher reads; take "
                f"fewer words, or --templates none"
            )
        with fastest_products():
            found = self._encode_tokens(tokens.to(self._model.logit_scale.device))
        return found.float().cpu().numpy()

    def _encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """The text half. What it pools is the end-of-text token, which sees no token behind it: short texts are read
        without their padding, which is most of CLIP's 77 tokens. (Where it is less than half, there is little to gain.)
        """
        half, ends = getattr(self._model, "text", self._model), tokens.argmax(dim=-1)
        length = int(ends.max()) + 1
        if not _ends_alone(half) or 2 * length >= tokens.shape[1]:
            return self._model.encode_text(tokens)
        x = half.token_embedding(tokens[:, :length]) + half.positional_embedding[:length]
        x = half.transformer(x, attn_mask=half.attn_mask[:length, :length])
        return half.ln_final(x[torch.arange(len(x)), ends]) @ half.text_projection


def _ends_alone(half: Any) -> bool:
    """Whether a text half pools the end-of-text token, of highest number, and that sees only what is before it."""
    import open_clip

    if not isinstance(half, open_clip.CLIP | open_clip.transformer.TextTransformer):
        return False
    pools_end = getattr(half, "pool_type", None) or half.text_pool_type
    causal = half.attn_mask is not None and getattr(half, "cls_emb", None) is None
    return pools_end == "argmax" and causal and isinstance(half.text_projection, torch.Tensor)


def _tokenizer(name: str, weights: Path | None) -> Any:
    """open_clip's own, or one of Hugging Face: from the folder of the weights if it is there, else from the folder that
    the model's config names, the hub or what is cached of it."""
    import open_clip

    text = open_clip.get_model_config(name)["text_cfg"]
    repository = text.get("hf_tokenizer_name")
    if not repository:
        return open_clip.get_tokenizer(name)
    if importlib.util.find_spec("transformers") is None:
        raise HiclError(f"--clip {name}: its tokenizer needs transformers, which isn't installed; install hicl[hf]")
    beside = weights is not None and (weights.parent / "tokenizer.json").is_file()
    source = str(weights.parent) if weights is not None and beside else repository
    try:
        if not Path(source).is_dir() and not hub.cached(f"{repository}/tokenizer_config.json"):
            hub.assert_reachable(f"{repository}/tokenizer_config.json", repository)
        return open_clip.tokenizer.HFTokenizer(
            source,
            context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            **text.get("tokenizer_kwargs", {}),
        )
    except Exception as error:  # of transformers, the hub or the file
        raise HiclError(
            f"--clip {name}: its tokenizer can't be read from {source} ({hub.first_line(error)[:120]}); bring "
            f"tokenizer.json and tokenizer_config.json of {repository}, and lay them beside the file of weights"
        ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
