"""What the teachers' photographers go for: rooms, and streets; frames of them, and what people call what is there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hicl.pipeline.datasets import nuscenes_classes, scannet
from hicl.pipeline.miniature import mesh, render
from hicl.pipeline.miniature.rooms import build_room
from hicl.pipeline.miniature.solids import pack
from hicl.pipeline.miniature.street import categories as lidarseg
from hicl.pipeline.miniature.street import light as street_light
from hicl.pipeline.miniature.street.layout import build_street
from hicl.pipeline.miniature.street.lidar import moved
from hicl.pipeline.miniature.street.rig import CHANNELS, draw_drive, draw_rig
from hicl.pipeline.miniature.walk import draw_cameras, walk
from hicl.pipeline.teacher.choice import MINIATURE, STREET


@dataclass(frozen=True)
class Frames:
    """Frames of one scene. picture: uint8 [F, H, W, 3]; thing: uint8 [F, H, W], numbers of `Subject.names`."""

    picture: np.ndarray
    thing: np.ndarray


@dataclass(frozen=True)
class Subject:
    """teacher: its name; begins: the teacher that its training goes on from, None: from scratch. scenes, frames, steps:
    how much it learns from. shoot: (seed, index, frames) to frames of a scene.

    names: what a thing's number is called; synonyms: by those names. background: names that go without saying. two,
    three, nothing: captions that name so many things. appeal: how often a number is aimed at, where it isn't 1. least:
    pixels of a thing that is noticed; closest, widest: pixels of a photograph's side, widest drawn between two.
    read_size: pixels of the shorter side at which frames are read, about as large as photographs are learned from.
    classes: that the frames are scored in; to_class: their places by number.
    """

    teacher: str
    begins: str | None
    scenes: int
    frames: int
    steps: int
    shoot: Callable[[int, int, int], Frames]
    names: dict[int, str]
    synonyms: dict[str, tuple[str, ...]]
    background: tuple[str, ...]
    two: tuple[str, ...]
    three: tuple[str, ...]
    nothing: tuple[str, ...]
    appeal: dict[int, float]
    least: int
    closest: int
    widest: tuple[int, int]
    read_size: int
    classes: tuple[tuple[str, ...], ...]
    to_class: dict[int, int]


def shoot_room(seed: int, index: int, count: int) -> Frames:
    """Walk through a room and take `count` frames."""
    room = build_room(seed, index)
    solids = pack(room.solids)
    field = mesh.distance_field(room, solids)
    rng = np.random.default_rng([4, seed, index])
    light = render.draw_light(rng, room)
    camera, _ = draw_cameras(rng)
    views = [render.look(solids, field, light, camera, pose) for pose in walk(rng, room, solids, count)]
    label = np.append(solids.label, 0).astype(np.uint8)  # solid -1: nothing
    return Frames(np.stack([render.photograph(rng, v.color) for v in views]), np.stack([label[v.solid] for v in views]))


SKY = 40


def shoot_street(seed: int, index: int, count: int) -> Frames:
    """Drive along a street and take `count` frames, with one camera of the car after the other."""
    street = build_street(seed, index)
    rng = np.random.default_rng([14, seed, index])
    rig, drive = draw_rig(rng), draw_drive(rng, street)
    light = street_light.draw_light(rng, street.dusk, street.lamps)
    label = np.append(street.solids.label, SKY).astype(np.uint8)  # solid -1: the sky
    pictures, things = [], []
    for number, channel in zip(range(count), CHANNELS * count, strict=False):
        t = 0.8 * (number // len(CHANNELS))
        solids, ego = moved(street, t), drive.pose(t)
        if number % len(CHANNELS) == 0:
            shade = street_light.shade_map(solids, light, ego[:3, 3])
        exact, solid = street_light.view(solids, light, shade, rig.intrinsics[channel], ego @ rig.cameras[channel])
        pictures.append(render.photograph(rng, exact))
        things.append(label[solid])
    return Frames(np.stack(pictures), np.stack(things))


# By NYU40 id: ScanNet's 20 classes, then things that are none of them.
_ROOM_NAMES = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator", 28: "shower curtain",
    33: "toilet", 34: "sink", 36: "bathtub", 39: "other furniture",
    13: "blinds", 15: "shelves", 18: "pillow", 19: "mirror", 21: "clothes", 22: "ceiling", 23: "books",
    25: "television", 27: "towel", 29: "box", 30: "whiteboard", 32: "night stand", 35: "lamp", 37: "bag",
}  # fmt: skip

ROOMS = Subject(
    teacher=MINIATURE,
    begins=None,
    scenes=168,
    frames=12,
    steps=3600,
    shoot=shoot_room,
    names=_ROOM_NAMES,
    synonyms={
        "sofa": ("sofa", "sofa", "couch"),
        "refrigerator": ("refrigerator", "refrigerator", "fridge"),
        "other furniture": ("other furniture", "other furniture", "furniture", "piece of furniture"),
        "picture": ("picture", "picture", "painting"),
        "bookshelf": ("bookshelf", "bookshelf", "bookcase"),
    },
    background=("wall", "floor", "ceiling"),
    two=("a {} and a {}", "a {} next to a {}", "a room with a {} and a {}", "a {} in front of a {}"),
    three=("a {}, a {} and a {}", "a room with a {}, a {} and a {}"),
    nothing=("a photo of a room", "inside our house", "a nice place", "home", "an interior", "a picture from today"),
    appeal={i: 0.25 for i in _ROOM_NAMES if i not in scannet.NYU40_IDS} | {1: 5.0, 2: 3.0},
    least=250,
    closest=36,
    widest=(72, 150),
    read_size=352,
    classes=tuple((name,) for name in scannet.CLASSES),
    to_class={number: place for place, number in enumerate(scannet.NYU40_IDS)},
)

# By lidarseg's category: the 16 classes, then things that are none of them.
_STREET_NAMES = {
    lidarseg.BARRIER: "barrier", lidarseg.BICYCLE: "bicycle", lidarseg.BUS: "bus", lidarseg.BENDY_BUS: "bus",
    lidarseg.CAR: "car", lidarseg.DIGGER: "construction vehicle", lidarseg.MOTORCYCLE: "motorcycle",
    lidarseg.ADULT: "pedestrian", lidarseg.CHILD: "pedestrian", lidarseg.WORKER: "pedestrian",
    lidarseg.CONE: "traffic cone", lidarseg.TRAILER: "trailer", lidarseg.TRUCK: "truck", lidarseg.ROAD: "road",
    lidarseg.OTHER_FLAT: "other flat", lidarseg.SIDEWALK: "sidewalk", lidarseg.TERRAIN: "terrain",
    lidarseg.MANMADE: "building", lidarseg.VEGETATION: "tree",
    lidarseg.BIN: "bin", lidarseg.RACK: "bicycle rack", SKY: "sky",
}  # fmt: skip
_STREET_CLASS = {"traffic cone": "traffic_cone", "construction vehicle": "construction_vehicle", "building": "manmade"}
_STREET_CLASS |= {"road": "driveable_surface", "other flat": "other_flat", "tree": "vegetation"}

STREETS = Subject(
    teacher=STREET,
    begins=MINIATURE,
    scenes=84,
    frames=6,
    steps=900,
    shoot=shoot_street,
    names=_STREET_NAMES,
    synonyms={
        "barrier": ("barrier", "barrier", "barricade"),
        "bicycle": ("bicycle", "bicycle", "bike"),
        "construction vehicle": ("construction vehicle", "construction vehicle", "excavator", "bulldozer", "crane"),
        "motorcycle": ("motorcycle", "motorcycle", "scooter"),
        "pedestrian": ("pedestrian", "pedestrian", "person", "man", "woman"),
        "traffic cone": ("traffic cone", "traffic cone", "traffic_cone", "cone"),
        "trailer": ("trailer", "trailer", "semi trailer", "cargo container", "shipping container"),
        "truck": ("truck", "truck", "lorry"),
        "road": ("road", "road", "driveable surface", "driveable surface", "street"),
        "other flat": ("other flat", "other_flat", "traffic island", "traffic median", "curb", "canal"),
        "sidewalk": ("sidewalk", "sidewalk", "pavement"),
        "terrain": ("terrain", "terrain", "grass", "lawn", "meadow"),
        "building": ("building", "manmade", "manmade", "house", "wall", "pole"),
        "tree": ("tree", "vegetation", "vegetation", "bush", "plant", "shrub"),
    },
    background=("road", "building", "sky", "tree", "terrain", "sidewalk"),
    two=("a {} and a {}", "a {} next to a {}", "a street with a {} and a {}", "a {} in front of a {}"),
    three=("a {}, a {} and a {}", "a street with a {}, a {} and a {}"),
    nothing=("a photo of a street", "on my way to work", "a nice place", "our town", "outside", "a picture from today"),
    appeal={
        lidarseg.ROAD: 2.5, lidarseg.MANMADE: 4.0, lidarseg.VEGETATION: 2.5, lidarseg.TERRAIN: 2.0,
        lidarseg.SIDEWALK: 2.0, lidarseg.ADULT: 0.8, lidarseg.CHILD: 0.2, lidarseg.WORKER: 0.2, lidarseg.BUS: 0.7,
        lidarseg.BENDY_BUS: 0.3, lidarseg.BIN: 0.2, lidarseg.RACK: 0.1, SKY: 1.0,
    },
    least=120,
    closest=26,
    widest=(52, 110),
    read_size=448,
    classes=nuscenes_classes.WORDS["clip2scene"],
    to_class={
        number: nuscenes_classes.CLASSES.index(_STREET_CLASS.get(name, name))
        for number, name in _STREET_NAMES.items()
        if _STREET_CLASS.get(name, name) in nuscenes_classes.CLASSES
    },
)  # fmt: skip
SUBJECTS = {"rooms": ROOMS, "streets": STREETS}
