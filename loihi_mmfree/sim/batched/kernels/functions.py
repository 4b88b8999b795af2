"""Operations of neuron programs that are more than an operator, for generated Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS, _ROWS, _BYTES = 16, 32, 256
"""Of a tile of `multiply_planes`: the fastest of those tried on an H200."""


@triton.jit
def rounding_shift(a, n):
    """Return `arithmetic.rounding_shift`; both of one type."""
    return (a + ((tl.full((), 1, a.dtype) << n) >> 1)) >> n


@triton.jit
def saturate(a, bits):
    """Return `arithmetic.saturate`."""
    limit = (tl.full((), 1, a.dtype) << (bits - 1)) - 1
    return tl.minimum(tl.maximum(a, -limit), limit)


@triton.jit
def low_bits(a, n):
    """Return a mod 2**n."""
    return a & ((tl.full((), 1, a.dtype) << n) - 1)


@triton.jit
def lerp(w, a, b, n):
    """Return `arithmetic.lerp`."""
    return rounding_shift(w * a + ((tl.full((), 1, a.dtype) << n) - w) * b, n)


@triton.jit
def even_exponent(a, n):
    """Return `arithmetic.even_exponent` of int64."""
    # The bit below the highest is cleared, so that float64 cannot round up; its exponent is then the highest bit.
    length = (((a & ~(a >> 1)).to(tl.float64).to(tl.int64, bitcast=True) >> 52) & 2047) - 1022
    excess = length - n
    return tl.where(a > 0, excess + (excess & 1), 0)


@triton.jit
def mantissa(a, n):
    """Return `arithmetic.mantissa` of int64."""
    exponent = even_exponent(a, n)
    shifted = rounding_shift(a << tl.maximum(-exponent, 0), tl.maximum(exponent, 0))
    return tl.minimum(shifted, (tl.full((), 1, a.dtype) << n) - 1)


@triton.jit
def outside(a, bits):
    """Whether a value is beyond +-(2**(bits-1) - 1)."""
    limit = (tl.full((), 1, tl.int64) << (bits - 1)) - 1
    return (a > limit) | (a < -limit)


@triton.jit
def overflows(a, bits):
    """Whether a value does not fit a signed integer of `bits` bits."""
    limit = tl.full((), 1, tl.int64) << (bits - 1)
    return (a >= limit) | (a < -limit)


@triton.jit
def _unpack(
    planes,
    weights,
    columns,
    plane_bytes,
    bytes_together: tl.constexpr,
):
    """Write the weights [rows, 4 * plane_bytes] of planes [rows, plane_bytes], a row in each program."""
    row = tl.program_id(0).to(tl.int64)
    byte = tl.program_id(1) * bytes_together + tl.arange(0, bytes_together)
    codes = tl.load(planes + row * plane_bytes + byte, mask=byte < plane_bytes, other=0)
    for plane in tl.static_range(4):
        column = plane * plane_bytes + byte
        weight = ((codes >> (2 * plane)) & 3).to(weights.dtype.element_ty) - 1
        tl.store(weights + row * 4 * plane_bytes + column, weight, mask=(byte < plane_bytes) & (column < columns))


def unpack_planes(planes: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Return the weights [matrices, rows, columns] of `products.planes_of` [matrices, rows, bytes]."""
    matrices, rows, plane_bytes = planes.shape
    weights = torch.empty((matrices, rows, 4 * plane_bytes), dtype=dtype, device=planes.device)
    together = min(1024, max(16, triton.next_power_of_2(plane_bytes)))
    grid = (matrices * rows, triton.cdiv(plane_bytes, together))
    _unpack[grid](planes, weights, columns, plane_bytes, bytes_together=together, num_warps=2)
    return weights[..., :columns]


@triton.jit
def _multiply_planes(
    values,
    planes,
    sums,
    tokens,
    columns,
    rows,
    value_stride,
    token_stride,
    plane_bytes,
    tokens_together: tl.constexpr,
    rows_together: tl.constexpr,
    bytes_together: tl.constexpr,
):
    """Multiply values [matrices, tokens, columns] with planes [matrices, rows, plane_bytes]."""
    row = tl.program_id(0) * rows_together + tl.arange(0, rows_together)
    token = tl.program_id(1) * tokens_together + tl.arange(0, tokens_together)
    matrix = tl.program_id(2).to(tl.int64)
    values += matrix * value_stride
    planes += matrix * rows * plane_bytes
    sums += matrix * tokens * rows
    total = tl.zeros([tokens_together, rows_together], tl.float32)
    for first in range(0, plane_bytes, bytes_together):
        byte = first + tl.arange(0, bytes_together)
        inside = (byte[:, None] < plane_bytes) & (row[None, :] < rows)
        codes = tl.load(planes + row[None, :].to(tl.int64) * plane_bytes + byte[:, None], mask=inside, other=0)
        for plane in tl.static_range(4):
            column = plane * plane_bytes + byte
            known = (token[:, None] < tokens) & (byte[None, :] < plane_bytes) & (column[None, :] < columns)
            where = token[:, None].to(tl.int64) * token_stride + column[None, :]
            digit = tl.load(values + where, mask=known, other=0)
            weight = ((codes >> (2 * plane)) & 3).to(digit.dtype) - 1
            total = tl.dot(digit, weight, total, input_precision="ieee")
    where = token[:, None].to(tl.int64) * rows + row[None, :]
    tl.store(sums + where, total, mask=(token[:, None] < tokens) & (row[None, :] < rows))


def multiply_planes(values: Tensor, planes: Tensor) -> Tensor:
    """Return the sums of one digit with weights that stay packed, for few tokens.

    Exact as `products.multiply` is.

    Parameters
    ----------
    values : tensor [matrices, N, columns]
        Neighbouring columns lie beside each other.
    planes : uint8 tensor [matrices, rows, bytes]
        See `products.planes_of`.

    Returns
    -------
    float32 tensor [matrices, N, rows]
    """
    matrices, tokens, columns = values.shape
    rows, plane_bytes = planes.shape[1:]
    sums = torch.empty((matrices, tokens, rows), dtype=torch.float32, device=values.device)
    grid = (triton.cdiv(rows, _ROWS), triton.cdiv(tokens, _TOKENS), matrices)
    _multiply_planes[grid](
        values, planes, sums, tokens, columns, rows, values.stride(0), values.stride(1), plane_bytes,
        tokens_together=_TOKENS, rows_together=_ROWS, bytes_together=_BYTES, num_warps=4, num_stages=1,
    )  # fmt: skip
    return sums
