"""Settings of `hicl preprocess`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hicl.config import changes, read_toml
from hicl.errors import HiclError


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of `hicl preprocess`. The defaults are the paper's, or METHOD's choice where the paper is silent.

    frame_step: every n-th frame (None: the data set's own default). sets: shipped, mesh, knn, or best = the first of
    them that a scene has. k_threshold, min_size: Felzenszwalb's, as in ScanNet's Segmentator. max_gap: metres between
    a point and the measured depth. vote: within each image, or pooled over the scene. teacher: clip, or labels = label
    images of any 2D segmenter below labels_dir. clip, weights, dense, short_side: see `maskclip.TeacherConfig`.
    classes: file with a class a line (None: the data set's own). label_ids: what label images, and the `label` of a
    surface's vertices (rgbd), hold: places in that list (classes), or nyu40. depth_scale, poses, axes: see
    `scene.Readings` (rgbd).
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
    label_ids: str = "classes"
    depth_scale: float = 1000.0
    poses: str = "camera-to-world"
    axes: str = "opencv"

    def __post_init__(self):
        choices = {
            "sets": ("best", "shipped", "mesh", "knn"),
            "vote": ("image", "scene"),
            "teacher": ("clip", "labels"),
            "label_ids": ("classes", "nyu40"),
            "poses": ("camera-to-world", "world-to-camera"),
            "axes": ("opencv", "opengl"),
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


def build(path: Path | None, given: dict[str, Any]) -> PreprocessConfig:
    """Settings from a TOML file (None: defaults) and those given on the command line, which win; None is "not given".

    Raises `HiclError` for a file that can't be read, an unknown key, or a value that won't do.
    """
    values = changes(PreprocessConfig(), read_toml(path), str(path)) if path is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    return dataclasses.replace(PreprocessConfig(), **values)
