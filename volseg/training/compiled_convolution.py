"""The loop of `volseg.training.fast_convolution`, compiled on first use and kept on disk.

What numba makes of loops over voxels and channels keeps sums in memory. Here a tile of them, some
input channels by 8 or 16 output channels, stays in registers from the first voxel to the last.
Values lie as `volseg.training.compiled_layers` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from volseg.compiled import compiled

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_BYTES = ir.Constant(_INDEX, 4)  # of a float
WIDE = binding.get_host_cpu_features().get("avx512f", False)  # has 32 registers of 16 floats


def _tile(inputs: int, outputs: int) -> Callable[..., Any]:
    """Return what adds sums of products, over voxels, of input channels and output channels.

    Args:
        inputs: Input channels of the tile.
        outputs: Output channels of the tile; a register has 4, 8 or 16 of them.
    """

    def add(_, x, step, row, g, g_step, g_row, rows, count, result, result_step):  # type: ignore[no-untyped-def]  # noqa: ARG001
        """Add ``x * g``, for each voxel of each row, to ``result``: addresses, steps in values."""

        def code(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
            x, step, row, g, g_step, g_row, rows, count, result, result_step = arguments
            vector = ir.VectorType(_FLOAT, outputs)
            multiply_add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fmuladd.v{outputs}f32",
            )

            def load(address, kind):  # type: ignore[no-untyped-def]
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)

            def moved(address, steps):  # type: ignore[no-untyped-def]
                return builder.add(address, builder.mul(steps, _BYTES))

            def spread(value):  # type: ignore[no-untyped-def]
                undefined = ir.Constant(vector, ir.Undefined)
                first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                everywhere = ir.Constant(ir.VectorType(ir.IntType(32), outputs), [0] * outputs)
                return builder.shuffle_vector(first, undefined, everywhere)

            sums = [cgutils.alloca_once(builder, vector) for _ in range(inputs)]
            for one in sums:
                builder.store(ir.Constant(vector, [0.0] * outputs), one)
            with cgutils.for_range(builder, rows) as line:
                at = moved(x, builder.mul(line.index, row))
                g_at = moved(g, builder.mul(line.index, g_row))
                with cgutils.for_range(builder, count) as voxel:
                    here = moved(at, builder.mul(voxel.index, step))
                    flow = load(moved(g_at, builder.mul(voxel.index, g_step)), vector)
                    for channel, one in enumerate(sums):
                        value = load(builder.add(here, ir.Constant(_INDEX, 4 * channel)), _FLOAT)
                        found = builder.call(multiply_add, [spread(value), flow, builder.load(one)])
                        builder.store(found, one)
            for channel, one in enumerate(sums):
                place = moved(result, builder.mul(result_step, ir.Constant(_INDEX, channel)))
                total = builder.fadd(load(place, vector), builder.load(one))
                builder.store(total, builder.inttoptr(place, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), code

    tile: Callable[..., Any] = intrinsic(add)
    return tile


_add_4_by_16, _add_8_by_16, _add_8_by_8 = _tile(4, 16), _tile(8, 16), _tile(8, 8)


@compiled
def add_products(  # type: ignore[no-untyped-def]
    values, sample, voxel, gradient, gradient_sample, gradient_voxel,
    planes, sides, taps, pieces, wide, first, last, sums,
):  # fmt: skip
    """Write sums of products of inputs, one tap away, and gradients of outputs.

    The `planes` of all samples along the first axis are dealt with in `pieces`; each unit of work,
    from `first` to before `last`, is a piece and a tap along the first two axes. `sums` is (pieces,
    *taps, inputs, outputs), zeros at first; numbers of channels are multiples of 8. `wide` says
    that a register has 16 values.
    """
    a_side, b_side, c_side = sides
    a_taps, b_taps, c_taps = taps
    inputs, outputs = sums.shape[4], sums.shape[5]
    together = max(1, 96 // c_side)  # rows that sums stay in registers for
    x_base, g_base, s_base = values.ctypes.data, gradient.ctypes.data, sums.ctypes.data
    x_row, g_row = c_side * voxel, c_side * gradient_voxel
    block = 8 if outputs % 16 or wide else 4
    width = 8 if outputs % 16 else 16
    for unit in range(first, last):
        piece, tap = unit // (a_taps * b_taps), unit % (a_taps * b_taps)
        a_tap, b_tap = tap // b_taps, tap % b_taps
        a_shift, b_shift = a_tap - a_taps // 2, b_tap - b_taps // 2
        b_start, b_stop = max(0, -b_shift), b_side - max(0, b_shift)
        for plane in range(planes * piece // pieces, planes * (piece + 1) // pieces):
            n, a = plane // a_side, plane % a_side
            if not 0 <= a + a_shift < a_side:
                continue
            for b in range(b_start, b_stop, together):
                rows = min(together, b_stop - b)
                g_start = n * gradient_sample + (a * b_side + b) * g_row
                x_start = n * sample + ((a + a_shift) * b_side + b + b_shift) * x_row
                for c_tap in range(c_taps):
                    c_shift = c_tap - c_taps // 2
                    c_start = max(0, -c_shift)
                    count = c_side - abs(c_shift)
                    g = g_base + 4 * (g_start + c_start * gradient_voxel)
                    x = x_base + 4 * (x_start + (c_start + c_shift) * voxel)
                    s = s_base + 4 * ((unit * c_taps + c_tap) * inputs * outputs)
                    for i in range(0, inputs, block):
                        for o in range(0, outputs, width):
                            here, flow = x + 4 * i, g + 4 * o
                            total = s + 4 * (i * outputs + o)
                            if width == 8:
                                _add_8_by_8(
                                    here, voxel, x_row, flow, gradient_voxel, g_row,
                                    rows, count, total, outputs,
                                )  # fmt: skip
                            elif block == 8:
                                _add_8_by_16(
                                    here, voxel, x_row, flow, gradient_voxel, g_row,
                                    rows, count, total, outputs,
                                )  # fmt: skip
                            else:
                                _add_4_by_16(
                                    here, voxel, x_row, flow, gradient_voxel, g_row,
                                    rows, count, total, outputs,
                                )  # fmt: skip
