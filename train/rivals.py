"""The rows of Table 1: what each method is here, what of it is otherwise than published, and how it answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.train.answers import classes_of
from hicl.train.fused import best_cosines, fused_classes
from hicl.train.kernels import label_histogram, majority_labels

if TYPE_CHECKING:  # which brings spconv along
    from hicl.train.inference import Model

# In a run's place, where no 3D network is trained: the cache alone, or the cache that a 2D network labelled.
ALONE = LABELS, STUDENT = "labels", "student"


@dataclass(frozen=True)
class Row:
    """A method of Table 1.

    run: the run that answers, by `Config.name`, or one of `ALONE`. answer: how, a name of `answer`.
    paper, paper_nuscenes: mIoU on ScanNet val and on nuScenes val; None: not known for certain. cited: who says so.
    differs: from the method as published. saw: what its teacher has seen beside images with captions. indoors: made for
    rooms alone.
    """

    title: str
    run: str
    answer: str
    paper: float | None = None
    paper_nuscenes: float | None = None
    cited: str = ""
    differs: str = ""
    saw: str = ""
    indoors: bool = False


_TABLE1 = "HICL (CVPR 2024), Table 1"
_OPENSCENE = (
    "Chen et al. (NeurIPS 2023) ran OpenScene with MaskCLIP as its teacher, as one of them says in issue 1 of their"
    " repository; nuScenes' figure is from a listing, not verified; which of the three rows they mean isn't said"
)
_FUSED = "features of patches, in 8 bits, in place of dense ones of pixels; this teacher in place of LSeg or OpenSeg"
_DISTILLED = (
    f"{_FUSED}; the network, voxels, augmentation, SGD and schedule of the other rows in place of MinkUNet18A, 2 cm and"
    " Adam with 1e-4; colours are read"
)
_CLIP2SCENE = (
    "one feature learns the labels and the teacher's features, in place of two and a random projection that is never"
    " trained; outdoors grids over time only where clip2scene.grid asks for them: sweeps of a key frame are one cloud"
)
_CHEN = (
    "details are unpublished, and train/objectives/chen.py names what was decided; a network on the teacher's features"
    " in place of a 2D network on images; masks by colours where `hicl masks` made them; no features of SAM"
)
_STUDENT = (
    "LR-ASPP on MobileNetV3 from a random start, on images of 120 rows, in place of DeepLabv2 on a ResNet-101 that was"
    " trained with ImageNet's labels; no distance to the teacher's features"
)

# In the order of the table.
ROWS = {
    "maskclip": Row("MaskCLIP", LABELS, "raw", cited="not known for certain"),
    "maskclip-plus": Row(
        "MaskCLIP+",
        STUDENT,
        "raw",
        21.6,
        cited="from a listing, not verified; of nuScenes not known",
        differs=_STUDENT,
        indoors=True,
    ),
    "openscene-fused": Row("OpenScene, fused 2D features", LABELS, "fused", differs=_FUSED),
    "openscene": Row("OpenScene, distilled", "openscene", "voxels", 16.8, 14.6, _OPENSCENE, _DISTILLED),
    "openscene-both": Row("OpenScene, 2D-3D ensemble", "openscene", "surer", differs="as of its two parts"),
    "clip2scene": Row("CLIP2Scene", "clip2scene", "voxels", 25.6, 20.8, _TABLE1, _CLIP2SCENE),
    "chen": Row(
        "Chen et al.",
        "chen",
        "voxels",
        33.5,
        26.8,
        _TABLE1,
        _CHEN,
        "people's masks, where Segment Anything made them",
        indoors=True,
    ),
    "hicl": Row("HICL (V)", "V", "voxels", 36.6, 23.0, _TABLE1),
    "ours": Row("ours (VI)", "VI", "voxels"),
    "ours-pooled": Row("ours (VI), pooled in the scan's sets", "VI", "sets"),
}


def answer(how: str, scene: SceneReader, text: np.ndarray, model: "Model | None" = None) -> np.ndarray:
    """The class of each point of a scene, 255 = none: int [N].

    Args:
        how: "raw", the majority of its pairs' labels, the lowest class of equals, as of `hicl report labels`; "fused",
            the text nearest to its fused feature; "voxels" and "sets", the network's; "surer", OpenScene's ensemble.
        text: [C, d] float32, of the cache's classes. model: of a row that has a run.
    """
    if how == "raw":
        return _majority(scene, scene.read("pairs/raw"), len(text))
    if how == "fused":
        return fused_classes(scene, text)[0]
    assert model is not None
    if how == "surer":
        return _surer(model, scene, text)
    return classes_of(model, scene, "sets" if how == "sets" else "none")


def seen_points(scene: SceneReader) -> np.ndarray:
    """Whether any image shows a point, bool [N]."""
    seen = np.zeros(scene.attributes["counts"]["points"], bool)
    seen[scene.read("pairs/point")] = True
    return seen


def _majority(scene: SceneReader, label: np.ndarray, n_classes: int) -> np.ndarray:
    n, indptr = scene.attributes["counts"]["points"], scene.read("pairs/indptr")
    views, points = np.arange(len(indptr) - 1), np.arange(n, dtype=np.int32)
    return majority_labels(label_histogram(indptr, views, scene.read("pairs/point"), label, points, n, n_classes))


def _surer(model: "Model", scene: SceneReader, text: np.ndarray) -> np.ndarray:
    """OpenScene's ensemble (`run/evaluate.py:302-322`): a point's feature is the fused one or the network's, whichever
    has the larger cosine to the class it is nearest to."""
    by_images, surest = fused_classes(scene, text)
    xyz, values, _, place = model.read(scene)
    features, voxel_of_point = model.features(xyz, values)
    by_network, cosine = best_cosines(features, text)
    voxel = voxel_of_point[place]
    return np.where((by_images != NO_LABEL) & (surest > cosine[voxel]), by_images, by_network[voxel])
