"""Class lists and the prompts made of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hicl.errors import HiclError

# MaskCLIP and CLIP2Scene prompt with OpenAI's 80 ImageNet templates and these five (chongzhou96/MaskCLIP
# `tools/maskclip_utils/prompt_engineering.py`, runnanchen/CLIP2Scene `utils/prompt_engineering.py`).
SCENE_TEMPLATES = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)


@dataclass(frozen=True)
class ClassList:
    """Classes in label order. prompts[c]: what is put into the templates for class c, its name and its synonyms."""

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(names: tuple[str, ...]) -> "ClassList":
        return ClassList(tuple(names), tuple((name,) for name in names))


def read_classes(path: Path) -> ClassList:
    """A text file with a class a line, synonyms behind commas (`sofa, couch`), # for comments.

    Raises `HiclError` if it can't be read, is empty, repeats a name or has more than 255 classes.
    """
    try:
        lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise HiclError(f"{path}: class list can't be read ({error})") from None
    split = (tuple(word.strip() for word in line.split(",") if word.strip()) for line in lines)
    prompts = tuple(words for words in split if words)
    names = tuple(words[0] for words in prompts)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if not names or len(names) > 255:
        raise HiclError(f"{path}: {len(names)} classes; write one a line, 1 to 255 of them")
    if repeated:
        raise HiclError(f"{path}: class {repeated!r} stands there twice")
    return ClassList(names, prompts)


def fill_templates(prompt: str) -> list[str]:
    """The 85 prompts for one name."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [fill(prompt) for fill in OPENAI_IMAGENET_TEMPLATES] + [text.format(prompt) for text in SCENE_TEMPLATES]


def ensemble(embedding: np.ndarray) -> np.ndarray:
    """Mean of unit vectors, unit length: float32 [T, d] to [d] (CLIP's prompt ensembling)."""
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)
