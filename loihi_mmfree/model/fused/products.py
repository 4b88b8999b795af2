"""Products as the kernels take them: sums of whole numbers, scaled only where they are used."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
