"""Values within proved ranges: corners, zeros, and a pool that is rich in what implementations get wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval

Ranges = Mapping[str, Interval]
"""What varies, by its path in a case (`inputs/i`, `before/h`), and the range that the proof allows it."""
Steps = dict[str, Integers]
"""The values of each path, int64 [T, n]: T steps."""


def corners(ranges: Ranges, size: int) -> Steps:
    """Return every path at an end of its range: all at the same, and each in turn at the other one."""
    count = len(ranges)
    alike = [(0,) * count, (1,) * count]
    one = [tuple(int(each == turned) for each in range(count)) for turned in range(count)]
    others = [tuple(1 - each for each in choice) for choice in one]
    choices = list(dict.fromkeys([*alike, *one, *others]))
    return {
        path: np.stack([_ends(found, size)[choice[position]] for choice in choices])
        for position, (path, found) in enumerate(ranges.items())
    }


def silence(ranges: Ranges, size: int) -> Steps:
    """Return steps in which nothing arrives, from states that are 0 and at the ends of their ranges.

    A range without 0 gives the value next to it.
    """
    steps = 3 if any(path.startswith("before/") for path in ranges) else 1
    found = {}
    for path, interval in ranges.items():
        low, high = _ends(interval, size)
        zero = np.clip(0, low, high)
        rows = [zero, low, high] if path.startswith("before/") else [zero] * 3
        found[path] = np.stack(rows[:steps])
    return found


def pool(random: np.random.Generator, ranges: Ranges, size: int, steps: int) -> Steps:
    """Draw steps within ranges, each value in one of four ways.

    Anywhere in the range; with a magnitude of any number of bits; a power of two or a neighbour of one; an end of
    the range, zero, or a neighbour of these.
    """
    return {path: _drawn(random, *_ends(found, size), steps) for path, found in ranges.items()}


def _ends(found: Interval, size: int) -> tuple[Integers, Integers]:
    return np.broadcast_to(found.low, size), np.broadcast_to(found.high, size)


def _drawn(random: np.random.Generator, low: Integers, high: Integers, steps: int) -> Integers:
    shape = (steps, len(low))
    near, sign = random.integers(-1, 2, shape), random.choice(np.array([-1, 1]), shape)
    bits = int(max(np.abs(low).max(), np.abs(high).max())).bit_length()
    power = np.int64(1) << random.integers(0, bits + 1, shape)
    special = np.stack(np.broadcast_arrays(low, high, np.zeros_like(low)))
    ways = (
        random.integers(low, high, shape, endpoint=True),
        sign * random.integers(0, power, shape, endpoint=True),
        sign * power + near,
        special[random.integers(0, 3, shape), np.arange(len(low))] + near,
    )
    return np.clip(np.choose(random.integers(0, len(ways), shape), ways), low, high)


def joined(steps: Sequence[Mapping[str, Integers]]) -> Steps:
    """Return steps one behind the other."""
    return {path: np.concatenate([each[path] for each in steps]) for path in steps[0]}
