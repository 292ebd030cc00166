"""Dense read-outs: what stands in for CLIP's last block, so that every patch has a feature.

Each is one file with a function `read`; listing it here gives it the name that `--dense` takes. One that reads the
tokens of earlier blocks too says `LEAST_BLOCKS = 2`.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from hicl.errors import HiclError
from hicl.pipeline.teacher.readouts.seen import Seen

if TYPE_CHECKING:  # the command line lists the names, and torch takes seconds
    import torch

    ReadOut = Callable[[Seen], torch.Tensor]

READ_OUTS = {
    "maskclip": "maskclip",
    "sclip": "sclip",
    "clearclip": "clearclip",
    "naclip": "naclip",
    "resclip": "resclip",
    "scclip": "scclip",
    "kk": "key_key",
    "qq": "query_query",
}


def load(name: str, blocks: int, model: str) -> "ReadOut":
    """What makes patch tokens [B, rows · columns, D], ready for the final norm and projection, of what a tower made of
    images. Raises `HiclError` for an unknown name, or for one that a tower of so many blocks can't do.

    model: the tower's name, for the message.
    """
    if name not in READ_OUTS:
        raise HiclError(f"--dense {name}: unknown; known are {', '.join(READ_OUTS)}")
    module = importlib.import_module(f"{__name__}.{READ_OUTS[name]}")
    if blocks < getattr(module, "LEAST_BLOCKS", 1):
        raise HiclError(f"--dense {name}: reads blocks before the last, and {model} has none; use --dense maskclip")
    return module.read
