"""A case: steps with all that goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loihi_mmfree.fixedpoint.arithmetic import Integers

GOLDEN = "golden"


@dataclass(frozen=True)
class VectorCase:
    """Steps of one node.

    Parameters
    ----------
    name : str
    what : str
        What it is for, in words.
    carried : bool
        Whether a step begins with the state that the one before left. If not, every step is one of its own, from
        the state given for it.
    values : mapping path -> int64 array [T, n]
        `inputs/PORT`, `before/STATE`, `outputs/PORT`, `after/STATE`.
    """

    name: str
    what: str
    carried: bool
    values: Mapping[str, Integers] = field(repr=False)

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(next(iter(self.values.values())))
