"""What is put on the chip for a neuron group. Yours turns a program into microcode; this one into its listing."""

from __future__ import annotations

from loihi_mmfree.fixedpoint.listing import listing
from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup

WIDEST_REGISTER = 40
"""Bits of what this chip computes with."""


class ListedModel:
    """A `NeurocoreModel` for every role. One that was written for certain programs refuses others."""

    def refusal(self, graph: Graph, group: NeuronGroup) -> str:
        """Say what of a group's program is not known here, or too wide."""
        instructions = group.program.instructions
        unknown = sorted({each.operation for each in instructions} - OPERATIONS.keys())
        if unknown:
            return f"has no microcode for {', '.join(unknown)}"
        widest = max(each.bits for each in instructions)
        return f"a register of {widest} bits, at most {WIDEST_REGISTER}" if widest > WIDEST_REGISTER else ""

    def build(self, graph: Graph, group: NeuronGroup) -> tuple[str, ...]:
        """Return the microcode of a group."""
        return listing(group.program)
