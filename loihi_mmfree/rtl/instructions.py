"""The two instruction sets of the core, and how they are encoded.

The vector unit's instructions are those of the table of operations, under their names, and two more: `group`
opens a group of neurons, `end` ends the token. An instruction of a neuron program is one instruction of the vector
unit; only `send` may be several, where a message goes to several places.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.rtl.parameters import Widths

END, GROUP = "end", "group"
OPCODES = {name: number for number, name in enumerate((END, GROUP, *OPERATIONS))}
OPCODE_BITS = 5
REGISTER_BITS = 5
SPACE_BITS = 3
IMMEDIATE_FROM = 32
"""Where the immediate begins in an instruction: behind opcode, target, three sources, space and the last flag."""
LEAST_IMMEDIATE_BITS = 40
"""A `group` keeps its size and what it waits for there."""
SIZE_BITS = 20
ROWS_BITS, WORDS_BITS, BASE_BITS, AFTER_BITS = 20, 12, 20, 16
LOAD_TARGET_BITS, LOAD_ADDRESS_BITS = 2, 28
PRODUCT_BITS = ROWS_BITS + WORDS_BITS + 2 * BASE_BITS + AFTER_BITS + 1


class LoadTarget(IntEnum):
    """What the command port writes into, in the highest bits of its address."""

    INSTRUCTIONS = 0
    PRODUCTS = 1
    CONSTANTS = 2
    SETTINGS = 3


class CoreSetting(IntEnum):
    """Addresses of settings."""

    TOKEN_WORDS = 0
    """Beats of the token stream for one token."""
    PRODUCTS = 1
    """Instructions of the product program."""


class Space(IntEnum):
    """Where a load comes from and where a message goes to."""

    MESSAGE = 0
    """One value for each neuron, read by groups."""
    ACCUMULATOR = 1
    """Sums of the product unit."""
    ACTIVATION = 2
    """What the product unit reads."""
    SCALAR = 3
    """One value for all neurons."""
    SUM = 4
    """A scalar, to which what all neurons send is added up."""


@dataclass(frozen=True)
class VectorInstruction:
    """One instruction of the vector unit.

    Parameters
    ----------
    operation : str
        A key of `OPCODES`.
    target : int
        The register written.
    sources : tuple of int
        Up to three registers.
    space : Space
        Of `input` and `send`.
    immediate : int
        Literal, distance or bit count as in the neuron program; the address of a load, store or send; the first
        entry of a table.
    last : bool
        Whether it ends the program of its group.
    note : str
        For people.
    """

    operation: str
    target: int = 0
    sources: tuple[int, ...] = ()
    space: Space = Space.MESSAGE
    immediate: int = 0
    last: bool = False
    note: str = ""

    def encode(self, immediate_bits: int) -> int:
        """Return the instruction as a number of `IMMEDIATE_FROM` + `immediate_bits` bits."""
        a, b, c = (*self.sources, 0, 0, 0)[:3]
        fields = (
            (OPCODES[self.operation], OPCODE_BITS),
            (self.target, REGISTER_BITS),
            (a, REGISTER_BITS),
            (b, REGISTER_BITS),
            (c, REGISTER_BITS),
            (self.space, SPACE_BITS),
            (self.last, 1),
        )
        return _packed(fields) | (self.immediate & ((1 << immediate_bits) - 1)) << IMMEDIATE_FROM


def group(size: int, wait: int, note: str) -> VectorInstruction:
    """Return the instruction that opens a group.

    Parameters
    ----------
    size : int
        Number of neurons.
    wait : int
        The product, counted from 1, whose rows the group follows; 0 if it reads none.
    note : str
        For people.
    """
    return VectorInstruction(GROUP, immediate=_packed(((size, SIZE_BITS), (wait, AFTER_BITS))), note=note)


@dataclass(frozen=True)
class ProductInstruction:
    """One projection: so many rows of so many words of weights.

    Parameters
    ----------
    rows : int
    words : int
        Beats of the weight stream that a row takes.
    source : int
        First word of the activations.
    target : int
        First word of the accumulators.
    after : int
        Groups that must have ended before it may begin.
    logits : bool
        Whether its sums leave the core instead of going to the accumulators.
    note : str
        For people.
    """

    rows: int
    words: int
    source: int
    target: int
    after: int
    logits: bool
    note: str = ""

    def encode(self) -> int:
        """Return the instruction as a number of `PRODUCT_BITS` bits."""
        return _packed(
            (
                (self.rows, ROWS_BITS),
                (self.words, WORDS_BITS),
                (self.source, BASE_BITS),
                (self.target, BASE_BITS),
                (self.after, AFTER_BITS),
                (self.logits, 1),
            )
        )


def immediate_bits(widths: Widths) -> int:
    """Return the bits of an immediate: any literal, and what a `group` says."""
    return max(widths.datapath, LEAST_IMMEDIATE_BITS)


def _packed(fields: tuple[tuple[int, int], ...]) -> int:
    """Fields (value, bits) one above the other, the first one lowest."""
    word, place = 0, 0
    for value, bits in fields:
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{value} does not fit a field of {bits} bits")
        word |= int(value) << place
        place += bits
    return word
