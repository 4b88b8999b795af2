"""How many cycles a token takes: a formula over groups and products, exact where no stream is held back.

The two units wait for each other in two ways only (docs/rtl.md), and otherwise every instruction takes the cycles
of a strip, every word of weights one. So the moments in which groups and products end follow from each other by
maxima and sums. They are held against the simulation, cycle by cycle, in tests/rtl/test_timing.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.nodes import block_of
from loihi_mmfree.rtl.build import CorePrograms
from loihi_mmfree.rtl.instructions import GROUP
from loihi_mmfree.rtl.parameters import STRIP_BEATS, Size, sum_latency

_OPENING = 1
"""Cycles in which a group is read before it looks whether it may begin."""
_LOOKING = 1
"""Cycles in which a strip, or a product, looks whether it may begin, at least."""
_START = 1
"""Cycles between the last beat of a token's row and the first one of both programs."""


@dataclass(frozen=True)
class GroupWork:
    """A group as its time sees it.

    Parameters
    ----------
    block : str
        Of the network, as `ir.nodes.block_of` names it.
    instructions, neurons : int
    wait : int
        The product that it follows, counted from 1; 0 if none.
    """

    block: str
    instructions: int
    neurons: int
    wait: int


@dataclass(frozen=True)
class ProductWork:
    """A product as its time sees it.

    Parameters
    ----------
    block : str
    rows, words : int
    after : int
        Groups that must have ended.
    """

    block: str
    rows: int
    words: int
    after: int


@dataclass(frozen=True)
class Work:
    """All that is done for a token.

    Parameters
    ----------
    size : Size
    token_words : int
        Beats of the row of the embedding.
    groups : tuple of GroupWork
    products : tuple of ProductWork
    """

    size: Size
    token_words: int
    groups: tuple[GroupWork, ...]
    products: tuple[ProductWork, ...]

    @classmethod
    def of(cls, programs: CorePrograms) -> Work:
        """Return the work of a network on its core."""
        opened = [at for at, each in enumerate(programs.instructions) if each.operation == GROUP]
        ends = [*opened, len(programs.instructions) - 1]
        lengths = [last - first - 1 for first, last in pairwise(ends)]
        groups = tuple(
            GroupWork(block_of(each.node.name), length, each.node.size, each.wait)
            for each, length in zip(programs.schedule.groups, lengths, strict=True)
        )
        products = tuple(
            ProductWork(block_of(product.synapse.name), each.rows, each.words, each.after)
            for product, each in zip(programs.schedule.products, programs.products, strict=True)
        )
        return cls(programs.schedule.size, programs.token_words, groups, products)

    def repeated(self, blocks: int) -> Work:
        """Return the work of a network with so many blocks, all like its only one.

        Raises
        ------
        UsageError
            It has not one block.
        """
        found = sorted({each.block for each in self.groups if each.block.startswith("layers.")})
        if len(found) != 1:
            raise UsageError(f"only the work of one block can be repeated, found {len(found)} blocks")
        groups, products = _spans(self.groups, found[0]), _spans(self.products, found[0])
        more_groups, more_products = len(groups[1]), len(products[1])
        repeated_groups = [*groups[0]]
        repeated_products = [*products[0]]
        for number in range(blocks):
            repeated_groups += [_moved_group(each, number * more_products) for each in groups[1]]
            repeated_products += [replace(each, after=each.after + number * more_groups) for each in products[1]]
        last = blocks - 1
        repeated_groups += [_moved_group(each, last * more_products) for each in groups[2]]
        repeated_products += [replace(each, after=each.after + last * more_groups) for each in products[2]]
        return replace(self, groups=tuple(repeated_groups), products=tuple(repeated_products))


def _spans(works: tuple, block: str) -> tuple[tuple, tuple, tuple]:
    """What is before a block, in it, and behind it."""
    inside = [at for at, each in enumerate(works) if each.block == block]
    first, last = inside[0], inside[-1] + 1
    return works[:first], works[first:last], works[last:]


def _moved_group(each: GroupWork, products: int) -> GroupWork:
    return replace(each, wait=each.wait + products) if each.wait else each


@dataclass(frozen=True)
class Timing:
    """The cycles of a token.

    Parameters
    ----------
    cycles : int
        From the first beat of its row to its last logit.
    product_cycles : int
        Of these, in which the product unit takes weights.
    blocks_cycles : int
        Until the last block has ended: without final norm and head.
    blocks_product_cycles : int
        Beats of the blocks' weights alone.
    """

    cycles: int
    product_cycles: int
    blocks_cycles: int
    blocks_product_cycles: int

    @property
    def utilisation(self) -> float:
        """Share of the blocks' cycles in which the product unit takes weights."""
        return self.blocks_product_cycles / self.blocks_cycles


def timing(work: Work) -> Timing:
    """Return how long a token takes.

    With c = 8 n + 1 for a strip of n instructions, S strips, and r_s the moment in which the rows of strip s lie
    in the accumulators, a group that is read at G ends its strips at max(G + 1 + S c, max over s of
    r_s + (S - s) c), and the next one is read 8 cycles later. A product that looks at P begins at max(P, the end
    of the groups it needs) + 1, takes rows * words cycles, and row k lies in the accumulators a constant time
    after its last word.
    """
    latency = sum_latency(work.size)
    begun: list[int] = []
    looked = 0
    ended: list[int] = []
    now = 0

    def begin_products(groups: int) -> None:
        """Products that need no more than so many groups."""
        nonlocal looked
        while len(begun) < len(work.products) and work.products[len(begun)].after <= groups:
            each = work.products[len(begun)]
            ready = ended[each.after - 1] if each.after else 0
            begun.append(max(looked, ready) + _LOOKING)
            looked = begun[-1] + each.rows * each.words

    begin_products(0)
    for number, each in enumerate(work.groups):
        strips = -(-each.neurons // work.size.strip)
        strip_cycles = STRIP_BEATS * each.instructions + _LOOKING
        end = now + _OPENING + strips * strip_cycles
        if each.wait:
            product = work.products[each.wait - 1]
            for strip in range(strips):
                rows = min((strip + 1) * work.size.strip, product.rows)
                arrived = begun[each.wait - 1] + rows * product.words + latency
                end = max(end, arrived + (strips - strip) * strip_cycles)
        now = end + STRIP_BEATS
        ended.append(now)
        begin_products(number + 1)
    products_end = looked + latency
    head = sum(each.rows * each.words for each in work.products if not each.block.startswith("layers."))
    beats = sum(each.rows * each.words for each in work.products)
    of_blocks = [end for end, each in zip(ended, work.groups, strict=True) if each.block.startswith("layers.")]
    before = work.token_words + _START
    return Timing(
        cycles=before + max(products_end, now + _OPENING),
        product_cycles=beats,
        blocks_cycles=before + max(of_blocks, default=0),
        blocks_product_cycles=beats - head,
    )
