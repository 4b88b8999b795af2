"""Rules R1 to R3 for a whole graph, proved by running every node over intervals."""

from __future__ import annotations

import numpy as np

from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.proof import Violation, analyse
from loihi_mmfree.fixedpoint.ternary import dot_bounds
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, SumSynapse, TernarySynapse, TokenIn, node_parameters
from loihi_mmfree.loihi2.hardware import ChipSpec

Ranges = dict[Source, Interval]


def bound_violations(graph: Graph, chip: ChipSpec) -> list[Violation]:
    """Return every bound of the arithmetic that the graph cannot guarantee, for any input whatever."""
    ranges: Ranges = {}
    violations: list[Violation] = []
    for node in graph:
        violations += _propagate(graph, node, ranges, chip)
    return violations


def require_bounds(graph: Graph, chip: ChipSpec) -> None:
    """Raise DoesNotFitError with all violations in one message, if there are any."""
    violations = bound_violations(graph, chip)
    if violations:
        lines = "\n".join(f"  {violation}" for violation in violations)
        raise DoesNotFitError(
            f"{len(violations)} bounds of the fixed-point arithmetic cannot be guaranteed:\n{lines}\n"
            "Fewer activation bits (--act-bits) make accumulators smaller."
        )


def _propagate(graph: Graph, node: Node, ranges: Ranges, chip: ChipSpec) -> list[Violation]:
    inputs = [ranges[source] for source in node.inputs]
    match node:
        case TokenIn():
            table = graph.tensors[node.table]
            ranges[node.out()] = Interval(np.array([int(table.min())]), np.array([int(table.max())]))
            return []
        case NeuronGroup():
            return _group(graph, node, inputs, ranges, chip)
        case TernarySynapse():
            low, high = dot_bounds(node.weights(graph.tensors), inputs[0].low, inputs[0].high)
            return _accumulate(node, Interval(low, high), ranges, chip)
        case SumSynapse():
            summands = (np.broadcast_to(end, node.columns) for end in (inputs[0].low, inputs[0].high))
            low, high = (end.sum(keepdims=True) for end in summands)
            return _accumulate(node, Interval(low, high), ranges, chip)
        case LogitsOut():
            return []
        case _:
            ranges[node.out()] = inputs[0]
            return []


def _accumulate(node: Node, found: Interval, ranges: Ranges, chip: ChipSpec) -> list[Violation]:
    ranges[node.out()] = found
    allowed = (1 << (chip.accumulator_bits.value - 1)) - 1
    if found.magnitude <= allowed:
        return []
    what = f"{chip.accumulator_bits.value}-bit accumulator (rule R2)"
    return [Violation(node.name, what, found.magnitude, allowed)]


def _group(
    graph: Graph, node: NeuronGroup, inputs: list[Interval], ranges: Ranges, chip: ChipSpec
) -> list[Violation]:
    named = dict(zip((port.name for port in node.program.inputs), inputs, strict=True))
    violations: list[Violation] = []
    for port in node.program.inputs:
        _require_width(node, f"input {port.name}", named[port.name], port.bits, violations)
    constants, tables = node_parameters(graph, node)
    outputs, found = analyse(node.program, node.name, named, constants, tables)
    violations += found
    for name, interval in outputs.items():
        ranges[node.out(name)] = interval
        _require_width(node, f"message {name} (rule R1)", interval, chip.message_bits.value, violations)
    for state in node.program.states:
        if state.bits > chip.state_bits.value:
            what = f"state {state.name} (rule R3), bits"
            violations.append(Violation(node.name, what, state.bits, chip.state_bits.value))
    widest = max((each.bits for each in node.program.instructions), default=0)
    if widest > chip.register_bits.value:
        violations.append(Violation(node.name, "widest register, bits", widest, chip.register_bits.value))
    return violations


def _require_width(node: Node, what: str, interval: Interval, bits: int, violations: list[Violation]) -> None:
    if not interval.fits(bits):
        allowed = (1 << (bits - 1)) - 1
        violations.append(Violation(node.name, f"{what} of {bits} bits", interval.magnitude, allowed))
