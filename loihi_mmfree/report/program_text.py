"""A neuron group as text: a header of comments, then its program, one instruction a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.report.program import Feed, Hop, LoadedTensor, Message, NodeProgram, Receiver, Variable
from loihi_mmfree.text import counted

LISTED = 8
"""Names that are listed on a line before the rest is only counted."""


def program_lines(described: NodeProgram) -> Iterator[str]:
    """Give the lines, those of the header behind a semicolon."""
    for line in _header(described):
        yield f"; {line}".rstrip()
    yield from described.listing


def shortened(names: Sequence[str], all_of_them: str) -> str:
    """Return the first few names, and how many more there are and where."""
    more = len(names) - LISTED
    shown = ", ".join(names[:LISTED])
    return f"{shown}, ... and {more} more ({all_of_them})" if more > 0 else shown


def _header(each: NodeProgram) -> Iterator[str]:
    yield f"{each.node}: {each.role} of {each.block}, {counted(each.neurons, 'neuron')}"
    yield (
        f"every neuron runs this once a token, in time step {each.step} from its entry; its logits are read in "
        f"step {each.depth}"
    )
    yield "x:16 has 16 bits with sign, Qb.f is a format of b bits, f of them behind the point, #5 is a literal"
    sections = (
        ("inputs", [_input(feed) for feed in each.inputs]),
        (
            "states",
            [_state(state) for state in each.states],
        ),
        ("constants", [_loaded_tensor(constant) for constant in each.constants]),
        ("tables", [_loaded_tensor(table) for table in each.tables]),
        ("outputs", [line for message in each.outputs for line in _output(message)]),
        ("instructions", [f"{m.operation:<15}{m.operands:<12} {m.meaning}" for m in each.operations]),
    )
    for title, lines in sections:
        if lines:
            yield title
            yield from (f"  {line}" for line in lines)


def _format(known: QFormat | None) -> str:
    return "" if known is None else f" {known}"


def _input(feed: Feed) -> str:
    path = "".join(f"{_synapse(hop)} from " for hop in feed.synapses)
    return f"{feed.name}:{feed.bits} <- {path}{feed.sender}{_format(feed.format)}"


def _synapse(hop: Hop) -> str:
    weights = f" of {hop.weights}" if hop.weights else ""
    part = f" at element {hop.first_column}" if hop.first_column else ""
    steps = counted(hop.steps, "step")
    return f"{hop.node} ({hop.kind} {hop.columns} -> {hop.rows}{weights}{part}, {steps})"


def _state(each: Variable) -> str:
    return f"{each.name}:{each.bits}{_format(each.format)}, {each.initial} before the first token"


def _loaded_tensor(each: LoadedTensor) -> str:
    shape = " x ".join(map(str, each.shape))
    return f"{each.name}:{each.bits} = {each.tensor} ({each.dtype}, {shape}), {each.lowest} to {each.highest}"


def _output(message: Message) -> Iterator[str]:
    yield f"{message.name}:{message.bits}{_format(message.format)}"
    for receiver in message.receivers[:LISTED]:
        yield f"  -> {_receiver(receiver)}"
    if len(message.receivers) > LISTED:
        yield f"  ... and {len(message.receivers) - LISTED} more (its JSON lists all)"


def _receiver(receiver: Receiver) -> str:
    reached = shortened(receiver.reaches, "its JSON lists all")
    if receiver.reaches and receiver.reaches[0].rpartition(":")[0] == receiver.node:
        return f"{reached} ({receiver.kind})"
    return f"{receiver.node} ({receiver.kind}) to {reached}"
