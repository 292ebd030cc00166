"""The only numba code. One switchboard for the compiler's options, so that every kernel has the same semantics."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """The function compiled, in numba's cache beside its own file.

    No fastmath and no contraction: the sets depend on the last bit of a weight. Single-threaded: the pipeline runs one
    process a scene, and numba's threading layers are not safe to mix with that.
    """
    compiled: Any = numba.njit(cache=True, fastmath=False, nogil=True, error_model="numpy")(function)
    return compiled
