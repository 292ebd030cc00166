"""The innermost steps of sparse convolution, written for numba in LLVM's own vectors.

A loop in Python keeps its sums in memory, where every product waits for a load and a store. Here the sums of a tile,
some rows of 16 columns each, stay in the processor's registers until all is added: twice to four times as fast.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

COLUMNS = 16  # of a tile: a register of AVX-512, two of AVX2
_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, COLUMNS)
_BYTES = 4


def product_tile(rows: int, side_by_side: int = 1) -> Any:
    """A function (x, channels, weight, out) for kernels: out[r] += x[r] @ weight for each of `rows` rows, in some tiles
    side by side.

    All are addresses of float32: x, out: tuples of `rows`, of [channels] and [side_by_side · COLUMNS]. weight: of
    [side_by_side, channels, COLUMNS].
    """

    @intrinsic
    def tile(_, x, channels, weight, out):
        rows_of = types.UniTuple(types.int64, rows)

        def generate(context, builder, __, arguments):
            x, channels, weight, out = arguments
            x, out = cgutils.unpack_tuple(builder, x), cgutils.unpack_tuple(builder, out)
            tile_bytes = builder.mul(channels, _int(COLUMNS * _BYTES))
            weights = [builder.add(weight, builder.mul(tile_bytes, _int(tile))) for tile in range(side_by_side)]

            def step(i, sums):
                rows_of_weight = [_load(builder, _at(builder, each, i, COLUMNS * _BYTES), _VECTOR) for each in weights]
                values = [_load(builder, _at(builder, each, i, _BYTES), _FLOAT) for each in x]
                return _add_products(builder, sums, values, rows_of_weight)

            _accumulate(builder, channels, _beside(builder, out, side_by_side), step)
            return context.get_dummy_value()

        return types.void(rows_of, types.int64, types.int64, rows_of), generate

    return tile


def outer_tile(rows: int, side_by_side: int = 1) -> Any:
    """A function (x, x_rows, x_bytes, y, y_rows, y_bytes, n, out, out_bytes) for kernels: out[r, :] += Σ over p < n of
    x[x_rows[p], r] y[y_rows[p], :], for `rows` values of r and the columns of some tiles side by side.

    All but n and the distances of rows in bytes are addresses: x, y, out of float32, x_rows, y_rows of int32 [n].
    """

    @intrinsic
    def tile(_, x, x_rows, x_bytes, y, y_rows, y_bytes, n, out, out_bytes):
        def generate(context, builder, __, arguments):
            x, x_rows, x_bytes, y, y_rows, y_bytes, n, out, out_bytes = arguments

            def row(first, numbers, size, p):
                number = _load(builder, _at(builder, numbers, p, _BYTES), _INT32)
                return builder.add(first, builder.mul(builder.sext(number, _INT64), size))

            def step(p, sums):
                from_y = _beside(builder, [row(y, y_rows, y_bytes, p)], side_by_side)
                from_x = row(x, x_rows, x_bytes, p)
                values = [_load(builder, builder.add(from_x, _int(r * _BYTES)), _FLOAT) for r in range(rows)]
                return _add_products(builder, sums, values, [_load(builder, each, _VECTOR) for each in from_y])

            outs = [builder.add(out, builder.mul(out_bytes, _int(r))) for r in range(rows)]
            _accumulate(builder, n, _beside(builder, outs, side_by_side), step)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return tile


def _accumulate(builder: Any, count: Any, out: list, step: Callable[[Any, list], list]) -> None:
    """The vectors at the addresses `out`, after `step(i, vectors)` for every i < count."""
    starts = [_load(builder, address, _VECTOR) for address in out]
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed(">", count, _int(0)), loop, after)
    builder.position_at_end(loop)
    i, sums = builder.phi(_INT64), [builder.phi(_VECTOR) for _ in out]
    added = step(i, sums)
    following = builder.add(i, _int(1))
    for phi, start, value in zip([i, *sums], [_int(0), *starts], [following, *added], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    totals = [builder.phi(_VECTOR) for _ in out]
    for total, start, value in zip(totals, starts, added, strict=True):
        total.add_incoming(start, before)
        total.add_incoming(value, loop)
    for address, total in zip(out, totals, strict=True):
        builder.store(total, builder.inttoptr(address, _VECTOR.as_pointer()), align=_BYTES)


def _int(value: int) -> Any:
    return ir.Constant(_INT64, value)


def _at(builder: Any, address: Any, i: Any, size: int) -> Any:
    return builder.add(address, builder.mul(i, _int(size)))


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=_BYTES)


def _beside(builder: Any, addresses: list, side_by_side: int) -> list:
    """Of each address, its tile's and those of the tiles to the right."""
    return [builder.add(each, _int(tile * COLUMNS * _BYTES)) for each in addresses for tile in range(side_by_side)]


def _add_products(builder: Any, totals: list, values: list, vectors: list) -> list:
    """Totals, of each value those of all vectors, with each product of a value and a vector added."""
    pairs = [(value, vector) for value in values for vector in vectors]
    return [_add_product(builder, total, *pair) for total, pair in zip(totals, pairs, strict=True)]


def _add_product(builder: Any, total: Any, value: Any, vector: Any) -> Any:
    """total + value · vector, with one rounding where the processor can."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT32, 0))
    everywhere = ir.Constant(ir.VectorType(_INT32, COLUMNS), [0] * COLUMNS)
    spread = builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), everywhere)
    return builder.fadd(builder.fmul(spread, vector, flags=("contract",)), total, flags=("contract",))
