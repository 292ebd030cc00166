"""Settings of `hicl preprocess` that all data sets share."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hicl.config import changes, check, read_toml, recorded, setting, settings_of
from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts import READ_OUTS

S = TypeVar("S", bound="PreprocessConfig")


@dataclass(frozen=True)
class PreprocessConfig:
    """The defaults are the paper's, or METHOD's choice where the paper is silent. A data set adds its own to them."""

    frame_step: int | None = setting(None, "Every n-th frame", above=0, shown="20 of a .sens, else 1")
    sets: str = setting(
        "best", "Where sets come from; best: the first that a scene has", choices=("best", "shipped", "mesh", "knn")
    )
    k_threshold: float = setting(0.01, "Felzenszwalb's k, as in ScanNet's Segmentator: larger, larger sets", above=0)
    min_size: int = setting(20, "Points in the smallest set", above=0)
    max_gap: float = setting(0.05, "Largest gap between a point and the measured depth", unit="metres", above=0)
    gap_growth: float = setting(
        0.0,
        "It grows to this times the depth's square where that is more; 0.0043: three sigma of a Kinect's noise",
        unit="1 / metre",
        least=0,
    )
    vote: str = setting(
        "image",
        "Vote by counts within each image (the paper) or over the scene, or by the teacher's scores over the scene",
        choices=("image", "scene", "scores"),
    )
    teacher: str = setting(
        "clip", "What labels the images; labels: label images of a 2D segmenter", choices=("clip", "labels")
    )
    labels_dir: str | None = setting(
        None, "Folder of <scene>/<frame>.png: class indices, 255 = none", shown="none", recorded=False
    )
    masks_dir: str | None = setting(
        None, "Folder of <scene>/<frame>.png: a segmenter's masks, 0 = none", shown="none", recorded=False
    )
    masks: str = setting(
        "before",
        "Masks vote before the sets, after them, or alone; kept: they don't, but are there for --objective chen",
        choices=("before", "after", "alone", "kept"),
    )
    clip: str = setting("ViT-B-16-quickgelu", "open_clip model, hicl-miniature or hicl-street")
    weights: str = setting("openai", "open_clip tag, or a file")
    dense: str = setting("maskclip", "Dense read-out", choices=tuple(READ_OUTS))
    short_side: int | None = setting(None, "Image size for the teacher", unit="pixels", above=0, shown="the model's")
    window: int | None = setting(
        None,
        "Images are read in windows of this size, averaged where they overlap",
        unit="pixels",
        above=0,
        shown="whole",
    )
    window_stride: int | None = setting(
        None, "From one window to the next", unit="pixels", above=0, shown="half a window"
    )
    key_smoothing: bool = setting(False, "MaskCLIP's: patches with similar keys are read alike")
    prompt_denoising: float = setting(
        0.0, "MaskCLIP's: a class that is nowhere surer in a view isn't in it; there 0.5, 0: none", least=0, below=1
    )
    fit_temperature: bool = setting(
        False, "It asks how sure a class is at a temperature at which views agree, not at CLIP's"
    )
    resize: str | None = setting(
        None,
        "Its shorter side becomes that, or squashed, both do",
        choices=("shortest", "squash"),
        shown="as the weights were trained",
    )
    trained_as: str | None = setting(
        None, "open_clip tag, or MODEL:TAG, whose images a file of weights was trained with", shown="the model's tags"
    )
    templates: str = setting(
        "all", "Each name in MaskCLIP's 85 sentences, or as it is, as for SigLIP", choices=("all", "none")
    )
    classes: str | None = setting(
        None,
        "Names behind commas, or a file: a class a line, synonyms behind commas, descriptions in quotes, other words "
        "that count as it behind |",
        shown="the data set's",
        recorded=False,
    )
    label_ids: str = setting(
        "classes", "What label images hold: places in the class list, or NYU40 ids", choices=("classes", "nyu40")
    )

    def __post_init__(self) -> None:
        check(self, option)
        if (self.teacher == "labels") != (self.labels_dir is not None):
            raise HiclError("--teacher labels and --labels-dir DIR go together")
        if self.window_stride is not None and self.window_stride > (self.window or 0):
            raise HiclError(f"--window-stride {self.window_stride}: needs a --window at least as large")
        if self.fit_temperature and not self.prompt_denoising:
            raise HiclError("--fit-temperature: says how sure --prompt-denoising takes the teacher for; give that too")
        if self.masks_dir is not None and (self.vote, self.masks) == ("scores", "before"):
            raise HiclError("--vote scores asks no labels, so masks can't vote before it; give --masks after or alone")


def own(config: PreprocessConfig) -> dict[str, Any]:
    """The settings that only this data set has, of those that say how a scene is made."""
    shared = {setting.key for setting in settings_of(PreprocessConfig)}
    return {key: value for key, value in recorded(config).items() if key not in shared}


def option(key: str) -> str:
    """How the command line spells a setting."""
    return "--" + key.replace("_", "-")


def build(kind: type[S], path: Path | None, given: dict[str, Any], defaults: dict[str, Any] | None = None) -> S:
    """Settings of a kind, from a TOML file (None: no file) and those given on the command line, which win; None is "not
    given". defaults: a root's own, which go together: taken if none of them is given.

    Raises `HiclError` for a file that can't be read, an unknown key, or a value that won't do.
    """
    values = changes(kind(), read_toml(path), str(path)) if path is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    if defaults and not defaults.keys() & values.keys():
        values |= defaults
    return dataclasses.replace(kind(), **values)
