"""Operations over PyTorch mean what the table of operations says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.sim.batched.kernels.group import RULES as WRITTEN
from loihi_mmfree.sim.batched.rules import RULES

EDGES = [0, 1, -1, 2, -2, 3, 2**23 - 1, -(2**23), 2**31, -(2**31), 2**40 - 1, -(2**40) + 1]
COMPUTING = sorted(name for name, each in OPERATIONS.items() if each.result is not None and each.registers)


def values(low: int, high: int, seed: int) -> np.ndarray:
    """Numbers of every magnitude between two limits, and these."""
    random = np.random.default_rng(seed)
    drawn = random.integers(-(2**40), 2**40, 4000) >> random.integers(0, 40, 4000)
    return np.clip(np.concatenate([EDGES, drawn]), low, high)


def test_every_operation_that_computes_has_a_rule_for_tensors() -> None:
    assert set(RULES) | {"immediate"} == {name for name, each in OPERATIONS.items() if each.result is not None}


def test_every_operation_on_registers_has_a_rule_for_kernels() -> None:
    assert set(WRITTEN) == {name for name in COMPUTING if OPERATIONS[name].named is None}


@pytest.mark.parametrize("operation", COMPUTING)
@pytest.mark.parametrize("more", [0, 1, 7, 14, 20])
def test_an_operation_means_the_same(operation: str, more: int) -> None:
    entry = OPERATIONS[operation]
    low, high = entry.immediate or (0, 0)
    immediate = min(low + more, high)
    table = np.arange(-50, 47, dtype=np.int64) ** 3
    registers = []
    for number, each in enumerate(entry.registers):
        # Products and shifts to the left have to stay within 63 bits.
        limit = 2**30 if operation in ("mul", "lerp", "shift_left") else 2**41
        allowed = each.allowed(immediate, len(table)) if each.allowed else (-limit, limit)
        registers.append(values(max(allowed[0], -limit), min(allowed[1], limit), seed=number))
    named = [table] if operation == "table" else []
    expected = entry.result.value(immediate, *named, *registers)
    found = RULES[operation](immediate, *map(torch.from_numpy, (*named, *registers)))
    np.testing.assert_array_equal(found.numpy(), expected)
