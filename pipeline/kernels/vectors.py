"""Comparisons of many numbers at once, written for kernels in LLVM's own vectors.

Numba's loops don't become these: what a comparison says of each number is there a byte or a word, and here a bit.
"""

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, EIGHT = 16, 8
AVX512 = bool(get_host_cpu_features().get("avx512f"))
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def at_most(_: Any, values: Any, at: Any, bound: Any) -> Any:
    """u8: a bit for each of the 64 numbers values f8 [at:at + 64], the first in the lowest: whether it is at most f8
    `bound`. NaN isn't."""

    def generate(context, builder, signature, arguments):
        values, at, bound = arguments
        vector = _load(context, builder, signature.args[0], values, at, ir.VectorType(ir.DoubleType(), 64))
        return builder.bitcast(builder.fcmp_ordered("<=", vector, _spread(builder, bound, 64)), _INT64)

    return types.uint64(values, types.int64, types.float64), generate


@intrinsic
def marked(_: Any, values: Any, at: Any) -> Any:
    """u8: a bit for each of the 64 values u1 [at:at + 64], the first in the lowest: whether it isn't 0."""

    def generate(context, builder, signature, arguments):
        vector = _load(context, builder, signature.args[0], *arguments, ir.VectorType(ir.IntType(8), 64))
        return builder.bitcast(builder.icmp_unsigned("!=", vector, ir.Constant(vector.type, None)), _INT64)

    return types.uint64(values, types.int64), generate


@intrinsic
def differing(_: Any, values: Any, at: Any, other: Any) -> Any:
    """u8: a bit for each of 64 places, the first in the lowest: whether values u1 [at:at + 64] and [other:other + 64]
    differ there."""

    def generate(context, builder, signature, arguments):
        values, *places = arguments
        kind = ir.VectorType(ir.IntType(8), 64)
        one, two = (_load(context, builder, signature.args[0], values, place, kind) for place in places)
        return builder.bitcast(builder.icmp_unsigned("!=", one, two), _INT64)

    return types.uint64(values, types.int64, types.int64), generate


@intrinsic
def equal(_: Any, values: Any, at: Any, value: Any) -> Any:
    """u8: a bit for each of the 64 values u1 [at:at + 64], the first in the lowest: whether it is the value."""

    def generate(context, builder, signature, arguments):
        values, at, value = arguments
        vector = _load(context, builder, signature.args[0], values, at, ir.VectorType(ir.IntType(8), 64))
        return builder.bitcast(builder.icmp_unsigned("==", vector, _spread(builder, value, 64)), _INT64)

    return types.uint64(values, types.int64, types.uint8), generate


@intrinsic
def lesser(_: Any, values: Any, count: Any, at: Any, found: Any) -> Any:
    """Writes into found i4 [at:at + LANES], for each of values f4 there, how many of the first `count` are less."""

    def generate(context, builder, signature, arguments):
        values, count, at, found = arguments
        of_values, _, _, of_found = signature.args
        vector, counts = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_INT32, LANES)
        own = _load(context, builder, of_values, values, at, vector)
        total = cgutils.alloca_once_value(builder, ir.Constant(counts, None))
        with cgutils.for_range(builder, count) as loop:
            other = _load(context, builder, of_values, values, loop.index, ir.FloatType())
            less = builder.fcmp_ordered("<", _spread(builder, other, LANES), own)
            builder.store(builder.sub(builder.load(total), builder.sext(less, counts)), total)
        builder.store(builder.load(total), _pointer(context, builder, of_found, found, at, counts), align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, found), generate


@intrinsic
def list_marked(_: Any, marks: Any, first: Any, values: Any, point: Any, pixel: Any, m: Any) -> Any:
    """Writes the places from `first` on whose bits are set in the lowest LANES of u8 `marks`, and their values u4, side
    by side into point i4 and pixel u4 [m:m + LANES], of which what is too much gets anything. Needs AVX512."""

    def generate(context, builder, signature, arguments):
        marks, first, values, point, pixel, m = arguments
        _, _, of_values, of_point, of_pixel, _ = signature.args
        vector, mask = ir.VectorType(_INT32, LANES), ir.VectorType(ir.IntType(1), LANES)
        marks = builder.bitcast(builder.trunc(marks, ir.IntType(LANES)), mask)
        compress = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector, vector, mask]), "llvm.x86.avx512.mask.compress.v16i32"
        )
        from_first = _spread(builder, builder.trunc(first, _INT32), LANES)
        places = builder.add(from_first, ir.Constant(vector, list(range(LANES))))
        listed = _load(context, builder, of_values, values, first, vector)
        for kind, to, found in ((of_point, point, places), (of_pixel, pixel, listed)):
            found = builder.call(compress, [found, ir.Constant(vector, None), marks])
            builder.store(found, _pointer(context, builder, kind, to, m, vector), align=4)
        return context.get_dummy_value()

    return types.void(marks, types.int64, values, point, pixel, types.int64), generate


@intrinsic
def any_equal(_: Any, values: Any, row: Any, at: Any, value: Any) -> Any:
    """Whether one of values i4 [row, at:at + EIGHT] is the value."""

    def generate(context, builder, signature, arguments):
        values, row, at, value = arguments
        array = context.make_array(signature.args[0])(context, builder, values)
        columns = builder.extract_value(array.shape, 1)
        at = builder.add(builder.mul(builder.sext(row, _INT64), columns), at)
        vector = _load(context, builder, signature.args[0], values, at, ir.VectorType(_INT32, EIGHT))
        equal = builder.icmp_signed("==", vector, _spread(builder, value, EIGHT))
        return builder.icmp_unsigned("!=", builder.bitcast(equal, ir.IntType(EIGHT)), ir.Constant(ir.IntType(EIGHT), 0))

    return types.boolean(values, types.int64, types.int64, types.int32), generate


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, of: Any) -> Any:
    first = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(first, [at]), of.as_pointer())


def _load(context: Any, builder: Any, kind: Any, array: Any, at: Any, of: Any) -> Any:
    return builder.load(_pointer(context, builder, kind, array, at, of), align=kind.dtype.bitwidth // 8)


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of the value alone."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(_INT32, lanes), None))
