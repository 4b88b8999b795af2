"""Where the kernels run."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor


def fused_for(x: Tensor) -> bool:
    """Whether what is computed from a tensor is computed by kernels: on a GPU for which Triton is installed."""
    return x.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
