"""Products of codes and their gradients, in the matrix units where a type holds the codes exactly.

Codes are -1, 0, 1 and -127 to 127, which bfloat16 holds, and their sums stay below 2**24, up to which float32 adds
whole numbers without rounding. So a product with float32 sums is exact, and one that is returned as bfloat16 is
the exact one rounded once.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

CODES = torch.bfloat16


class Scaled(NamedTuple):
    """A tensor that stands for `values * (rows * scale)`, or for its values if there is no scale.

    Parameters
    ----------
    values : Tensor [..., width]
    rows : Tensor of float32 [...] or None
        A factor of every row.
    scale : Tensor of float32 [] or None
        A factor of all.
    """

    values: Tensor
    rows: Tensor | None = None
    scale: Tensor | None = None


def working_type(device: torch.device) -> torch.dtype:
    """Return the type of products and of their gradients: bfloat16 where autocast asks for it, else float32.

    float16, which autocast may ask for, does not hold the sums.
    """
    if not hasattr(torch, "get_autocast_dtype"):
        # PyTorch before 2.4, under which no kernel runs; its own products still go by autocast.
        return torch.float32
    wanted = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return torch.bfloat16 if wanted == torch.bfloat16 else torch.float32


def multiply(codes: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return codes [N, inputs] times weight codes [outputs, inputs], [N, outputs] in the working type."""
    return _product(codes, weight.t(), dtype)


def through_weight(of_sums: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the gradient [N, inputs] of codes from that of the sums [N, outputs], in its type."""
    return torch.mm(of_sums, weight.to(of_sums.dtype), out=out)


def of_weight(of_sums: Tensor, codes: Tensor) -> Tensor:
    """Return the gradient of float32 [outputs, inputs] of the weight codes."""
    return _product(of_sums.t(), codes.to(of_sums.dtype), torch.float32)


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    if a.dtype == dtype:
        return torch.mm(a, b)
    if a.is_cuda and a.dtype == CODES and _gives_float32():
        return torch.mm(a, b, out_dtype=dtype)
    return torch.mm(a.to(dtype), b.to(dtype))


@cache
def _gives_float32() -> bool:
    """Whether PyTorch has products of bfloat16 numbers that are float32: since 2.8."""
    one = torch.ones((16, 16), dtype=CODES, device="cuda")
    try:
        torch.mm(one, one, out_dtype=torch.float32)
    except TypeError:
        return False
    return True
