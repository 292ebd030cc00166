"""The layouts in which models are published: those that open_clip has had, and others by what they are."""

from pathlib import Path
from typing import Any

from hicl.errors import HiclError
from hicl.pipeline.teacher.weights import State

# What releases of CLIP hold beside the weights: sizes, masks and positions that a model makes itself.
_BESIDE = {"input_resolution", "context_length", "vocab_size", "attn_mask", "logit_bias", "position_ids"}
# What a model has and nothing here reads: counters of training steps, a bias of a loss. They may be missing.
_UNREAD = {"num_batches_tracked", "logit_bias"}
# The text half of open_clip's `CLIP`, which `CustomTextCLIP` keeps below `text.`.
_TEXT = ("positional_embedding", "token_embedding.", "transformer.", "ln_final.", "text_projection")
# Keys that only a file of another layout has, and whose it is.
_OTHERS = {
    "vision_model.": "in the layout of Hugging Face's transformers",
    "image_encoder.": "in Apple's own layout of MobileCLIP",
    "visual.blocks.": "in BAAI's own layout of EVA-CLIP",
    "visual.attn_pool.probe": "in Meta's own layout of PE",
    "patch_embed.": "an image tower alone, as timm publishes",
    "stem.": "an image tower alone, as timm publishes",
}


def fitted(state: State, model: Any, path: Path, name: str) -> State:
    """The weights of an open_clip model from what a file holds. Raises `HiclError` unless each tensor has its name and
    its shape.

    What is known to stand beside weights is passed over. Apple's layout of MobileCLIP is converted as open_clip does,
    and the text half is found where `CLIP` and where `CustomTextCLIP` have it.
    """
    from open_clip.convert import convert_state_dict

    expected = model.state_dict()
    state = _text_moved(_from_apple(convert_state_dict, state, model, path), expected)
    state = {k: v for k, v in state.items() if k in expected or k.rpartition(".")[2] not in _BESIDE}
    for start, what in _OTHERS.items():
        if any(key.startswith(start) for key in state) and not any(key.startswith(start) for key in expected):
            raise HiclError(f"{path}: {what}; give the file of {name} that is published for open_clip")
    state = {k: v for k, v in expected.items() if k.rpartition(".")[2] in _UNREAD} | state
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in expected and state[key].numel() == expected[key].numel():
            state[key] = state[key].reshape(expected[key].shape)  # some releases store [1] for []
    wrong = {
        "lacks": sorted(set(expected) - set(state)),
        "has too": sorted(set(state) - set(expected)),
        "has in another shape": sorted(k for k in expected if k in state and state[k].shape != expected[k].shape),
    }
    found = [f"{what} {_some(keys)}" for what, keys in wrong.items() if keys]
    if found:
        raise HiclError(f"{path}: not the weights of {name}: {'; '.join(found)}")
    return state


def _from_apple(convert: Any, state: State, model: Any, path: Path) -> State:
    if not any(key.startswith("image_encoder.") for key in state):
        return state
    try:
        return convert(model, state)
    except Exception:  # of another model, or one that open_clip has no conversion for
        raise HiclError(f"{path}: in Apple's own layout; give the file that Apple publishes for open_clip") from None


def _text_moved(state: State, expected: State) -> State:
    """The text half below `text.`, or not, as the model has it."""
    if "token_embedding.weight" in state and "text.token_embedding.weight" in expected:
        return {f"text.{key}" if key.startswith(_TEXT) else key: value for key, value in state.items()}
    if "text.token_embedding.weight" in state and "token_embedding.weight" in expected:
        return {key.removeprefix("text."): value for key, value in state.items()}
    return state


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
