"""How images are made ready for a model: as they were when its weights were trained."""

from typing import Any, NamedTuple

from hicl.errors import HiclError
from hicl.pipeline.teacher.choice import TeacherConfig


class Preprocessing(NamedTuple):
    """mean, std: of a channel, red, green, blue, where white is 1. interpolation: "bicubic" or "bilinear". resize: what
    an image's sides become, "shortest": the shorter one the model's size, or "squash": both."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: str

    def __str__(self) -> str:
        mean, std = ("/".join(f"{value:.3g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}, {self.interpolation}, {self.resize}"


def of_tag(settings: dict[str, Any]) -> Preprocessing:
    """What open_clip knows of a tag; what it doesn't say is as OpenAI did it."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    return Preprocessing(
        tuple(settings.get("mean") or OPENAI_DATASET_MEAN),
        tuple(settings.get("std") or OPENAI_DATASET_STD),
        settings.get("interpolation") or "bicubic",
        settings.get("resize_mode") or "shortest",
    )


def of_file(name: str, quick_gelu: bool, config: TeacherConfig) -> Preprocessing:
    """For weights from a file: what `trained_as` says, else what all tags of the model agree in, of those whose
    activation it has. Raises `HiclError` where they don't, or there is no such tag."""
    import open_clip

    if config.trained_as:
        model, _, tag = config.trained_as.rpartition(":")
        model = model or name
        settings = open_clip.get_pretrained_cfg(model, tag)
        if not settings:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
            raise HiclError(f"--trained-as {config.trained_as}: no tag of {model} (its tags: {tags})")
        return of_tag(settings)
    known: dict[Preprocessing, str] = {}
    for tag in open_clip.list_pretrained_tags_by_model(name):
        settings = open_clip.get_pretrained_cfg(name, tag)
        if bool(settings.get("quick_gelu")) == quick_gelu:
            known.setdefault(of_tag(settings), tag)
    if len(known) > 1:
        several = "; ".join(f"{tag}: {preprocessing}" for preprocessing, tag in known.items())
        raise HiclError(
            f"--weights {config.weights}: {name} was trained in several ways ({several}); say --trained-as TAG"
        )
    return next(iter(known), of_tag({}))
