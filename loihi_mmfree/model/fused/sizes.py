"""What the launches of all kernels that hold a row have in common."""

from __future__ import annotations

import triton

WALKED = 16
"""Rows whose part of a gain's gradient one program sums up."""
EXACT = {"enable_fp_fusion": False}
"""Each product and each sum is rounded by itself, as in PyTorch: the last bit can decide what a code becomes."""
SOME_NUMBERS, MANY_NUMBERS = 256, 512
"""Of a row for one warp: the fastest of those tried on an H200, many for kernels that sum up several times."""
_MOST_WARPS = 16


def row_sizes(width: int, per_warp: int = SOME_NUMBERS) -> dict[str, int]:
    """Return the block that holds a row, and the warps for it."""
    block = max(16, triton.next_power_of_2(width))
    return {"block": block, "num_warps": min(_MOST_WARPS, max(1, block // per_warp))}


def parts_of(rows: int) -> int:
    """Return how many programs walk through rows."""
    return triton.cdiv(rows, WALKED)
