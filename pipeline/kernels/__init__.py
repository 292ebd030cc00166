"""The only numba code. One switchboard for the compiler's options, so that every kernel has the same semantics."""

from functools import partial

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# No fastmath and no contraction: the sets depend on the last bit of a weight. Single-threaded: the pipeline runs one
# process a scene, and numba's threading layers are not safe to mix with that.
kernel = partial(numba.njit, cache=True, fastmath=False, nogil=True, error_model="numpy", no_cfunc_wrapper=True)


@intrinsic
def lowest_bit(typing, word):
    """The place of the lowest bit that is set in a word u8, which must not be 0: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def set_bits(typing, word):
    """How many bits are set in a word u8: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate
