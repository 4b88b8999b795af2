"""What goes through the command port before the first token: programs, constants and settings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.rtl.build import CoreImage
from loihi_mmfree.rtl.instructions import (
    IMMEDIATE_FROM,
    LOAD_ADDRESS_BITS,
    PRODUCT_BITS,
    CoreSetting,
    LoadTarget,
    immediate_bits,
)
from loihi_mmfree.rtl.parameters import CHUNK_BITS


def instruction_words(image: CoreImage) -> list[int]:
    """Return the vector program as numbers."""
    bits = immediate_bits(image.parameters.widths)
    return [each.encode(bits) for each in image.instructions]


def product_words(image: CoreImage) -> list[int]:
    """Return the product program as numbers."""
    return [each.encode() for each in image.products]


def commands(image: CoreImage) -> NDArray[np.uint32]:
    """Return all writes of the command port, uint32 [n, 2]: address and data."""
    writes = [*_all(image)]
    return np.array(writes, dtype="<u4").reshape(-1, 2)


def _all(image: CoreImage) -> Iterator[tuple[int, int]]:
    bits = IMMEDIATE_FROM + immediate_bits(image.parameters.widths)
    yield from _chunks(LoadTarget.INSTRUCTIONS, instruction_words(image), bits)
    yield from _chunks(LoadTarget.PRODUCTS, product_words(image), PRODUCT_BITS)
    for place, value in enumerate(image.constants.tolist()):
        yield _address(LoadTarget.CONSTANTS, place), value & ((1 << CHUNK_BITS) - 1)
    yield _address(LoadTarget.SETTINGS, CoreSetting.TOKEN_WORDS), image.token_words
    yield _address(LoadTarget.SETTINGS, CoreSetting.PRODUCTS), len(image.products)


def _chunks(target: LoadTarget, words: list[int], bits: int) -> Iterator[tuple[int, int]]:
    """Every word in pieces; the lowest bits of an address number the pieces."""
    chunks = -(-bits // CHUNK_BITS)
    step = 1 << (chunks - 1).bit_length()
    for number, word in enumerate(words):
        for chunk in range(chunks):
            yield _address(target, number * step + chunk), (word >> CHUNK_BITS * chunk) & ((1 << CHUNK_BITS) - 1)


def _address(target: LoadTarget, place: int) -> int:
    return target << LOAD_ADDRESS_BITS | place
