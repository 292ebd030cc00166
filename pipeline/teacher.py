"""Which teacher to use. Apart from `maskclip`, so that deciding what is up to date doesn't cost an import of torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hicl.errors import HiclError

# The small teacher that comes with the miniature, by one name for its model config and its weights.
MINIATURE = "hicl-miniature"
_MINIATURE_FOLDER = Path(__file__).parent / "miniature" / "teacher"


@dataclass(frozen=True)
class TeacherConfig:
    """clip: an open_clip model name, or the path of an open_clip model config (.json). weights: a tag that open_clip
    knows for it, or the path of a .safetensors or .pt file. short_side: pixels that the shorter image side is resized
    to (None: the model's own training size), rounded to whole patches."""

    clip: str = "ViT-B-16-quickgelu"
    weights: str = "openai"
    dense: str = "maskclip"
    short_side: int | None = None

    @property
    def model_config(self) -> Path | None:
        """The open_clip model config that `clip` names, or None where open_clip knows the model by name."""
        if self.clip == MINIATURE:
            return _MINIATURE_FOLDER / f"{MINIATURE}.json"
        return Path(self.clip) if self.clip.endswith(".json") else None

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names, or None where it is a tag that open_clip downloads."""
        if self.weights == MINIATURE:
            return _MINIATURE_FOLDER / f"{MINIATURE}.safetensors"
        path = Path(self.weights)
        return path if path.suffix in (".safetensors", ".pt", ".pth", ".bin") or path.is_file() else None

    def identity(self) -> dict:
        """What determines the teacher's output, for a fingerprint; cheap, without loading the model."""
        return {
            "clip": _content(self.model_config) if self.model_config else self.clip,
            "weights": _content(self.weights_file) if self.weights_file else self.weights,
            "dense": self.dense,
            "short_side": self.short_side,
        }


def _content(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HiclError(f"{path}: can't be read ({error.strerror})") from None
