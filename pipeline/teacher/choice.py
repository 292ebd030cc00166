"""Which teacher to use. Apart from `clip`, so that deciding what is up to date doesn't cost an import of torch."""

import hashlib
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hicl.errors import HiclError

# The small teachers that come with the miniature's rooms and streets, each by one name for its config and its weights.
MINIATURE, STREET = "hicl-miniature", "hicl-street"
OWN = (MINIATURE, STREET)
_HASH = re.compile("[0-9a-f]{64}")
_MINIATURE_FOLDER = Path(__file__).parent.parent / "miniature" / "teacher"


@dataclass(frozen=True)
class TeacherConfig:
    """clip: an open_clip model name, or the path of an open_clip model config (.json). weights: a tag that open_clip
    knows for it, or the path of a .safetensors or .pt file. short_side: pixels that the shorter image side is resized
    to (None: the model's own training size), rounded to whole patches. window, window_stride: pixels of the parts that
    an image is read in, and from one to the next (None: images are read whole; half a window). key_smoothing:
    MaskCLIP's. trained_as: the tag, or MODEL:TAG, whose images a file's weights were trained with. resize: "shortest"
    or "squash", see `preprocessing.Preprocessing`; None: as the weights were trained. templates: "all", each name in
    the 85 sentences of `prompts`, or "none", names as they are.
    """

    clip: str = "ViT-B-16-quickgelu"
    weights: str = "openai"
    dense: str = "maskclip"
    short_side: int | None = None
    window: int | None = None
    window_stride: int | None = None
    key_smoothing: bool = False
    trained_as: str | None = None
    resize: str | None = None
    templates: str = "all"

    @property
    def model_config(self) -> Path | None:
        """The open_clip model config that `clip` names, or None where open_clip knows the model by name."""
        if self.clip in OWN:
            return _MINIATURE_FOLDER / f"{self.clip}.json"
        return Path(self.clip) if self.clip.endswith(".json") else None

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names, or None where it is a tag that open_clip downloads."""
        if self.weights in OWN:
            return _MINIATURE_FOLDER / f"{self.weights}.safetensors"
        path = Path(self.weights)
        return path if path.suffix in (".safetensors", ".pt", ".pth", ".bin") or path.is_file() else None

    def absolute(self) -> "TeacherConfig":
        """The same with its files named for workers in other folders."""
        clip, weights = self.clip, self.weights
        if self.clip not in OWN and self.model_config:
            clip = str(self.model_config.absolute())
        if self.weights not in OWN and self.weights_file:
            weights = str(self.weights_file.absolute())
        return replace(self, clip=clip, weights=weights)

    def identity(self) -> dict:
        """What determines the teacher's output, for a fingerprint; cheap, without loading the model."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = {field.name: field.default for field in fields(self)}
        found = {key: value for key, value in values.items() if key in _ALWAYS or value != usual[key]}
        if self.model_config:
            found["clip"] = _content(self.model_config)
        if self.weights_file:
            found["weights"] = _content(self.weights_file)
        return found


# The fields that every identity has; what was added since is only in those where it isn't at its default.
_ALWAYS = ("clip", "weights", "dense", "short_side")


def of_images(identity: dict | None) -> dict | None:
    """What of an identity determines how images are read."""
    return identity and {key: value for key, value in identity.items() if key != "templates"}


def with_templates(identity: dict, templates: str) -> dict:
    """The same teacher, asked with other sentences."""
    return (of_images(identity) or {}) | ({"templates": templates} if templates != TeacherConfig.templates else {})


def same_teacher(
    identity: dict | None, where: str, clip: str | None = None, weights: str | None = None
) -> TeacherConfig:
    """The teacher whose text space a cache or a model lives in, to embed other words with.

    identity: what `TeacherConfig.identity` was when it was made, None where labels came from images. clip, weights: to
    be given where the teacher came from files, of which only the content is known.

    Raises `HiclError` where there is no such teacher, it needs its files named, or the ones named are others.
    """
    if identity is None:
        raise HiclError(f"{where}: its labels came from images, not from words, so there is no text space to prompt in")
    about = {field.name: identity[field.name] for field in fields(TeacherConfig) if field.name in identity}
    kinds: dict[str, Any] = {field.name: field.type for field in fields(TeacherConfig)}
    names = [about.get(key) for key in ("clip", "weights", "dense")]
    named = all(isinstance(name, str) and name and "/" not in name for name in names)
    if not named or not all(
        isinstance(value, kinds[key]) and (isinstance(value, bool) == (kinds[key] is bool))
        for key, value in about.items()
    ):
        raise HiclError(f"{where}: its teacher is described otherwise than hicl does; it is damaged")
    known = {key: identity[key] for key in ("clip", "weights")}
    found = replace(TeacherConfig(**about), clip=clip or known["clip"], weights=weights or known["weights"])
    if clip is None and weights is None:
        for name in OWN:
            own = replace(found, clip=name, weights=name)
            if known == _model_of(own):
                return own
    if _HASH.fullmatch(found.clip) or _HASH.fullmatch(found.weights):
        raise HiclError(f"{where}: its teacher came from a file; name it again by --clip and --weights")
    if _model_of(found) != known:
        raise HiclError(
            f"{where}: lives in the text space of another teacher than --clip {found.clip} --weights "
            f"{found.weights}; give the one it was made with ({known['clip']:.24}, {known['weights']:.24})"
        )
    return found


def _model_of(config: TeacherConfig) -> dict:
    identity = config.identity()
    return {key: identity[key] for key in ("clip", "weights")}


def _content(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
