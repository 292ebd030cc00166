"""From a trained network to a class for each point of a cached scene: by voxel or by set, alone or with the images."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from hicl.cache.reader import SceneReader
from hicl.train.pooling import DOUBT, image_labels

if TYPE_CHECKING:  # which brings spconv along
    from hicl.train.inference import Model, Prediction

Pool = Literal["sets", "none"]
Ensemble = Literal["none", "product", "average", "surer"]


def name_of(split: str, pool: Pool = "none", ensemble: Ensemble = "none") -> str:
    """What an evaluation's files are called by: "val", "val-sets", "val-sets-average"."""
    return "-".join([split, *(way for way in (pool, ensemble) if way != "none")])


def classes_of(model: "Model", scene: SceneReader, pool: Pool = "none", ensemble: Ensemble = "none") -> np.ndarray:
    """The class of each point of a scene: uint16 [N]. Arguments as of `answers_of`."""
    return answers_of(model, scene, pool, ensemble).label


def answers_of(model: "Model", scene: SceneReader, pool: Pool = "none", ensemble: Ensemble = "none") -> "Prediction":
    """The class of each point of a scene, and its probability.

    Args:
        model: whose classes are those of the scene's cache.
        pool: "sets" averages the network's log-probabilities over each geometric set (`pooling.set_means`).
        ensemble: how the network's probabilities are joined with what the scene's images say (`pooling.image_labels`),
            by `together`; "none" asks the network alone.
    """
    from hicl.train.inference import Prediction

    xyz, values, sets, place = model.read(scene)
    groups = sets if pool == "sets" else None
    if ensemble == "none":
        found = model.predict(xyz, values, sets=groups)
        return Prediction(found.label[place], found.score[place])
    network, every = model.probabilities(xyz, values, groups), scene.read("sets/id")
    spread = scene.read("points/spread") if scene.has("points/spread") else None
    raw, of_pair = scene.read("pairs/raw"), every[scene.read("pairs/point")]
    images = image_labels(raw, of_pair, every, spread, network.shape[1])
    joined = together(network, images[sets], ensemble)
    score = joined.max(axis=1) / joined.sum(axis=1)
    return Prediction(joined.argmax(axis=1).astype(np.uint16)[place], score.astype(np.float32)[place])


def together(network: np.ndarray, images: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Probabilities [N, C] of a network and of images, [N, C] each, as one; the network's where `images` is all 0.

    "surer" takes, a point, the one whose best class is the more probable (OpenScene `run/evaluate.py`: the 2D feature
    or the 3D one, whichever scores higher); "average" their mean; "product" their product, up to a factor, as of two
    who err independently: the images' are raised by `pooling.DOUBT`, so that they rule no class out, and enter by their
    roots, since the pixels of a set err together and make them surer than they are right.
    """
    if ensemble == "product":
        return np.sqrt(images + DOUBT) * network
    if ensemble == "surer":
        return np.where(images.max(axis=1, keepdims=True) > network.max(axis=1, keepdims=True), images, network)
    # One that is 0 throughout adds nothing to the order of the classes.
    return (network + images) / 2
