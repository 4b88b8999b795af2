"""Ternary products in the matrix units, exact: floating point numbers that hold nothing but small whole numbers.

Weights are -1, 0 and 1, activations are cut into digits that the type holds exactly, and no sum of products, nor
any part of one, reaches 2**24, up to which float32 adds whole numbers without rounding, in any order. So a product
is exact whatever the library does inside, as long as it adds up in float32; `probe` looks whether it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.ternary import CODES_PER_BYTE

EXACT_SUM_BITS = 24
"""Whole numbers up to 2**24 are added exactly in float32."""
_HELD_BITS = {torch.float16: 11, torch.float32: 24}
"""Type -> n: it holds every whole number up to 2**n."""
_PROBED_ROWS = 64
_ROWS_TOGETHER = 1 << 12


@dataclass(frozen=True)
class Digits:
    """How a value is cut into digits that a product takes one by one.

    Parameters
    ----------
    count : int
        Digits of a value. The last one has the sign, the others are 0 to 2**bits - 1.
    bits : int
        Of each but the last, which may be narrower.
    """

    count: int
    bits: int

    def cut(self, values: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """Give the digits of integer values, the lowest first."""
        for number in range(self.count):
            digit = values >> (self.bits * number)
            if number + 1 < self.count:
                digit = digit & ((1 << self.bits) - 1)
            yield digit.to(dtype)


def digits_for(bits: int, columns: int, dtype: torch.dtype) -> Digits:
    """Return how values of `bits` signed bits are cut for products of so many columns."""
    held = min(_HELD_BITS[dtype], EXACT_SUM_BITS - (columns - 1).bit_length())
    return Digits(max(1, -(-(bits - 1) // held)), held)


def product_type(device: torch.device) -> torch.dtype:
    """Return what a device multiplies fastest and still exactly."""
    return torch.float16 if device.type == "cuda" and _gives_float32() else torch.float32


@cache
def _gives_float32() -> bool:
    """Whether PyTorch has products of float16 numbers that are float32: since 2.8."""
    half = torch.ones((16, 16), dtype=torch.float16, device="cuda")
    try:
        torch.mm(half, half, out_dtype=torch.float32)
    except TypeError:
        return False
    return True


@contextlib.contextmanager
def exact_matrix_units() -> Iterator[None]:
    """Forbid what a user may have allowed for other work: sums of less than float32."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_tf32, settings.allow_fp16_reduced_precision_reduction
    settings.allow_tf32 = settings.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_tf32, settings.allow_fp16_reduced_precision_reduction = before


def multiply(values: Tensor, weights: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the sums [N, rows], float32, of one digit [N, columns] with weights [rows, columns]."""
    if values.dtype == torch.float16:
        return torch.mm(values, weights.t(), out_dtype=torch.float32, out=out)
    return torch.mm(values, weights.t(), out=out)


def code_table(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the four weights of every byte of packed codes, [256, 4]."""
    fields = np.arange(256)[:, np.newaxis] >> np.arange(0, 2 * CODES_PER_BYTE, 2) & 3
    return torch.from_numpy(fields - 1).to(device, dtype)


def unpack(packed: Tensor, columns: int, table: Tensor) -> Tensor:
    """Return the weights [rows, columns] of packed codes, in the type of the table."""
    return table[packed.to(torch.int32)].reshape(len(packed), -1)[:, :columns]


def planes_of(packed: Tensor) -> Tensor:
    """Return packed codes in another order, uint8 [rows, bytes]: four planes, each a quarter of the columns.

    Byte b holds the codes of columns b, bytes + b, 2 bytes + b and 3 bytes + b: neighbours stay neighbours when
    bytes are unpacked.
    """
    fields = code_table(packed.device, torch.uint8) + 1
    planes = torch.empty_like(packed)
    for first in range(0, len(packed), _ROWS_TOGETHER):
        rows = packed[first : first + _ROWS_TOGETHER]
        quarters = fields[rows.to(torch.int32)].view(len(rows), CODES_PER_BYTE, -1)
        shifted = [quarters[:, plane] << (2 * plane) for plane in range(CODES_PER_BYTE)]
        planes[first : first + len(rows)] = shifted[0] | shifted[1] | shifted[2] | shifted[3]
    return planes


def probe(device: torch.device, dtype: torch.dtype, columns: int) -> None:
    """Multiply the largest digits with weights that carry every bit, and compare with integers.

    Raises
    ------
    SimulationError
        The products of this device are not exact.
    """
    random = np.random.default_rng(0)
    largest = 1 << digits_for(_HELD_BITS[dtype] + 1, columns, dtype).bits
    values = largest - random.integers(0, 2, (_PROBED_ROWS, columns))
    weights = random.integers(-1, 2, (_PROBED_ROWS, columns))
    weights[0], weights[1] = 1, -1
    with exact_matrix_units():
        found = multiply(*(torch.from_numpy(each).to(device, dtype) for each in (values, weights)))
    if not np.array_equal(found.cpu().numpy().astype(np.int64), values @ weights.T):
        raise SimulationError(
            f"products of {columns} whole numbers are not exact on {device}: this device or its PyTorch "
            f"{torch.__version__} adds {dtype} up in less than float32; use `backend='engine'`"
        )
