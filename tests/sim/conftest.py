"""What the tests of all simulations share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named, Operand
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder

ENTRIES = 97
"""Of the table `cubes` that a random program reads."""


def write_program(seed: int, also: tuple[str, ...] = ()) -> Program:
    """A program of random operations over inputs, states, constants, immediates and a table; some in any case."""
    random = np.random.default_rng(seed)
    b = ProgramBuilder()
    pool = [b.input("a", 16), b.input("b", 16), b.constant("each", 12), b.constant("all", 12), b.immediate(37)]
    pool += [b.state("s", 16), b.state("t", 16)]

    def pick(bits: int = 12) -> str:
        return b.saturate(pool[random.integers(len(pool))], bits)

    def operand(each: Operand, immediate: int) -> str:
        """Any register, or one within what the operation allows."""
        if each.allowed is None:
            return pick()
        low, high = each.allowed(immediate, ENTRIES)
        assert low == 0
        return b.write("low_bits", pick(), immediate=min((high + 1).bit_length() - 1, 11))

    drawn = sorted(name for name, each in OPERATIONS.items() if each.result is not None and each.registers)
    for name in random.choice([*drawn, *also], size=18).tolist() + list(also):
        operation = OPERATIONS[name]
        low, high = operation.immediate or (0, 0)
        immediate = int(random.integers(low, min(high, low + 9), endpoint=True))
        operands = [operand(each, immediate) for each in operation.registers]
        if operation.named is Named.TABLE:
            pool.append(b.table("cubes", *operands, bits=20))
        else:
            # One of them too narrow now and then, so that there is something to count.
            bits = 6 if random.random() < 0.1 else None
            pool.append(b.write(name, *operands, immediate=immediate, bits=bits))
    b.store("s", b.add(pick(), pool[5]))
    b.send("out", pool[-1])
    b.store("t", pool[0])
    b.send("late", pick())
    b.send("still", b.add(pool[3], pool[4]))
    return b.build()


@pytest.fixture(scope="session")
def random_program() -> Callable[..., Program]:
    """A function of a seed, and of names of operations to be used in any case."""
    return write_program
