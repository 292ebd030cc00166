"""The data sets: each is one file that yields scenes, and listing it here makes `hicl preprocess NAME`.

Such a file has

    a docstring  whose first line is the command's help
    Settings     a dataclass derived from `PreprocessConfig`, with the data set's own options beside those of all
    source       (root, settings) to a `scene.Source`: its scenes with their splits, and its classes
    defaults     where a root may have settings of its own: (root) to their values
    TRAINING     where `hicl train` needs other options than its own for such scenes: those words
"""

import importlib
from types import ModuleType

DATASETS = {name: f"hicl.pipeline.datasets.{name}" for name in ("scannet", "miniature", "rgbd", "nuscenes")}


def load(name: str) -> ModuleType:
    """The file of a data set that is listed."""
    return importlib.import_module(DATASETS[name])
