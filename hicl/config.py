"""Configuration: frozen dataclasses, filled from TOML and the command line. Unknown keys are errors."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from hicl.errors import HiclError

T = TypeVar("T")


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of `hicl preprocess`. The defaults are the paper's, or METHOD's choice where the paper is silent.

    frame_step: every n-th frame (None: the data set's own default). sets: shipped, mesh, knn, or best = the first of
    them that a scene has. k_threshold, min_size: Felzenszwalb's, as in ScanNet's Segmentator. max_gap: metres between
    a point and the measured depth. vote: within each image, or pooled over the scene. teacher: clip, or labels = label
    images of any 2D segmenter below labels_dir. clip, weights, dense, short_side: see `maskclip.TeacherConfig`.
    classes: file with a class a line (None: the data set's own). depth_scale: units a metre of depth images (rgbd).
    """

    frame_step: int | None = None
    sets: str = "best"
    k_threshold: float = 0.01
    min_size: int = 20
    max_gap: float = 0.05
    vote: str = "image"
    teacher: str = "clip"
    labels_dir: str | None = None
    clip: str = "ViT-B-16-quickgelu"
    weights: str = "openai"
    dense: str = "maskclip"
    short_side: int | None = None
    classes: str | None = None
    depth_scale: float = 1000.0

    def __post_init__(self):
        choices = {
            "sets": ("best", "shipped", "mesh", "knn"),
            "vote": ("image", "scene"),
            "teacher": ("clip", "labels"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise HiclError(f"{_option(name)} {getattr(self, name)}: unknown; known are {', '.join(known)}")
        for name in ("frame_step", "k_threshold", "min_size", "max_gap", "short_side", "depth_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise HiclError(f"{_option(name)} {value}: must be greater than 0")
        if (self.teacher == "labels") != (self.labels_dir is not None):
            raise HiclError("--teacher labels and --labels-dir DIR go together")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def build(cls: type[T], path: Path | None, overrides: dict[str, Any]) -> T:
    """A config from a TOML file (None: defaults) with overrides; None among them means "not given".

    Raises `HiclError` for a file that can't be read, an unknown key or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise HiclError(f"{path}: config can't be read ({error})") from None
        hints = get_type_hints(cls)
        for key, value in values.items():
            if key not in hints:
                raise HiclError(f"{path}: unknown key {key!r}; known are {', '.join(hints)}")
            accepted = tuple(t for t in (get_args(hints[key]) or (hints[key],)))
            if isinstance(value, int) and not isinstance(value, bool) and float in accepted:
                values[key] = float(value)
            elif not isinstance(value, accepted) or isinstance(value, bool) != (bool in accepted):
                raise HiclError(f"{path}: {key} = {value!r}, expected {hints[key]}")
    values |= {key: value for key, value in overrides.items() if value is not None}
    return dataclasses.replace(cls(), **values) if values else cls()
