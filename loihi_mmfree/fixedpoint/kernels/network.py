"""A whole network in one call: every thread walks through the same plan and does its share of each step.

The columns of a plan (int64 [steps, STEP_WIDTH]), by the kind of step in column 0. Places are indices into
`values` (int32), `planes` (int8, of one vector), `matrices` (int32, planes of many vectors) and so on:

BARRIER
    none
SUM
    1 input, 2 number of summands, 3 output
SPLIT
    1 input, 2 columns, 3 digits, 4 place in `planes`, 5 place in `matrices`, 6 totals, 7 whether only the
    last token matters to what follows, when only its logits are wanted
TERNARY
    1 address of the packed weights, 2 bytes in a row, 3 rows, 4 to 6 as above, 7 likewise, 8 output or -1 for
    the logits, 9 digits
GROUP
    1 neurons, 2 address of the function, 3 row in `code`, 4 and 5 begin and end in `links`, 6 whether all
    threads compute it
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from numba import njit

from loihi_mmfree.fixedpoint.kernels import layout
from loihi_mmfree.fixedpoint.kernels.memory import call_program, wait_for_all
from loihi_mmfree.fixedpoint.kernels.ternary import multiply_matrix, multiply_vector, split_matrix, split_vector

SHARE, MESSAGE_FAULT, ACTIVATION_FAULT = layout.SHARE, layout.MESSAGE_FAULT, layout.ACTIVATION_FAULT
_BARRIER, _SUM, _SPLIT, _TERNARY = map(
    int, (layout.Step.BARRIER, layout.Step.SUM, layout.Step.SPLIT, layout.Step.TERNARY)
)
_VALUES, _SHARED_VALUE, _STATE, _CONSTANTS, _SHARED_CONSTANT, _TABLE = map(
    int,
    (
        layout.Link.VALUES,
        layout.Link.SHARED_VALUE,
        layout.Link.STATE,
        layout.Link.CONSTANTS,
        layout.Link.SHARED_CONSTANT,
        layout.Link.TABLE,
    ),
)


@njit(nogil=True)
def _share(size, thread, threads):  # type: ignore[no-untyped-def]
    units = (size + SHARE - 1) // SHARE
    return units * thread // threads * SHARE, min(size, units * (thread + 1) // threads * SHARE)


@njit(nogil=True)
def _count_wide(values, limit):  # type: ignore[no-untyped-def]
    count = 0
    for at in range(values.size):
        count += values[at] < -limit or values[at] >= limit
    return count


@njit(nogil=True)
def _sum(step, tokens, values, limit):  # type: ignore[no-untyped-def]
    """Sums over a group; returns how many are wider than an accumulator, and the fault met or 0."""
    begin, size, out = step[1], step[2], step[3]
    wide, fault = 0, 0
    for token in range(tokens):
        total = 0
        row = values[begin + token * size : begin + (token + 1) * size]
        for at in range(size):
            total += row[at]
        values[out + token] = total
        wide += total < -limit or total >= limit
        if total < -(1 << 31) or total >= 1 << 31:
            fault = MESSAGE_FAULT
    return wide, fault


@njit(nogil=True)
def _split(step, thread, threads, tokens, last_only, values, planes, matrices):  # type: ignore[no-untyped-def]
    begin, columns, digits, totals = step[1], step[2], step[3], step[6]
    low, high = _share(columns, thread, threads)
    wide = 0
    for token in range(tokens):
        row = values[begin + token * columns : begin + (token + 1) * columns]
        for at in range(low, high):
            wide |= row[at] ^ (row[at] >> 31)
    if tokens == 1 or (last_only and step[7]):
        row = values[begin + (tokens - 1) * columns : begin + tokens * columns + 4]
        values[totals + thread] = split_vector(row, low, high, digits, planes[step[4] :])
    else:
        sums = values[totals + thread * tokens : totals + (thread + 1) * tokens]
        split_matrix(values[begin:], tokens, columns, low, high, digits, matrices[step[5] :], sums)
    most = 7 if digits == 1 else 13 if digits == 2 else 27
    return ACTIVATION_FAULT if wide >> most else 0


@njit(nogil=True)
def _ternary(  # type: ignore[no-untyped-def]
    step, thread, threads, tokens, last_only, values, logits, planes, matrices, tile, scratch, limit
):
    """Products with ternary weights; returns how many are wider than an accumulator."""
    rows, totals, digits = step[3], step[6], step[9]
    low, high = _share(rows, thread, threads)
    out = logits if step[8] < 0 else values[step[8] :]
    if tokens == 1 or (last_only and step[7]):
        tokens, total = 1, 0
        for each in range(threads):
            total += values[totals + each]
        multiply_vector(step[1], step[2], low, high, planes[step[4] :], digits, total, out, scratch)
    else:
        multiply_matrix(
            step[1], step[2], rows, low, high, tokens, matrices[step[5] :], digits, values[totals:], threads,
            out, tile, scratch,
        )  # fmt: skip
    wide = 0
    if limit != 0:
        for token in range(tokens):
            wide += _count_wide(out[token * rows + low : token * rows + high], limit)
    return wide


@njit(nogil=True)
def _address(kind, place, first, at, token, values, state_memory, constants, table_memory):  # type: ignore[no-untyped-def]
    """Address of what a link means, for neurons from `first` on; `at` is the token's first neuron."""
    if kind == _VALUES:
        return values + 4 * (place + at + first)
    if kind == _SHARED_VALUE:
        return values + 4 * (place + token)
    if kind == _STATE:
        return state_memory + 8 * (place + first)
    if kind == _CONSTANTS:
        return constants + 8 * (place + first)
    if kind == _SHARED_CONSTANT:
        return constants + 8 * place
    if kind == _TABLE:
        return table_memory + 4 * place
    return place


@njit(nogil=True)
def _group(  # type: ignore[no-untyped-def]
    step, thread, threads, tokens, values, code, links, constants, state_memory, table_memory, memory
):
    """Run a program; memory[:3] receives saturations, overflows and faults."""
    size = step[1]
    first, end = _share(size, thread, threads)
    if step[6]:
        # One neuron without a state: its tokens are as good as neurons.
        size, first, end, tokens = tokens, 0, tokens, 1
    memory[:3] = 0
    if end <= first:
        return
    buffers = values.ctypes.data, state_memory.ctypes.data, constants.ctypes.data, table_memory.ctypes.data
    addresses = memory[8:]
    begin = step[4]
    instructions = code[step[3] :].ctypes.data
    for token in range(tokens):
        for number in range(begin, step[5]):
            addresses[number - begin] = _address(
                links[number, 0], links[number, 1], first, token * size, token, *buffers
            )
        call_program(step[2], end - first, instructions, addresses.ctypes.data, memory.ctypes.data)


def _source_digest() -> int:
    """Return a number that changes with the source of any kernel."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


def _compile(sources: int) -> Any:
    # numba's cache knows this file and what this function closes over, but not the other files whose
    # functions end up in the machine code; `sources` stands for them.
    def run_network(  # type: ignore[no-untyped-def]
        thread, threads, tokens, last_only, plan, code, links, values, logits, planes, matrices,
        constants, state_memory, table_memory, memory, tiles, scratch, counters, strict,
        accumulator_bits, arrivals, yield_address,
    ):  # fmt: skip
        """Run tokens through a network.

        Parameters
        ----------
        thread, threads : int64
            This thread's number, and how many run the same call.
        tokens : int64
        last_only : bool
            Compute the logits of the last token alone.
        plan : int64 array [steps, STEP_WIDTH]
            See the module.
        code, links : int64 arrays
            Assembled programs, and what they are given: (Link, place).
        values : int32 array
        logits : int32 array [tokens * V] or [V]
        planes : int8 array
        matrices : int32 array
        constants, state_memory : int64 arrays
        table_memory : int32 array
        memory : int64 array [threads, 8 + LINKS]
        tiles, scratch : int32 arrays [threads, ...]
        counters : int64 array [threads, 8]
            Saturations, overflows, and the first fault with its step, are added up here.
        strict : bool
            Count overflows.
        accumulator_bits : int64
        arrivals : int64
            Address of a counter that is zero.
        yield_address : int64
            See `memory.wait_for_all`.
        """
        limit = 1 << (accumulator_bits - 1) if strict else 0
        barriers = 0
        counts = counters[thread]
        if sources < 0:
            return
        for number in range(plan.shape[0]):
            step = plan[number]
            kind = step[0]
            fault = 0
            if kind == _BARRIER:
                if threads > 1:
                    barriers += 1
                    wait_for_all(arrivals, barriers * threads, yield_address)
            elif kind == _SUM:
                wide, fault = _sum(step, tokens, values, 1 << (accumulator_bits - 1))
                if thread == 0 and strict:
                    counts[1] += wide
            elif kind == _SPLIT:
                fault = _split(step, thread, threads, tokens, last_only, values, planes, matrices)
            elif kind == _TERNARY:
                counts[1] += _ternary(
                    step, thread, threads, tokens, last_only, values, logits, planes, matrices, tiles[thread],
                    scratch[thread], limit,
                )  # fmt: skip
            else:
                own = memory[thread]
                _group(
                    step, thread, threads, tokens, values, code, links, constants, state_memory, table_memory, own
                )
                fault = own[2]
                if thread == 0 or not step[6]:
                    counts[0] += own[0]
                    counts[1] += own[1]
            if fault != 0 and counts[2] == 0:
                counts[2] = fault
                counts[3] = number

    try:
        return njit(nogil=True, cache=True)(run_network)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(nogil=True)(run_network)


run_network = _compile(_source_digest())
