"""What every operation of the table means over PyTorch's int64 tensors: `fixedpoint.operations`, said once more.

It is the check of the generated kernels, and what runs where there is no GPU; tests hold it against the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def rounding_shift(value: Tensor, shift: int | Tensor) -> Tensor:
    """Return `arithmetic.rounding_shift`."""
    if isinstance(shift, int):
        return (value + ((1 << shift) >> 1)) >> shift
    half = torch.bitwise_left_shift(torch.ones_like(shift), shift) >> 1
    return (value + half) >> shift


def saturate(value: Tensor, bits: int) -> Tensor:
    """Return `arithmetic.saturate`."""
    limit = (1 << (bits - 1)) - 1
    return value.clamp(-limit, limit)


def lerp(weight: Tensor, at_one: Tensor, at_zero: Tensor, bits: int) -> Tensor:
    """Return `arithmetic.lerp`."""
    return rounding_shift(weight * at_one + ((1 << bits) - weight) * at_zero, bits)


def even_exponent(value: Tensor, bits: int) -> Tensor:
    """Return `arithmetic.even_exponent`."""
    # As there: the bit below the highest is cleared, so that float64 cannot round up to the next power of two.
    length = torch.frexp((value & ~(value >> 1)).to(torch.float64))[1].to(torch.int64)
    excess = length - bits
    return torch.where(value > 0, excess + (excess & 1), 0)


def mantissa(value: Tensor, bits: int) -> Tensor:
    """Return `arithmetic.mantissa`."""
    exponent = even_exponent(value, bits)
    shifted = rounding_shift(value << (-exponent).clamp(min=0), exponent.clamp(min=0))
    return shifted.clamp(max=(1 << bits) - 1)


RULES: Mapping[str, Callable[..., Tensor]] = {
    "input": lambda _, value: value,
    "state": lambda _, value: value,
    "constant": lambda _, value: value,
    "add": lambda _, a, b: a + b,
    "sub": lambda _, a, b: a - b,
    "mul": lambda _, a, b: a * b,
    "shift_left": lambda n, a: a << n,
    "shift_right": lambda n, a: rounding_shift(a, n),
    "shift_right_by": lambda _, a, d: rounding_shift(a, d),
    "high_bits": lambda n, a: a >> n,
    "low_bits": lambda n, a: a & ((1 << n) - 1),
    "absolute": lambda _, a: a.abs(),
    "min": lambda _, a, b: torch.minimum(a, b),
    "max": lambda _, a, b: torch.maximum(a, b),
    "saturate": lambda n, a: saturate(a, n),
    "select": lambda _, a, b, c: torch.where(a >= 0, b, c),
    "lerp": lambda n, w, a, b: lerp(w, a, b, n),
    "exponent": lambda n, a: even_exponent(a, n),
    "mantissa": lambda n, a: mantissa(a, n),
    "table": lambda _, table, i: table[i],
}
"""Operation -> meaning, as `operations.Result.value` takes it; `immediate` is made where the device is known."""
