"""What would make a refused network fit: named only after it was lowered and proved again with that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.errors import LoihiMmfreeError
from loihi_mmfree.fixedpoint.proof import Violation
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import WIDEST, ChipSpec
from loihi_mmfree.quantize.config import LIMITS

LEAST_ACTIVATION_BITS = LIMITS["activation_bits"][0]
_ROUNDS = 3
"""A wider limit may let the compiler use more of another."""


@dataclass(frozen=True)
class Advisor:
    """Tries what could make a network fit.

    Parameters
    ----------
    lower : callable
        Lowers the checkpoint under other formats for another system.
    formats : mapping site -> QFormat
        Under which it was refused.
    chip : ChipSpec
        That refused it.
    activations : set of str
        The sites at the inputs of projections.
    """

    lower: Callable[[Mapping[str, QFormat], ChipSpec], Graph]
    formats: Mapping[str, QFormat]
    chip: ChipSpec
    activations: frozenset[str]

    def advise(self, violations: Sequence[Violation]) -> str:
        """Return in words what helps: fewer activation bits, wider limits, or that neither was found to."""
        bits = self._fewer_activation_bits(violations)
        if bits:
            return f"With `activation_bits={bits}` they can (lowered and proved again so)."
        limits = self._wider_limits(violations)
        if limits:
            wanted = ", ".join(f"{name} = {value}" for name, value in limits.items())
            return f"On a system with {wanted} (`chip=FILE`) they can (lowered and proved again so)."
        return "Neither fewer activation bits nor wider limits of the system were found to help."

    def _fewer_activation_bits(self, violations: Sequence[Violation]) -> int:
        """The most bits that help; 0 if none do. Sums over activations shrink with them, the rest hardly."""
        found = [each for each in violations if each.needs and each.needs[0] == "accumulator_bits"]
        now = max(self.formats[site].bits for site in self.activations)
        excess = max((each.needs[1] - self.chip.accumulator_bits.value for each in found if each.needs), default=0)
        fewer = now - excess
        # A sum at the very end of an accumulator may take one bit more than the quotient says.
        for bits in (fewer, fewer - 1) if found and fewer < now else ():
            if bits >= LEAST_ACTIVATION_BITS and self._violations(self._narrowed(bits), self.chip) == []:
                return bits
        return 0

    def _wider_limits(self, violations: Sequence[Violation]) -> dict[str, int]:
        """The limits that have to be wider, and what they must be at least; empty if that does not help."""
        wanted: dict[str, int] = {}
        left: Iterable[Violation] | None = violations
        for _ in range(_ROUNDS):
            for each in left or ():
                if each.needs is None or each.needs[1] > WIDEST[each.needs[0]]:
                    return {}
                name, value = each.needs
                wanted[name] = max(value, wanted.get(name, 0))
            left = self._violations(self.formats, self._widened(wanted))
            if left == []:
                return wanted
        return {}

    def _violations(self, formats: Mapping[str, QFormat], chip: ChipSpec) -> list[Violation] | None:
        """What cannot be guaranteed then; None where the network cannot even be lowered."""
        try:
            return bound_violations(self.lower(formats, chip))
        except LoihiMmfreeError:
            return None

    def _narrowed(self, bits: int) -> dict[str, QFormat]:
        """The formats with activations of fewer bits and the same range."""
        return {
            site: replace(each, bits=bits, frac=each.frac - (each.bits - bits))
            if site in self.activations
            else each
            for site, each in self.formats.items()
        }

    def _widened(self, limits: Mapping[str, int]) -> ChipSpec:
        figures = {name: replace(getattr(self.chip, name), value=value) for name, value in limits.items()}
        return replace(self.chip, **cast("dict[str, Any]", figures))
