"""nuScenes-lidarseg's classes: from the 32 that points are labelled with to the 16 that are scored, by name."""

from pathlib import Path

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import HiclError
from hicl.pipeline.datasets.tables import columns

CLASSES = (
    "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone", "trailer",
    "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation",
)  # fmt: skip
"""In the challenge's order, without its class 0 of what isn't scored."""

_FINE = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    "flat.driveable_surface": "driveable_surface",
    "flat.other": "other_flat",
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "manmade",
    "static.vegetation": "vegetation",
}
_IGNORED = {
    "noise", "animal", "human.pedestrian.personal_mobility", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
    "movable_object.debris", "movable_object.pushable_pullable", "static_object.bicycle_rack",
    "vehicle.emergency.ambulance", "vehicle.emergency.police", "static.other", "vehicle.ego",
}  # fmt: skip

WORDS = {
    "clip2scene": tuple(
        (name if name in ("traffic_cone", "other_flat") else name.replace("_", " "),) for name in CLASSES
    ),
    "openscene": (
        ("barrier", "barricade"),
        ("bicycle",),
        ("bus",),
        ("car",),
        ("bulldozer", "excavator", "concrete mixer", "crane", "dump truck"),
        ("motorcycle",),
        ("person", "pedestrian"),
        ("traffic cone",),
        ("trailer", "semi trailer", "cargo container", "shipping container", "freight container"),
        ("truck",),
        ("road",),
        ("curb", "traffic island", "traffic median"),
        ("sidewalk",),
        ("grass", "grassland", "lawn", "meadow", "turf", "sod"),
        ("building", "wall", "pole", "awning"),
        ("tree", "trunk", "tree trunk", "bush", "shrub", "plant", "flower", "woods"),
    ),
}
"""What each class is prompted by. clip2scene: runnanchen/CLIP2Scene, utils/prompt_engineering.py, as it is spelled
there. openscene: the 43 of pengsongyou/openscene, dataset/label_constants.py; there a point gets the class of the best
word, here, as everywhere in hicl, the words of a class are one prompt ensemble."""


def to_classes(folder: Path) -> np.ndarray:
    """uint8 [256]: from lidarseg's labels to places in `CLASSES`, 255 = not scored; 254 = no label of lidarseg's.

    folder: of the version. Raises `HiclError` for the `category.json` of nuScenes without lidarseg, or other names.
    """
    path = folder / "category.json"
    try:
        found = columns(path, ("name", "index"))
    except HiclError as error:
        if "'index'" not in str(error):
            raise
        raise HiclError(
            f"{path}: its rows have no index: it is that of nuScenes without lidarseg; unpack nuScenes-lidarseg over it"
        ) from None
    table = np.full(256, UNKNOWN, np.uint8)
    for name, index in zip(found["name"], found["index"], strict=True):
        if name not in _FINE and name not in _IGNORED:
            raise HiclError(f"{path}: {name!r} is no class of nuScenes-lidarseg")
        if type(index) is not int or not 0 <= index < UNKNOWN:
            raise HiclError(f"{path}: {name!r} has the index {index!r}, expected 0 to 31")
        table[index] = CLASSES.index(_FINE[name]) if name in _FINE else NO_LABEL
    return table


UNKNOWN = 254
