"""What the kernels know of each operation: ranges that hold, and no operation passed over in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named
from loihi_mmfree.sim.engine.kernels.programs.ranges import RULES

COMPUTING = sorted(name for name, each in OPERATIONS.items() if each.result is not None)
LARGEST = 2 ** (MAX_REGISTER_BITS - 1) - 1


def test_every_operation_that_computes_has_a_rule() -> None:
    assert sorted(RULES) == COMPUTING


def test_every_operation_has_machine_code() -> None:
    pytest.importorskip("llvmlite")
    from loihi_mmfree.sim.engine.kernels.lanes import ARITHMETIC
    from loihi_mmfree.sim.engine.kernels.programs.codegen import SPECIAL

    # What depends on no input is computed before there is machine code.
    assert sorted([*ARITHMETIC, *SPECIAL, "constant", "immediate"]) == COMPUTING


@pytest.mark.parametrize("name", COMPUTING)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_range_that_is_promised_holds_every_value(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    low, high = operation.immediate or (0, 0)
    immediate = data.draw(st.integers(low, high) | st.integers(low, min(high, low + 20)))
    entries = data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
    ranges, values = [], []
    for each in operation.registers:
        # Also what the operation does not allow, which a rule must not promise anything for.
        least, greatest = each.allowed(immediate, len(entries)) if each.allowed else (-LARGEST, LARGEST)
        free = each.name == "d" or not data.draw(st.booleans())
        within = (least, greatest) if free else (-(2**20), 2**20)
        ends = sorted(data.draw(st.tuples(st.integers(*within), st.integers(*within))))
        ranges.append(tuple(ends))
        values.append(np.array(data.draw(st.lists(st.integers(*ends), min_size=4, max_size=4)) + ends))
    named: list[Any] = [] if operation.named is None else [np.array(entries)]
    known = [(min(entries), max(entries))] if named and operation.named is not Named.TABLE else named
    promised = RULES[name].range(immediate, *known, *ranges)
    assume(promised is not None and promised[0] >= -LARGEST and promised[1] <= LARGEST)
    found = operation.result.value(immediate, *named, *values)  # type: ignore[union-attr]
    assert promised[0] <= found.min()
    assert found.max() <= promised[1]
