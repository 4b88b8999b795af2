"""What a core is built with: its widths, which the proof gives, and its sizes, which are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from loihi_mmfree import defaults
from loihi_mmfree.errors import UsageError

STRIP_BEATS = 8
"""Cycles that an instruction takes for a strip of neurons; longer than the pipeline, so that nothing ever waits
for a register."""
CODE_BITS = 2
"""Of a weight, as net/ holds it: code + 1."""
WEIGHTS_PER_CYCLE = (32, 64, 128, 256)
LANES = (4, 8, 16, 32)
TREE_LEVELS_A_STAGE = 2
"""Of the product unit's adder tree, between registers."""
CHUNK_BITS = 32
"""What the command port writes at once."""


@dataclass(frozen=True)
class Size:
    """What is chosen of a core.

    Parameters
    ----------
    weights_per_cycle : int
        Ternary weights that the product unit takes in a cycle.
    lanes : int
        Neurons that the vector unit computes in a cycle.
    registers : int
        Of a neuron, in a lane.
    scalars : int
        Numbers that all neurons of a group read: sums, and what is broadcast.

    Raises
    ------
    UsageError
        A size that no core has.
    """

    weights_per_cycle: int = defaults.WEIGHTS_PER_CYCLE
    lanes: int = defaults.LANES
    registers: int = 16
    scalars: int = 8

    def __post_init__(self) -> None:
        for name, value, known in (
            ("weights_per_cycle", self.weights_per_cycle, WEIGHTS_PER_CYCLE),
            ("lanes", self.lanes, LANES),
        ):
            if value not in known:
                raise UsageError(f"{name}: no core has {value}; known: {', '.join(map(str, known))}")
        if self.lanes > self.weights_per_cycle:
            raise UsageError(
                f"lanes: {self.lanes} lanes write more activations in a cycle than the {self.weights_per_cycle} "
                "of a word; give as many weights_per_cycle"
            )
        for name, value, most in (("registers", self.registers, 32), ("scalars", self.scalars, 16)):
            if not 2 <= value <= most:
                raise UsageError(f"{name}: 2 to {most}, found {value}")

    @property
    def strip(self) -> int:
        """Neurons that one instruction computes."""
        return self.lanes * STRIP_BEATS

    @property
    def banks(self) -> int:
        """Groups of lanes in a word of activations."""
        return self.weights_per_cycle // self.lanes


def tree_stages(size: Size) -> int:
    """Return the registers between the products of a word and their sum."""
    levels = size.weights_per_cycle.bit_length() - 1
    return -(-levels // TREE_LEVELS_A_STAGE)


def sum_latency(size: Size) -> int:
    """Return the cycles from the one behind a row's last word to the first in which its sum can be read."""
    return tree_stages(size) + 2


@dataclass(frozen=True)
class Widths:
    """Bits with sign, each as wide as the widest value that is proved to occur.

    Parameters
    ----------
    datapath : int
        Registers, and what is under way in an instruction.
    multiplicand, multiplier : int
        The wider and the narrower factor of a product.
    message : int
        What a group sends.
    activation : int
        What a product reads.
    accumulator : int
        Sums of the product unit.
    state, constant, table : int
    """

    datapath: int
    multiplicand: int
    multiplier: int
    message: int
    activation: int
    accumulator: int
    state: int
    constant: int
    table: int


@dataclass(frozen=True)
class Depths:
    """Words of each memory. Those of lanes hold one value for each lane in a word.

    Parameters
    ----------
    instructions, products : int
        Of the two programs.
    messages, accumulators, states, constants : int
        In words of a value for each lane.
    activations : int
        In words of `weights_per_cycle` values.
    """

    instructions: int
    products: int
    messages: int
    accumulators: int
    states: int
    constants: int
    activations: int


@dataclass(frozen=True)
class CoreParameters:
    """All that the hardware depends on; two networks with the same parameters run on the same core.

    Parameters
    ----------
    size : Size
    widths : Widths
    depths : Depths
    tables : tuple of int
        The tables of the neuron programs, one behind the other: the content of a ROM.
    """

    size: Size
    widths: Widths
    depths: Depths
    tables: tuple[int, ...]
