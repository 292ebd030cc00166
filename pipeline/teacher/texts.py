"""Words in the teacher's text space."""

from typing import Any

import numpy as np
import torch

from hicl.errors import HiclError


class TextTower:
    """The text half of an open_clip model, and its tokenizer."""

    def __init__(self, model: Any, name: str):
        import open_clip

        self._model, self._tokenizer = model, open_clip.get_tokenizer(name)

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
            raise HiclError(f"prompt {_shortened(text)!r}: longer than the {context} tokens that the teacher reads")
        return self._encode_tokens(tokens.to(self._model.logit_scale.device)).float().cpu().numpy()

    def _encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """The text half. What it pools is the end-of-text token, which sees no token behind it: short texts are read
        without their padding, which is most of CLIP's 77 tokens. (Where it is less than half, there is little to gain.)
        """
        import open_clip

        model, ends = self._model, tokens.argmax(dim=-1)
        length = int(ends.max()) + 1
        causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
        if not causal or not isinstance(model.text_projection, torch.Tensor) or 2 * length >= tokens.shape[1]:
            return model.encode_text(tokens)
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        return model.ln_final(x[torch.arange(len(x)), ends]) @ model.text_projection


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
