"""Photographs with captions, as a web crawl would bring them: what the miniature's teacher learns from.

A photographer in rooms of the teacher's own seeds aims at a thing, takes more or less of what is round it, and writes
a line that names the thing, sometimes two or three things, sometimes only another one, sometimes nothing. The
generator knows where things are, and uses it to aim and to know what is in the picture. A caption is made of names
alone: no pixel's label, box or mask ever reaches it or the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hicl.pipeline.miniature import mesh
from hicl.pipeline.miniature.render import draw_light, look, photograph
from hicl.pipeline.miniature.rooms import build_room
from hicl.pipeline.miniature.solids import pack
from hicl.pipeline.miniature.walk import draw_cameras, walk
from hicl.pipeline.teacher.prompts import fill_templates

# What people call what they photograph, by NYU40 id: ScanNet's 20 classes, then things that are none of them.
NAMES = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator", 28: "shower curtain",
    33: "toilet", 34: "sink", 36: "bathtub", 39: "other furniture",
    13: "blinds", 15: "shelves", 18: "pillow", 19: "mirror", 21: "clothes", 22: "ceiling", 23: "books",
    25: "television", 27: "towel", 29: "box", 30: "whiteboard", 32: "night stand", 35: "lamp", 37: "bag",
}  # fmt: skip
_SYNONYMS = {
    "sofa": ("sofa", "sofa", "couch"),
    "refrigerator": ("refrigerator", "refrigerator", "fridge"),
    "other furniture": ("other furniture", "other furniture", "furniture", "piece of furniture"),
    "picture": ("picture", "picture", "painting"),
    "bookshelf": ("bookshelf", "bookshelf", "bookcase"),
}
_TWO = ("a {} and a {}", "a {} next to a {}", "a room with a {} and a {}", "a {} in front of a {}")
_THREE = ("a {}, a {} and a {}", "a room with a {}, a {} and a {}")
_NOTHING = ("a photo of a room", "inside our house", "a nice place", "home", "an interior", "a picture from today")
_BACKGROUND = ("wall", "floor", "ceiling")
_MAIN_SHARE, _OTHER_SHARE = 0.3, 0.15  # of the picture; what is smaller goes unnoticed
_MIN_PIXELS = 250


@dataclass(frozen=True)
class Frames:
    """Frames of one room. picture: uint8 [F, H, W, 3]; thing: uint8 [F, H, W] NYU40 ids."""

    picture: np.ndarray
    thing: np.ndarray


def shoot(seed: int, index: int, count: int) -> Frames:
    """Walk through a room and take `count` frames."""
    room = build_room(seed, index)
    solids = pack(room.solids)
    field = mesh.distance_field(room, solids)
    rng = np.random.default_rng([4, seed, index])
    light = draw_light(rng, room)
    camera, _ = draw_cameras(rng)
    views = [look(solids, field, light, camera, pose) for pose in walk(rng, room, solids, count)]
    label = np.append(solids.label, 0).astype(np.uint8)  # solid -1: nothing
    return Frames(np.stack([photograph(rng, v.color) for v in views]), np.stack([label[v.solid] for v in views]))


class Photographer:
    """Draws (picture, names) pairs from frames; every class is aimed at about equally often."""

    def __init__(self, frames: Sequence[Frames], side: int):
        self._picture = np.concatenate([f.picture for f in frames])
        self._thing = np.concatenate([f.thing for f in frames])
        self._side = side
        counts = np.stack([np.bincount(t.ravel(), minlength=41) for t in self._thing])
        self._area = counts
        self._where = {i: np.nonzero(counts[:, i] >= _MIN_PIXELS)[0] for i in NAMES}
        weight = {i: (5.0 if i == 1 else 3.0 if i == 2 else 1.0 if i in _CLASSES else 0.25) for i in NAMES}
        self._ids = np.array([i for i in NAMES if len(self._where[i])])
        share = np.array([weight[i] for i in self._ids])
        self._share = share / share.sum()

    def shot(self, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """A picture uint8 [side, side, 3] and the names of what is in it, the thing aimed at first."""
        while True:
            aim = int(rng.choice(self._ids, p=self._share))
            frame = int(rng.choice(self._where[aim]))
            thing = self._thing[frame]
            height, width = thing.shape
            # Close-ups as well as whole things: a part of a chair has to be known as one.
            side = np.sqrt(self._area[frame, aim]) * rng.uniform(0.35, 1.2)
            side = int(np.clip(side, 36, rng.uniform(72, 150)))
            rows, cols = np.nonzero(thing == aim)
            pick = rng.integers(len(rows))
            top = int(np.clip(rows[pick] - side * rng.uniform(0.25, 0.75), 0, height - side))
            left = int(np.clip(cols[pick] - side * rng.uniform(0.25, 0.75), 0, width - side))
            share = np.bincount(thing[top : top + side, left : left + side].ravel(), minlength=41) / side**2
            if share[aim] >= (0.4 if NAMES[aim] in _BACKGROUND else _MAIN_SHARE):
                break
        others = [i for i in np.argsort(-share) if i != aim and i in NAMES and share[i] >= _OTHER_SHARE]
        cut = np.ascontiguousarray(self._picture[frame, top : top + side, left : left + side])
        picture = np.asarray(Image.fromarray(cut).resize((self._side,) * 2, Image.Resampling.BILINEAR))
        return picture[:, ::-1] if rng.random() < 0.5 else picture, [NAMES[i] for i in (aim, *others)]


_CLASSES = frozenset([*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39])


def caption(rng: np.random.Generator, names: Sequence[str]) -> tuple[str, frozenset[str]]:
    """A caption for a picture in which these things are seen, the main one first, and the names it uses."""
    main, *others = names
    others = [o for o in others if o not in _BACKGROUND or rng.random() < 0.5]
    roll = rng.random()
    if roll < 0.03:
        return str(rng.choice(_NOTHING)), frozenset()
    if roll < 0.07 and others:
        main, others = others[0], []
    if roll < 0.85 or not others:
        used, forms = [main], tuple(fill_templates("{}"))
    elif len(others) > 1 and rng.random() < 0.4:
        used, forms = [main, *others[:2]], _THREE
    else:
        used, forms = [main, others[0]], _TWO
    form = forms[int(rng.integers(len(forms)))]
    words = [str(rng.choice(_SYNONYMS.get(name, (name,)))) for name in used]
    return form.format(*words), frozenset(used)
