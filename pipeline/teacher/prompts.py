"""The prompts made of a class name, and the mean of what a text tower makes of them."""

import numpy as np

# MaskCLIP and CLIP2Scene prompt with OpenAI's 80 ImageNet templates and these five (chongzhou96/MaskCLIP
# `tools/maskclip_utils/prompt_engineering.py`, runnanchen/CLIP2Scene `utils/prompt_engineering.py`).
SCENE_TEMPLATES = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)


def fill_templates(prompt: str) -> list[str]:
    """The 85 prompts for one name; a description in quotes without them, as often, so that it weighs as much."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    if prompt.startswith('"') and prompt.endswith('"'):
        return [prompt[1:-1]] * (len(OPENAI_IMAGENET_TEMPLATES) + len(SCENE_TEMPLATES))
    return [fill(prompt) for fill in OPENAI_IMAGENET_TEMPLATES] + [text.format(prompt) for text in SCENE_TEMPLATES]


def ensemble(embedding: np.ndarray) -> np.ndarray:
    """Mean of unit vectors, unit length: float32 [T, d] to [d] (CLIP's prompt ensembling)."""
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)
