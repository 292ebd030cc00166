"""The only numba code. One switchboard for the compiler's options, so that every kernel has the same semantics."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """The function compiled, in numba's cache beside its own file.

    No fastmath and no contraction: the sets depend on the last bit of a weight. Single-threaded: the pipeline runs one
    process a scene, and numba's threading layers are not safe to mix with that.
    """
    options: dict[str, Any] = {"fastmath": False, "error_model": "numpy", "no_cfunc_wrapper": True}
    compiled: Any = numba.njit(cache=True, nogil=True, **options)(function)
    return compiled


@intrinsic
def lowest_bit(typing: Any, word: Any) -> Any:
    """The place of the lowest bit that is set in a word u8, which must not be 0: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def set_bits(typing: Any, word: Any) -> Any:
    """How many bits are set in a word u8: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate
