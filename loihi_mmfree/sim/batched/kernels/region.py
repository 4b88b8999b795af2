"""Triton source for a region: one kernel, written from the neuron programs in it.

Immediates and widths are read from memory, as the engine's machine code reads them, so that blocks of the same
structure share a kernel. Where inputs and states within their declared widths prove all other registers, values
are held in 32 bits wherever these suffice (`assemble`), and only what enters is checked; elsewhere everything is
held in 64 bits and checked. What is outside raises a flag, and `eager` computes the tokens again, and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import SumSynapse
from loihi_mmfree.sim.batched.kernels.group import GroupWriter
from loihi_mmfree.sim.batched.kernels.text import KernelLines, KernelText, Wanted, What
from loihi_mmfree.sim.batched.products import Digits
from loihi_mmfree.sim.batched.regions import Region
from loihi_mmfree.sim.engine.kernels.programs.assemble import Assembled


def write_region(
    region: Region,
    assembled: Sequence[Assembled | None],
    inputs: Mapping[Source, int],
    root: Callable[[Source], Source],
    wanted: Mapping[Source, Wanted],
    accumulator_bits: int,
    tokens: Source,
) -> KernelText:
    """Write the kernel of a region.

    Parameters
    ----------
    region : Region
    assembled : sequence of Assembled or None
        The program of each node of the region; None for a sum.
    inputs : mapping Source -> int
        What comes from outside, and how many elements it has.
    root : callable
        From a source to where its value was computed.
    wanted : mapping Source -> Wanted
        What others read.
    accumulator_bits : int
        Sums beyond raise the flag.
    tokens : Source
        Among the inputs, it is a table of rows, of which each token selects one.
    """
    lines = KernelLines(region.walks, root)
    for number, (source, width) in enumerate(inputs.items()):
        _load(lines, f"x{number}", source, width, source == tokens)
    for number, (node, program) in enumerate(zip(region.nodes, assembled, strict=True)):
        if isinstance(node, SumSynapse):
            _add_up(lines, f"s{number}", node, accumulator_bits)
        else:
            assert isinstance(node, NeuronGroup)
            assert program is not None
            for port, variable in GroupWriter(lines, number, node, program).write().items():
                lines.know(node.out(port), variable)
                if node.out(port) in wanted:
                    _store(lines, number, node, port, variable, wanted[node.out(port)])
    return lines.join()


def _load(lines: KernelLines, variable: str, source: Source, width: int, chosen: bool) -> None:
    """Load what comes from outside: a row of its own for each token, or one that the token chooses."""
    pointer = lines.argument(What.INPUT, -1, str(source))
    if chosen:
        tokens = lines.argument(What.TOKENS, -1, "")
        where = f"tl.load({tokens} + row).to(tl.int64) * SIZE" + (" + lane" if width > 1 else "")
    else:
        where = "at" if width > 1 else "row"
    mask = ", mask=mask, other=0" if width > 1 else ""
    lines.inside(f"{variable} = tl.load({pointer} + {where}{mask})")
    # Sums are stored as floating point numbers, which hold them exactly.
    lines.inside(f"{variable} = {variable}.to(tl.int64 if {variable}.dtype == tl.int64 else tl.int32)")
    lines.know(source, variable)


def _add_up(lines: KernelLines, variable: str, node: SumSynapse, accumulator_bits: int) -> None:
    value = f"{lines.value(node.inputs[0])}.to(tl.int64)"
    if node.columns > 1:
        value = f"tl.sum(tl.where(mask, {value}, tl.zeros([BLOCK], tl.int64)))"
    lines.inside(f"{variable} = {value}")
    lines.flag(f"overflows({variable}, {accumulator_bits})", vector=False)
    lines.know(node.out(), variable)


def _store(lines: KernelLines, number: int, node: NeuronGroup, port: str, variable: str, wanted: Wanted) -> None:
    """Write a message for whoever reads it elsewhere."""
    where, mask = ("at", ", mask=mask") if node.size > 1 else ("row", "")
    if wanted.plain:
        pointer = lines.argument(What.PLAIN, number, port)
        lines.inside(f"tl.store({pointer} + {where}, {variable}{mask})")
    if wanted.digits is not None:
        pointer = lines.argument(What.DIGITS, number, port)
        for place in range(wanted.digits.count):
            behind = f" + {place} * {_all_rows(lines.walks)} * SIZE" if place else ""
            lines.inside(f"tl.store({pointer} + {where}{behind}, {_digit(variable, wanted.digits, place)}{mask})")


def _digit(variable: str, digits: Digits, place: int) -> str:
    """A digit, as `Digits.cut` gives it."""
    digit = f"({variable} >> {digits.bits * place})" if place else variable
    return f"({digit} & {(1 << digits.bits) - 1})" if place + 1 < digits.count else digit


def _all_rows(walks: bool) -> str:
    """The rows of the piece: digits lie in [digits, rows, elements]."""
    return f"tl.{'load(starts + tl.num_programs(0))' if walks else 'num_programs(0)'}.to(tl.int64)"
