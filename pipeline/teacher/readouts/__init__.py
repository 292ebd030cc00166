"""Dense read-outs: what stands in for the attention of CLIP's last block, so that every patch has a feature.

Each is one file with a function `read`; listing it here gives it the name that `--dense` takes.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from hicl.errors import HiclError

if TYPE_CHECKING:  # the command line lists the names, and torch takes seconds
    import torch

    Tokens = torch.Tensor  # float32 [B, L, D]
    ReadOut = Callable[[Tokens, Tokens, Tokens, int], Tokens]

READ_OUTS = {"maskclip": "maskclip", "kk": "key_key", "qq": "query_query"}


def load(name: str) -> "ReadOut":
    """(q, k, v, number of heads) to what the last block's output projection gets. Raises `HiclError`."""
    if name not in READ_OUTS:
        raise HiclError(f"--dense {name}: unknown; known are {', '.join(READ_OUTS)}")
    return importlib.import_module(f"{__name__}.{READ_OUTS[name]}").read
