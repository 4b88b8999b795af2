"""Where the kernels run, and what they may stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

import torch
from packaging.version import Version
from torch import Tensor, nn

OLDEST_TRITON = "3.2"
"""Comes with PyTorch 2.6."""
_OLDEST_GPU = (8, 0)
"""Compute capability from which on the matrix units take bfloat16."""


def fused_for(x: Tensor) -> bool:
    """Whether what is made of a tensor is made by kernels: on a GPU with bfloat16, where Triton is installed."""
    return x.is_cuda and _runs_on(x.device)


def as_built(modules: Iterable[nn.Module], kinds: Collection[type[nn.Module]]) -> bool:
    """Whether modules are of kinds that kernels know, and nobody waits for them to be called."""
    return all(
        type(module) in kinds and not module._forward_hooks and not module._forward_pre_hooks for module in modules
    )


@cache
def _runs_on(device: torch.device) -> bool:
    try:
        import triton
    except ImportError:
        return False
    return Version(triton.__version__) >= Version(OLDEST_TRITON) and (
        torch.cuda.get_device_capability(device) >= _OLDEST_GPU
    )
