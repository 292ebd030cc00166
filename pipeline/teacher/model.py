"""An open_clip model with its weights, built so that what won't do is said in one line."""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from hicl.errors import HiclError
from hicl.pipeline.teacher import hub
from hicl.pipeline.teacher.choice import OWN, TeacherConfig
from hicl.pipeline.teacher.layouts import fitted
from hicl.pipeline.teacher.preprocessing import Preprocessing, of_file, of_tag
from hicl.pipeline.teacher.weights import read_weights
from hicl.read import read_json


def build(config: TeacherConfig) -> tuple[torch.nn.Module, str, Preprocessing]:
    """(model, its name in open_clip, how images are made ready for its weights). Raises `HiclError`."""
    import open_clip

    name = config.clip if config.model_config is None else _add_model(config.model_config)
    if name not in open_clip.list_models():
        raise HiclError(
            f"--clip {name}: neither {', '.join(OWN)} nor an open_clip model; `open_clip.list_models()` names those"
        )
    hugging_face = open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")
    if hugging_face and importlib.util.find_spec("transformers") is None:
        raise HiclError(f"--clip {name}: its texts need transformers, which isn't installed; install hicl[hf]")
    if hugging_face:
        _assert_text_config(name, hugging_face)
    with _quiet_libraries():
        try:
            model = open_clip.create_model(name, pretrained=None, load_weights=False, pretrained_text=False)
        except Exception as error:  # whatever open_clip stumbles over in a user's own config
            raise HiclError(f"--clip {name}: open_clip can't build it ({hub.first_line(error)})") from None
        return model, name, _load_weights(model, name, config)


def _assert_text_config(name: str, repository: str) -> None:
    """Raise `HiclError` where the config of a Hugging Face text tower can't be had: in seconds, libraries take minutes.

    repository: of the hub, or a folder.
    """
    entry = f"{repository}/config.json"
    if Path(repository).is_dir() or hub.cached(entry):
        return
    try:
        hub.assert_reachable(entry, repository)
    except HiclError:
        raise HiclError(
            f"--clip {name}: its texts are read as config.json of {repository} says, which isn't here, and the hub "
            f"can't be reached; bring it and the tokenizer's files in a folder, and name that as hf_model_name and "
            f"hf_tokenizer_name in a copy of the model's config: --clip COPY.json"
        ) from None


def _add_model(path: Path) -> str:
    """Make an open_clip model config known; it goes by the name of its file. Raises `HiclError` if it isn't one."""
    import open_clip

    try:
        config = read_json(path)
    except FileNotFoundError:
        raise HiclError(f"{path}: no such model config") from None
    # Checked before open_clip sees it: it reads every config again whenever one is added.
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise HiclError(f"{path}: not an open_clip model config; it needs embed_dim, vision_cfg and text_cfg")
    open_clip.add_model_config(path)
    return path.stem


def _load_weights(model: torch.nn.Module, name: str, config: TeacherConfig) -> Preprocessing:
    """Load every tensor, or raise `HiclError`. Returns how images are made ready for them."""
    import open_clip

    weights, path = config.weights, config.weights_file
    if path is not None:
        preprocessing = of_file(name, _has_quick_gelu(model), config)
    else:
        settings = open_clip.get_pretrained_cfg(name, weights) or {}
        if not settings:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
            raise HiclError(f"--weights {weights}: neither a file nor a tag of {name} (its tags: {tags})")
        _assert_quick_gelu(model, name, weights, bool(settings.get("quick_gelu")))
        if config.trained_as:
            raise HiclError(f"--trained-as {config.trained_as}: only for a file; the tag {weights} says it of itself")
        path, preprocessing = _download(settings, name, weights), of_tag(settings)
    model.load_state_dict(fitted(read_weights(path), model, path, name))
    return preprocessing._replace(resize=config.resize or preprocessing.resize)


def _has_quick_gelu(model: torch.nn.Module) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())


def _assert_quick_gelu(model: torch.nn.Module, name: str, tag: str, expected: bool) -> None:
    """open_clip only warns where the activation isn't the one that the weights were trained with."""
    if _has_quick_gelu(model) != expected:
        other = f"{name}-quickgelu" if expected else name.removesuffix("-quickgelu")
        raise HiclError(f"--clip {name} --weights {tag}: the weights need {'Quick' * expected}GELU; use --clip {other}")


def _download(settings: dict, name: str, tag: str) -> Path:
    import open_clip

    if settings.get("hf_hub"):
        return hub.fetch(settings["hf_hub"], tag)
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:  # network and file errors alike
        raise HiclError(
            f"--weights {tag}: can't be downloaded for {name} ({hub.first_line(error)}); give a local file: "
            f"--weights FILE"
        ) from None


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """open_clip warns of a model without weights yet, huggingface_hub prints each retry; we say it in one line."""
    loggers = [logging.getLogger(name) for name in ("", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
