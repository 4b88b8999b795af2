"""What stands between two products of a block, with the codes for the second: gated norm, gated linear unit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, BIT_LINEAR_SMALLEST
from loihi_mmfree.model.fused.kernels import gates as kernels
from loihi_mmfree.model.fused.products import CODES, Scaled
from loihi_mmfree.model.fused.sizes import EXACT, MANY_NUMBERS, WALKED, parts_of, row_sizes


class Gated(NamedTuple):
    """Input of the second projection, and what the gradient needs of it.

    Parameters
    ----------
    codes : Tensor of bfloat16 [N, width]
    scales, inverse : Tensor of float32 [N]
        As in `inputs.Inputs`.
    norm_inverse : Tensor of float32 [N] or None
        The gated norm's reciprocal root mean square.
    """

    codes: Tensor
    scales: Tensor
    inverse: Tensor
    norm_inverse: Tensor | None = None


def gated_norm(g: Scaled, states: Tensor, norm_gain: Tensor, norm_eps: float, gain: Tensor) -> Gated:
    """Return the input that `layers.GatedNorm` of g and states [N, width] gives to a projection with this gain."""
    rows, width = states.shape
    found = _room(rows, width, states.device)
    found = found._replace(norm_inverse=torch.empty_like(found.inverse))
    kernels.gated_norm[(rows,)](
        *g, states, norm_gain, gain, *found[:2], found.norm_inverse, found.inverse, width, norm_eps,
        BIT_LINEAR_EPSILON, smallest=BIT_LINEAR_SMALLEST, **row_sizes(width), **EXACT,
    )  # fmt: skip
    return found


class GatedNormGradients(NamedTuple):
    """Gradients of what `gated_norm` was given, and once more the codes that it gave.

    Parameters
    ----------
    g : Tensor [N, width]
        Times the scale of its row, in the type of its values.
    states : Tensor [N, width]
        In the type of g's values.
    norm_gain, gain : Tensor of float32 [width]
    codes : Tensor of bfloat16 [N, width]
    """

    g: Tensor
    states: Tensor
    norm_gain: Tensor
    gain: Tensor
    codes: Tensor


def gated_norm_backward(
    g: Scaled,
    states: Tensor,
    norm_gain: Tensor,
    gain: Tensor,
    statistics: tuple[Tensor, Tensor, Tensor],
    weight_scale: Tensor,
    of_codes: Tensor,
) -> GatedNormGradients:
    """Go back through `gated_norm`.

    Parameters
    ----------
    g, states, norm_gain, gain
        As given there.
    statistics : tuple of Tensor of float32 [N]
        Scales, inverse and norm_inverse of what it gave.
    weight_scale : Tensor of float32 []
    of_codes : Tensor [N, width]
        As in `inputs.quantize_backward`.
    """
    rows, width = states.shape
    scales, inverse, norm_inverse = statistics
    codes = torch.empty_like(states, dtype=CODES)
    of_g, of_states = torch.empty_like(g.values), torch.empty_like(g.values)
    of_norm_gain, of_gain = torch.empty((2, parts_of(rows), width), dtype=torch.float32, device=states.device)
    kernels.gated_norm_backward[(parts_of(rows),)](
        *g, states, norm_gain, gain, scales, norm_inverse, inverse, weight_scale, of_codes,
        codes, of_g, of_states, of_norm_gain, of_gain, rows, width, walked=WALKED,
        **row_sizes(width, MANY_NUMBERS), **EXACT,
    )  # fmt: skip
    return GatedNormGradients(of_g, of_states, of_norm_gain.sum(0), of_gain.sum(0), codes)


def glu(gate_up: Scaled, gain: Tensor) -> Gated:
    """Return the input that `layers.Glu` of the halves of [N, 2 width] gives to a projection with this gain."""
    rows, width = len(gate_up.values), len(gain)
    found = _room(rows, width, gain.device)
    kernels.glu[(rows,)](
        *gate_up, gain, *found[:3], width, BIT_LINEAR_EPSILON, smallest=BIT_LINEAR_SMALLEST,
        **row_sizes(width), **EXACT,
    )  # fmt: skip
    return found


class GluGradients(NamedTuple):
    """Gradients of what `glu` was given, and once more the codes that it gave.

    Parameters
    ----------
    gate_up : Tensor [N, 2 width]
        Times the scale of its row, in the type of its values.
    gain : Tensor of float32 [width]
    codes : Tensor of bfloat16 [N, width]
    """

    gate_up: Tensor
    gain: Tensor
    codes: Tensor


def glu_backward(
    gate_up: Scaled, gain: Tensor, statistics: tuple[Tensor, Tensor], weight_scale: Tensor, of_codes: Tensor
) -> GluGradients:
    """Go back through `glu`; parameters as in `gated_norm_backward`, statistics are scales and inverse."""
    rows, width = of_codes.shape
    codes = torch.empty_like(of_codes, dtype=CODES)
    of_gate_up = torch.empty_like(gate_up.values)
    of_gain = torch.empty((parts_of(rows), width), dtype=torch.float32, device=gain.device)
    kernels.glu_backward[(parts_of(rows),)](
        *gate_up, gain, *statistics, weight_scale, of_codes, codes, of_gate_up, of_gain, rows, width,
        walked=WALKED, **row_sizes(width), **EXACT,
    )  # fmt: skip
    return GluGradients(of_gate_up, of_gain.sum(0), codes)


def _room(rows: int, width: int, device: torch.device) -> Gated:
    scales, inverse = torch.empty((2, rows), dtype=torch.float32, device=device)
    return Gated(torch.empty((rows, width), dtype=CODES, device=device), scales, inverse)
