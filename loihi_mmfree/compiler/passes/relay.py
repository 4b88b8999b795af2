"""Neurons that only pass on what arrives: sums over slices of split rows, and messages under way for long."""

from __future__ import annotations

from loihi_mmfree.compiler.programs import relay_program
from loihi_mmfree.ir.graph import Node
from loihi_mmfree.ir.nodes import NeuronGroup, Role


def relay(before: Node, bits: int) -> NeuronGroup:
    """Return the group behind a synapse that sends its `bits`-bit messages on."""
    (size,) = before.outputs.values()
    return NeuronGroup(f"{before.name}.relay", (before.out(),), Role.RELAY, size, relay_program(bits), (), (), ())
