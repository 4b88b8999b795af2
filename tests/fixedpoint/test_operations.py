"""The table of operations: each means what plain Python integers say, and its interval holds every value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named, Operation, Result, rule_for

Oracle = Mapping[str, Callable[..., int]]
COMPUTING = sorted(name for name, each in OPERATIONS.items() if each.result is not None)
LARGEST = 2 ** (MAX_REGISTER_BITS - 1) - 1


@st.composite
def numbers_within(draw: st.DrawFn, low: int, high: int, count: int) -> tuple[int, int, list[int]]:
    """The ends of a range inside another, and numbers of it, its own ends among them."""
    bits = draw(st.integers(1, MAX_REGISTER_BITS - 1))
    middle = draw(st.integers(max(low, -(2**bits)), min(high, 2**bits)))
    first, last = sorted((middle, draw(st.integers(max(low, middle - 2**bits), min(high, middle + 2**bits)))))
    near_zero = [each for each in (-1, 0, 1) if first <= each <= last]
    more = count - 2 - len(near_zero)
    inside = draw(st.lists(st.integers(first, last), min_size=more, max_size=more))
    return first, last, draw(st.permutations([first, last, *near_zero, *inside]))


@st.composite
def examples(draw: st.DrawFn, name: str, repeated: bool) -> tuple[int, list[Any], list[list[int]], list[Interval]]:
    """Immediate, what is named, values [operand][neuron] and the intervals that these were drawn from."""
    operation, count = OPERATIONS[name], 6
    low, high = operation.immediate or (0, 0)
    immediate = draw(st.integers(low, high) | st.integers(low, min(high, low + 20)))
    entries = draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
    values, ranges = [], []
    for each in operation.registers:
        allowed = each.allowed(immediate, len(entries)) if each.allowed else (-LARGEST - 1, LARGEST)
        first, last, inside = draw(numbers_within(max(allowed[0], -LARGEST - 1), min(allowed[1], LARGEST), count))
        values.append(inside)
        ranges.append(Interval(np.array([first]), np.array([last])))
    if repeated:
        values, ranges = [values[0]] * len(values), [ranges[0]] * len(ranges)
    if operation.result is not None and operation.result.intermediate is not None:
        assume(operation.result.intermediate(immediate, *(each.magnitude for each in ranges)) <= LARGEST)
    return immediate, [] if operation.named is None else [entries], values, ranges


def outcome(
    oracle: Oracle, name: str, immediate: int, named: list[list[int]], values: list[list[int]]
) -> list[int]:
    """What Python integers give for every neuron; a load gives all that it may load."""
    if OPERATIONS[name].named not in (None, Named.TABLE):
        return [oracle[name](immediate, each) for each in named[0]]
    neurons = zip(*values, strict=True) if values else [()]
    return [oracle[name](immediate, *named, *each) for each in neurons]


def test_python_integers_know_every_operation_that_computes(oracle: Oracle) -> None:
    assert sorted(oracle) == COMPUTING


@pytest.mark.parametrize("name", COMPUTING)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_numpy_gives_what_python_integers_give(oracle: Oracle, data: st.DataObject, name: str) -> None:
    immediate, named, values, _ = data.draw(examples(name, repeated=False))
    result = OPERATIONS[name].result
    assert result is not None
    arrays = [np.array(each, dtype=np.int64) for each in (*named, *values)]
    expected = outcome(oracle, name, immediate, named, values)
    found = result.value(immediate, *arrays)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def held(found: Interval, expected: list[int]) -> bool:
    return all(np.all(found.low <= each) and np.all(found.high >= each) for each in expected)


@pytest.mark.parametrize("name", COMPUTING)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_interval_holds_what_python_integers_give(oracle: Oracle, data: st.DataObject, name: str) -> None:
    immediate, named, values, ranges = data.draw(examples(name, repeated=False))
    operation = OPERATIONS[name]
    assert operation.result is not None
    given_names = [np.array(each) for each in named]
    if named and operation.named is not Named.TABLE:
        given_names = [Interval(given_names[0].min(keepdims=True), given_names[0].max(keepdims=True))]
    found = operation.result.interval(immediate, *given_names, *ranges)
    assert held(found, outcome(oracle, name, immediate, named, values))


@pytest.mark.parametrize("name", [name for name in COMPUTING if OPERATIONS[name].result.repeated])  # type: ignore[union-attr]
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_so_does_the_interval_of_one_register_with_itself(oracle: Oracle, data: st.DataObject, name: str) -> None:
    immediate, named, values, ranges = data.draw(examples(name, repeated=True))
    result = OPERATIONS[name].result
    assert result is not None
    assert result.repeated is not None
    assert held(result.repeated(immediate, ranges[0]), outcome(oracle, name, immediate, named, values))


@pytest.mark.parametrize(
    "name",
    [name for name in COMPUTING if OPERATIONS[name].result.width and OPERATIONS[name].registers],  # type: ignore[union-attr]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_declared_width_holds_what_symmetric_operands_give(
    oracle: Oracle, data: st.DataObject, name: str
) -> None:
    immediate, named, values, _ = data.draw(examples(name, repeated=False))
    result = OPERATIONS[name].result
    assert result is not None
    assert result.width is not None
    widths = [max(2, *(abs(value).bit_length() + 1 for value in each)) for each in values]
    bits = result.width(immediate, *widths)
    assert all(
        -(2 ** (bits - 1)) <= each < 2 ** (bits - 1) for each in outcome(oracle, name, immediate, named, values)
    )


def test_who_lacks_a_rule_is_named_with_the_operation() -> None:
    with pytest.raises(NotImplementedError, match="the abacus has no rule for the operation 'halve'"):
        rule_for({"add": 1}, "halve", "the abacus")


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (None, None),
        (None, Named.INPUT),
        (None, Named.TABLE),
        (Result(lambda _: np.array([0]), lambda _: Interval.symmetric(2)), Named.OUTPUT),
    ],
)
def test_an_operation_has_a_result_or_writes_a_state_or_an_output(
    result: Result | None, named: Named | None
) -> None:
    with pytest.raises(ValueError, match="an effect names"):
        Operation((), "", result, named)
