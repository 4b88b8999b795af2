"""What the tensor `model.lower_bounds` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cumulative_lower_bounds(parameter: Tensor) -> Tensor:
    """Return the lower bounds [L, H'] of the forget gates that the learned parameter [L, H'] means.

    The first layer's are zero. Source: matmulfreellm, mmfreelm/models/hgrn_bit/modeling_hgrn_bit.py,
    HGRNBitModel.forward.
    """
    shares = parameter.softmax(0)
    return shares.cumsum(0) - shares[0]
