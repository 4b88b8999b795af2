"""Registers and messages that simple rules declare wider than the chip's are declared as the proof finds them.

A sum of three parts is declared two bits wider than each, and its product wider than any register of the chip;
what the weights allow the sum to be is often less. Where every register fits as it is, nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loihi_mmfree.compiler.bounds import propagate
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program
from loihi_mmfree.fixedpoint.proof import analyse
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.loihi2.hardware import ChipSpec

_PROBE = "range of "
"""Begins the name of an output that no program has."""


def narrow_registers(graph: Graph) -> Graph:
    """Declare what is too wide for the graph's chip as wide as its values can be, where that is less."""
    if not any(_too_wide(node, graph.chip) for node in graph):
        return graph
    return graph.with_nodes(_narrowed(graph, node, inputs) for node, inputs, _ in propagate(graph))


def _too_wide(node: Node, chip: ChipSpec) -> dict[str, Instruction]:
    """The instructions whose register, or the message made of it, the chip has not the bits for."""
    if not isinstance(node, NeuronGroup):
        return {}
    sent = {each.operands[1] for each in node.program.instructions if each.operation == "send"}
    registers, messages = chip.register_bits.value, chip.message_bits.value
    return {
        each.target: each
        for each in node.program.instructions
        if each.bits > (min(registers, messages) if each.target in sent else registers)
    }


def _narrowed(graph: Graph, node: Node, inputs: list[Interval]) -> Node:
    wide = _too_wide(node, graph.chip)
    if not wide or not isinstance(node, NeuronGroup):
        return node
    # What a register can hold is what a message made of it could.
    probes = {_PROBE + register: register for register in wide}
    probed = replace(
        node.program,
        outputs=node.program.outputs + tuple(Port(name, wide[register].bits) for name, register in probes.items()),
        instructions=node.program.instructions
        + tuple(Instruction("send", "", (name, register)) for name, register in probes.items()),
    )
    named = dict(zip((port.name for port in node.program.inputs), inputs, strict=True))
    ranges, _ = analyse(probed, node.name, named, *node.parameters(graph.tensors))
    widths = {register: min(wide[register].bits, bits_of(ranges[name])) for name, register in probes.items()}
    return replace(node, program=_redeclared(node.program, widths))


def bits_of(values: Interval) -> int:
    """Return the least width, at least 2, of a signed integer that holds a range."""
    return max(2, values.highest.bit_length() + 1, (~values.lowest).bit_length() + 1)


def _redeclared(program: Program, widths: Mapping[str, int]) -> Program:
    """The program with other widths of some registers, and of the ports that these load or send."""
    instructions = tuple(replace(each, bits=widths.get(each.target, each.bits)) for each in program.instructions)
    declared = {each.target: each.bits for each in instructions}
    loaded = {each.operands[0]: each.bits for each in instructions if each.operation == "input"}
    sent = {each.operands[0]: declared[each.operands[1]] for each in instructions if each.operation == "send"}
    return replace(
        program,
        inputs=tuple(Port(port.name, loaded.get(port.name, port.bits)) for port in program.inputs),
        outputs=tuple(Port(port.name, sent[port.name]) for port in program.outputs),
        instructions=instructions,
    )
