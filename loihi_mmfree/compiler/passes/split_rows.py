"""Rows of weights too long for one neuron: how many parts they are cut into.

A part is summed by a neuron of its own, a relay, which sends its sum on to the neuron that the row belongs to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.ternary import CODES_PER_BYTE, nonzero_counts
from loihi_mmfree.loihi2.hardware import ChipSpec


def slices(columns: int, parts: int) -> list[range]:
    """Return the columns of each part; every part but the last is equally long, a multiple of four."""
    length = -(-columns // (parts * CODES_PER_BYTE)) * CODES_PER_BYTE
    return [range(first, min(first + length, columns)) for first in range(0, columns, length)]


def longest_row(chip: ChipSpec) -> int:
    """Return how many synapses may end at one neuron: each has an axon and a list of its own on the core."""
    synapse = chip.axon_header_bytes.value + -(-chip.weight_bits.value // 8)
    return min(chip.input_axons.value, chip.synapse_memory_bytes.value // synapse)


def sums_are_relayed(columns: int, chip: ChipSpec) -> bool:
    """Return whether the high and the low parts of so many squares are too many to end at one neuron together."""
    return 2 * columns > longest_row(chip)


def largest_sum(chip: ChipSpec, sent_on: bool) -> int:
    """Return what one neuron may sum up to: what an accumulator holds, and a message where a relay sends it on."""
    bits = chip.accumulator_bits.value
    return (1 << ((min(bits, chip.message_bits.value) if sent_on else bits) - 1)) - 1


def row_parts(
    packed: NDArray[np.uint8], columns: int, largest_input: int, chip: ChipSpec, sent_on: bool = False
) -> int:
    """Return the least number of parts such that each is proved to fit an accumulator and one core.

    Parameters
    ----------
    packed : uint8 array [rows, ceil(columns / 4)]
        Ternary weights.
    columns : int
    largest_input : int
        Greatest magnitude of an activation.
    chip : ChipSpec
    sent_on : bool
        Whether a relay sends the sum on even if there is only one part.
    """
    longest, nonzero = longest_row(chip), nonzero_counts(packed)
    most = -(-columns // CODES_PER_BYTE)
    for parts in range(1, most + 1):
        cut = slices(columns, parts)
        if len(cut[0]) <= longest and _longest(nonzero, cut) * largest_input <= largest_sum(
            chip, sent_on or parts > 1
        ):
            return parts
    return most


def _longest(nonzero: NDArray[np.uint8], cut: list[range]) -> int:
    """Greatest number of non-zero weights that a row has in any part."""
    sums = (
        nonzero[:, part.start // CODES_PER_BYTE : -(-part.stop // CODES_PER_BYTE)].sum(axis=1, dtype=np.int64)
        for part in cut
    )
    return max(int(each.max(initial=0)) for each in sums)
