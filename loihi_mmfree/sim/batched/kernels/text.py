"""A Triton kernel as text, while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from loihi_mmfree.ir.graph import Source
from loihi_mmfree.sim.batched.products import Digits


class What(Enum):
    """What a kernel is given the address of."""

    INPUT = "input"
    TOKENS = "tokens"
    PLAIN = "plain"
    DIGITS = "digits"
    FIXED = "fixed"
    STATE = "state"
    TABLE = "table"


@dataclass(frozen=True)
class Argument:
    """An address that a kernel is given.

    Parameters
    ----------
    what : What
    node : int
        Of the region: whose; -1 for inputs.
    name : str
        Source of an input, port of an output, state, table, or number of the fixed register.
    """

    what: What
    node: int
    name: str


@dataclass(frozen=True)
class Wanted:
    """How a message is to be written for others.

    Parameters
    ----------
    plain : bool
        As integers.
    digits : Digits, optional
        As digits that a product reads.
    """

    plain: bool
    digits: Digits | None


@dataclass(frozen=True)
class KernelText:
    """A kernel that is written.

    Parameters
    ----------
    source : str
        Of a function `kernel(starts, sequences, counters, flag, numbers, a0, a1, ..., SIZE, BLOCK)`.
    arguments : tuple of Argument
        What a0, a1, ... are.
    instructions : int
        Rows of `numbers`, int64 [instructions, 2]: immediate and declared bits.
    """

    source: str
    arguments: tuple[Argument, ...]
    instructions: int


class KernelLines:
    """Lines of a kernel: those before the walk through tokens, in it, and after it.

    Parameters
    ----------
    walks : bool
        Whether a program walks through the tokens of a sequence; else it has one token.
    root : callable
        From a source to where its value was computed.
    """

    def __init__(self, walks: bool, root: Callable[[Source], Source]) -> None:
        self.walks, self._root = walks, root
        self.arguments: list[Argument] = []
        self.instructions = 0
        self.has_states = False
        self._before: list[str] = []
        self._inside: list[str] = []
        self._after: list[str] = []
        self._values: dict[Source, str] = {}

    def argument(self, what: What, node: int, name: str) -> str:
        """Return the name of a new argument."""
        self.arguments.append(Argument(what, node, name))
        return f"a{len(self.arguments) - 1}"

    def instruction(self) -> int:
        """Return the row of a new instruction in `numbers`."""
        self.instructions += 1
        return self.instructions - 1

    def before(self, line: str) -> None:
        """Add a line before all tokens."""
        self._before.append(line)

    def inside(self, line: str) -> None:
        """Add a line for each token."""
        self._inside.append(line)

    def after(self, line: str) -> None:
        """Add a line after all tokens."""
        self._after.append(line)

    def know(self, source: Source, variable: str) -> None:
        """Note which variable holds a value."""
        self._values[source] = variable

    def value(self, source: Source) -> str:
        """Return the variable of what a node reads."""
        return self._values[self._root(source)]

    def flag(self, condition: str, vector: bool) -> None:
        """Raise the flag where a condition holds."""
        if vector:
            self.inside(f"bad |= (({condition}) & mask).to(tl.int32)")
        else:
            self.inside(f"bad_one |= ({condition}).to(tl.int32)")

    def clamp(self, condition: str, vector: bool) -> None:
        """Count a saturation where a condition holds."""
        if vector:
            self.inside(f"clamped += (({condition}) & mask).to(tl.int32)")
        else:
            self.inside(f"clamped_one += ({condition}).to(tl.int32)")

    def join(self) -> KernelText:
        """Return the kernel."""
        given = ["starts", "sequences", "counters", "flag", "numbers"]
        given += [f"a{number}" for number in range(len(self.arguments))]
        lines = [f"def kernel({', '.join(given)}, SIZE: tl.constexpr, BLOCK: tl.constexpr):"]
        lines += _indented(1, self._place() + _COUNTERS + self._before)
        if self.walks:
            lines += _indented(1, [f"for number in range({_start(0)}, {_start(1)}):"])
            lines += _indented(
                2, ["row = number + tl.full((), 0, tl.int64)", "at = row * SIZE + lane", *self._inside]
            )
        else:
            lines += _indented(1, ["at = row * SIZE + lane", *self._inside])
        lines += _indented(1, self._after + _END)
        return KernelText("\n".join(lines) + "\n", tuple(self.arguments), self.instructions)

    def _place(self) -> list[str]:
        """Which neurons of which token or sequence this program has."""
        if self.walks:
            lane = "lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)"
            return ["sequence = tl.program_id(0).to(tl.int64)", lane]
        sequence = ["sequence = tl.load(sequences + row).to(tl.int64)"] if self.has_states else []
        return ["row = tl.program_id(0).to(tl.int64)", "lane = tl.arange(0, BLOCK)", *sequence]


_COUNTERS = [
    "mask = lane < SIZE",
    "bad = tl.zeros([BLOCK], tl.int32)",
    "clamped = tl.zeros([BLOCK], tl.int32)",
    "bad_one = tl.zeros([1], tl.int32)",
    "clamped_one = tl.zeros([1], tl.int32)",
]
_END = [
    "saturations = (tl.sum(clamped) + tl.sum(clamped_one)).to(tl.int64)",
    "tl.atomic_add(counters, saturations, mask=saturations != 0)",
    "wrong = tl.max(bad) + tl.max(bad_one)",
    "tl.atomic_or(flag, wrong, mask=wrong != 0)",
]


def _start(more: int) -> str:
    return f"tl.load(starts + sequence + {more})"


def _indented(levels: int, lines: list[str]) -> list[str]:
    return ["    " * levels + line for line in lines]
