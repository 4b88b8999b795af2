"""What runs a network, whatever it is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.interpreter import Counters


class Backend(Protocol):
    """What runs a network: the engine, Lava's simulation, or a chip."""

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""

    @property
    def steps(self) -> int:
        """Time steps so far; the engine, which has none, counts one for a token."""

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""

    def process(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Read tokens and return the logits [T, V] after each of them; state is kept."""

    def close(self) -> None:
        """Release everything."""
