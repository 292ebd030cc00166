"""Photographs with captions, as a web crawl would bring them: what the miniature's teachers learn from.

A photographer in scenes of the teachers' own seeds aims at a thing, takes more or less of what is round it, and writes
a line that names the thing, sometimes two or three things, sometimes only another one, sometimes nothing. The
generator knows where things are, and uses it to aim and to know what is in the picture. A caption is made of names
alone: no pixel's label, box or mask ever reaches it or the model.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hicl.pipeline.miniature.subjects import Frames, Subject
from hicl.pipeline.teacher.prompts import fill_templates

_MAIN_SHARE, _OTHER_SHARE = 0.3, 0.15  # of the picture; what is smaller goes unnoticed


class Photographer:
    """Draws (picture, names) pairs from frames; every class is aimed at about equally often."""

    def __init__(self, frames: Sequence[Frames], side: int, subject: Subject):
        self._picture = np.concatenate([f.picture for f in frames])
        self._thing = np.concatenate([f.thing for f in frames])
        self._side = side
        self.subject = subject
        counts = np.stack([np.bincount(t.ravel(), minlength=41) for t in self._thing])
        self._area = counts
        self._where = {i: np.nonzero(counts[:, i] >= subject.least)[0] for i in subject.names}
        self._ids = np.array([i for i in subject.names if len(self._where[i])])
        share = np.array([subject.appeal.get(i, 1.0) for i in self._ids])
        self._share = share / share.sum()

    def shot(self, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """A picture uint8 [side, side, 3] and the names of what is in it, the thing aimed at first."""
        subject = self.subject
        names = subject.names
        while True:
            aim = int(rng.choice(self._ids, p=self._share))
            frame = int(rng.choice(self._where[aim]))
            thing = self._thing[frame]
            height, width = thing.shape
            # Close-ups as well as whole things: a part of a chair has to be known as one.
            side = np.sqrt(self._area[frame, aim]) * rng.uniform(0.35, 1.2)
            side = int(np.clip(side, subject.closest, rng.uniform(*subject.widest)))
            rows, cols = np.nonzero(thing == aim)
            pick = rng.integers(len(rows))
            top = int(np.clip(rows[pick] - side * rng.uniform(0.25, 0.75), 0, height - side))
            left = int(np.clip(cols[pick] - side * rng.uniform(0.25, 0.75), 0, width - side))
            share = np.bincount(thing[top : top + side, left : left + side].ravel(), minlength=41) / side**2
            if share[aim] >= (0.4 if names[aim] in subject.background else _MAIN_SHARE):
                break
        others = [i for i in np.argsort(-share) if i != aim and i in names and share[i] >= _OTHER_SHARE]
        cut = np.ascontiguousarray(self._picture[frame, top : top + side, left : left + side])
        picture = np.asarray(Image.fromarray(cut).resize((self._side,) * 2, Image.Resampling.BILINEAR))
        return picture[:, ::-1] if rng.random() < 0.5 else picture, [names[i] for i in (aim, *others)]


def caption(rng: np.random.Generator, names: Sequence[str], subject: Subject) -> tuple[str, frozenset[str]]:
    """A caption for a picture in which these things are seen, the main one first, and the names it uses."""
    main, *others = names
    others = [o for o in others if o not in subject.background or rng.random() < 0.5]
    roll = rng.random()
    if roll < 0.03:
        return str(rng.choice(subject.nothing)), frozenset()
    if roll < 0.07 and others:
        main, others = others[0], []
    if roll < 0.85 or not others:
        used, forms = [main], tuple(fill_templates("{}"))
    elif len(others) > 1 and rng.random() < 0.4:
        used, forms = [main, *others[:2]], subject.three
    else:
        used, forms = [main, others[0]], subject.two
    form = forms[int(rng.integers(len(forms)))]
    words = [str(rng.choice(subject.synonyms.get(name, (name,)))) for name in used]
    return form.format(*words), frozenset(used)
