"""A whole network in one call: every thread walks through the same plan and does its share of each step.

The columns of a plan (int64 [steps, STEP_WIDTH]), by the kind of step in column 0. Places are indices into
`values` (int32), `planes` (int8, of one vector), `matrices` (int32, planes of many vectors) and so on:

BARRIER
    none
SUM
    1 input, 2 number of summands, 3 output
SPLIT
    1 input, 2 columns, 3 digits, 4 place in `planes`, 5 place in `matrices`, 6 totals, 7 whether only the
    last token matters to what follows, when only its logits are wanted, 8 elements from token to token, 9
    whether many vectors become sums to look up, if the machine can; all threads meet before that
TERNARY
    1 address of the packed weights, 2 bytes in a row, 3 rows, 4 to 6 as above, 7 likewise, 8 output or -1 for
    the logits, 9 digits, 10 whether many vectors are sums to look up
GROUP
    1 neurons, 2 address of the function, 3 row in `code`, 4 and 5 begin and end in `links`, 6 whether all
    threads compute it
COUNT
    1 input, 2 its size, 3 number of the message, 4 whether all threads wrote it, 5 number of messages counted

SUM, TERNARY and GROUP have in the last column, `layout.NODE`, the number of their node among those that count.
"""

from __future__ import annotations

from numba import carray, njit

from loihi_mmfree.sim.engine.kernels import conventions as layout
from loihi_mmfree.sim.engine.kernels import memory
from loihi_mmfree.sim.engine.kernels.memory import (
    await_job,
    call_program,
    claim_helpers,
    long_pointer,
    post_job,
    signed_byte_pointer,
    wait_for_all,
    wait_for_helpers,
    word_pointer,
)
from loihi_mmfree.sim.engine.kernels.products.sum_vectors import sums_are_compiled
from loihi_mmfree.sim.engine.kernels.products.sums import multiply_sums, tabulate_sums
from loihi_mmfree.sim.engine.kernels.products.ternary import (
    multiply_matrix,
    multiply_vector,
    split_matrix,
    split_vector,
)
from loihi_mmfree.sim.engine.kernels.products.vectors import ask_for
from loihi_mmfree.sim.engine.kernels.programs.assemble import WIDTH as CODE_WIDTH
from loihi_mmfree.sim.engine.kernels.runtime.job import FIRST_BUFFER, JOB_SIZE, Buffer, Setting

UNIT_COLUMNS, SUM_BITS = layout.UNIT_COLUMNS, layout.SUM_BITS
SHARE, MESSAGE_FAULT, ACTIVATION_FAULT = layout.SHARE, layout.MESSAGE_FAULT, layout.ACTIVATION_FAULT
NODE = layout.NODE
_BARRIER, _SUM, _SPLIT, _TERNARY, _GROUP, _COUNT = map(int, layout.Step)
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
def _note(tally, nodes, token, clamped, wide):  # type: ignore[no-untyped-def]
    """Add to what a node counted at a token; `tally` begins with the node, and is empty if nobody asks."""
    if tally.size != 0 and (clamped != 0 or wide != 0):
        tally[2 * token * nodes] += clamped
        tally[2 * token * nodes + 1] += wide


@njit(nogil=True)
def _count_wide(values, limit):  # type: ignore[no-untyped-def]
    count = 0
    for at in range(values.size):
        count += values[at] < -limit or values[at] >= limit
    return count


@njit(nogil=True)
def _sum(step, tokens, values, limit, tally, nodes):  # type: ignore[no-untyped-def]
    """Sums over a group; returns how many are wider than an accumulator (if any limit), and the fault or 0."""
    begin, size, out = step[1], step[2], step[3]
    wide, fault = 0, 0
    for token in range(tokens):
        total = 0
        row = values[begin + token * size : begin + (token + 1) * size]
        for at in range(size):
            total += row[at]
        values[out + token] = total
        if limit != 0 and (total < -limit or total >= limit):
            wide += 1
            _note(tally, nodes, token, 0, 1)
        if total < -(1 << 31) or total >= 1 << 31:
            fault = MESSAGE_FAULT
    return wide, fault


@njit(nogil=True)
def _split(step, thread, threads, tokens, last_only, values, planes, matrices, scratch):  # type: ignore[no-untyped-def]
    begin, columns, digits, totals, stride = step[1], step[2], step[3], step[6], step[8]
    low, high = _share(columns, thread, threads)
    wide = 0
    for token in range(tokens):
        first = begin + token * stride
        share = values[first + low : first + high]
        for at in range(share.size):
            wide |= share[at] ^ (share[at] >> 31)
    if tokens == 1 or (last_only and step[7]):
        last = begin + (tokens - 1) * stride
        row = values[last : last + columns + 4]
        values[totals + thread] = split_vector(row, low, high, digits, planes[step[4] :])
    elif step[9] and sums_are_compiled():
        units = (columns + UNIT_COLUMNS - 1) // UNIT_COLUMNS
        some, end = units * thread // threads, units * (thread + 1) // threads
        tabulate_sums(values[begin:], tokens, columns, stride, some, end, matrices[step[5] :], scratch)
    else:
        sums = values[totals + thread * tokens : totals + (thread + 1) * tokens]
        split_matrix(values[begin:], tokens, columns, stride, low, high, digits, matrices[step[5] :], sums)
    most = SUM_BITS - 1 if step[9] else 7 if digits == 1 else 13 if digits == 2 else 27
    return ACTIVATION_FAULT if wide >> most else 0


@njit(nogil=True)
def _ternary(  # type: ignore[no-untyped-def]
    step, thread, threads, tokens, last_only, values, logits, planes, matrices, tile, scratch, limit, tally, nodes
):
    """Products with ternary weights; returns how many are wider than an accumulator."""
    rows, totals, digits = step[3], step[6], step[9]
    low, high = _share(rows, thread, threads)
    out = logits if step[8] < 0 else values[step[8] :]
    last = tokens - 1 if last_only and step[7] else 0
    if tokens == 1 or (last_only and step[7]):
        tokens, total = 1, 0
        for each in range(threads):
            total += values[totals + each]
        multiply_vector(step[1], step[2], rows, low, high, planes[step[4] :], digits, total, out, scratch)
    elif step[10] and sums_are_compiled():
        multiply_sums(step[1], step[2], rows, low, high, tokens, matrices[step[5] :], out, tile, scratch)
    else:
        multiply_matrix(
            step[1], step[2], rows, low, high, tokens, matrices[step[5] :], digits, values[totals:], threads,
            out, tile, scratch,
        )  # fmt: skip
    wide = 0
    if limit != 0:
        for token in range(tokens):
            found = _count_wide(out[token * rows + low : token * rows + high], limit)
            _note(tally, nodes, last + token, 0, found)
            wide += found
    return wide


@njit(nogil=True)
def _address(kind, place, first, at, token, own_state, values, state_memory, constants, table_memory):  # type: ignore[no-untyped-def]
    """Address of what a link means, for neurons from `first` on; `at` is the token's first neuron, `own_state`
    where the states of its sequence begin."""
    if kind == _VALUES:
        return values + 4 * (place + at + first)
    if kind == _SHARED_VALUE:
        return values + 4 * (place + token)
    if kind == _STATE:
        return state_memory + 8 * (own_state + place + first)
    if kind == _CONSTANTS:
        return constants + 8 * (place + first)
    if kind == _SHARED_CONSTANT:
        return constants + 8 * place
    if kind == _TABLE:
        return table_memory + 4 * place
    return place


@njit(nogil=True)
def _group(  # type: ignore[no-untyped-def]
    step, thread, threads, tokens, values, code, links, constants, state_memory, table_memory, sequences, memory,
    tally, nodes,
):  # fmt: skip
    """Run a program; memory[:3] receives saturations, overflows and faults."""
    size = step[1]
    first, end = _share(size, thread, threads)
    if step[6]:
        first, end = 0, 1
        if tally.size == 0:
            # One neuron without a state: its tokens are as good as neurons.
            size, end, tokens = tokens, tokens, 1
    memory[:3] = 0
    if end <= first:
        return
    buffers = values.ctypes.data, state_memory.ctypes.data, constants.ctypes.data, table_memory.ctypes.data
    addresses = memory[8:]
    begin = step[4]
    instructions = code[step[3] :].ctypes.data
    for token in range(tokens):
        clamped, wide = memory[0], memory[1]
        for number in range(begin, step[5]):
            addresses[number - begin] = _address(
                links[number, 0], links[number, 1], first, token * size, token, sequences[token], *buffers
            )
        call_program(step[2], end - first, instructions, addresses.ctypes.data, memory.ctypes.data)
        _note(tally, nodes, token, memory[0] - clamped, memory[1] - wide)


@njit(nogil=True)
def _count(step, thread, threads, tokens, values, messages):  # type: ignore[no-untyped-def]
    """Add how many elements of each token's message are not zero, in this thread's share."""
    begin, size = step[1], step[2]
    low, high = _share(size, thread, threads)
    if step[4]:
        low, high = (0, size) if thread == 0 else (0, 0)
    for token in range(tokens):
        row = values[begin + token * size + low : begin + token * size + high]
        count = 0
        for at in range(row.size):
            count += row[at] != 0
        messages[token * step[5] + step[3]] += count


@njit(nogil=True)
def _bytes(job, which):  # type: ignore[no-untyped-def]
    place = FIRST_BUFFER + 2 * which
    return carray(signed_byte_pointer(job[place]), (job[place + 1],))


@njit(nogil=True)
def _words(job, which):  # type: ignore[no-untyped-def]
    place = FIRST_BUFFER + 2 * which
    return carray(word_pointer(job[place]), (job[place + 1],))


@njit(nogil=True)
def _longs(job, which):  # type: ignore[no-untyped-def]
    place = FIRST_BUFFER + 2 * which
    return carray(long_pointer(job[place]), (job[place + 1],))


@njit(nogil=True)
def _rows(job, which, width):  # type: ignore[no-untyped-def]
    place = FIRST_BUFFER + 2 * which
    return carray(long_pointer(job[place]), (job[place + 1] // width, width))


@njit(nogil=True)
def _part(buffer, thread, threads):  # type: ignore[no-untyped-def]
    size = buffer.size // threads
    return buffer[thread * size : (thread + 1) * size]


@njit(nogil=True)
def _ask_for_weights(plan, number, thread, threads):  # type: ignore[no-untyped-def]
    """Have the memory begin with the next weights that this thread multiplies, while it does something else."""
    while number < plan.shape[0]:
        step = plan[number]
        if step[0] == _TERNARY:
            low, _ = _share(step[3], thread, threads)
            ask_for(step[1] + low * step[2])
            return
        number += 1


@njit(nogil=True)
def run_network(thread, threads, job, arrivals, yield_address):  # type: ignore[no-untyped-def]
    """Walk through a plan.

    Parameters
    ----------
    thread, threads : int64
        This thread's number, and how many run the same job.
    job : int64 array
        See `job`; of its buffers, `VALUES`, `LOGITS`, `MATRICES`, `TABLES`, `TILES`, `SCRATCH`, `MESSAGES` and
        `INCIDENTS` hold int32, `PLANES` int8 and the others int64. `SEQUENCES` says of each token where in
        `STATES` those of its sequence begin; tokens of one come in order. `LOGITS` is [tokens * V], or [V] for
        the last alone; `MEMORY`, `TILES`, `SCRATCH`, `COUNTERS`, `MESSAGES` and `INCIDENTS` have a row for each
        thread. To `COUNTERS` are added saturations and overflows, and the first fault is kept with its step. To
        `MESSAGES` are added elements that are not zero, by token and message, and to `INCIDENTS` saturations and
        overflows, by token and node.
    arrivals : int64
        Address of a counter that is zero.
    yield_address : int64
        See `memory.wait_for_all`.
    """
    tokens, last_only, strict = job[Setting.TOKENS], job[Setting.LAST_ONLY] != 0, job[Setting.STRICT] != 0
    limit = 1 << (job[Setting.ACCUMULATOR_BITS] - 1)
    rows = job[Setting.THREADS]
    plan = _rows(job, Buffer.PLAN, layout.STEP_WIDTH)
    links = _rows(job, Buffer.LINKS, 2)
    code = _rows(job, Buffer.CODE, CODE_WIDTH)
    values, logits = _words(job, Buffer.VALUES), _words(job, Buffer.LOGITS)
    planes, matrices = _bytes(job, Buffer.PLANES), _words(job, Buffer.MATRICES)
    constants, tables = _longs(job, Buffer.CONSTANTS), _words(job, Buffer.TABLES)
    states, sequences = _longs(job, Buffer.STATES), _longs(job, Buffer.SEQUENCES)
    own = _part(_longs(job, Buffer.MEMORY), thread, rows)
    tile = _part(_words(job, Buffer.TILES), thread, rows)
    scratch = _part(_words(job, Buffer.SCRATCH), thread, rows)
    counts = _part(_longs(job, Buffer.COUNTERS), thread, rows)
    messages = _part(_words(job, Buffer.MESSAGES), thread, rows)
    incidents, nodes = _part(_words(job, Buffer.INCIDENTS), thread, rows), job[Setting.NODES]
    if not strict:
        limit = 0
    barriers = 0
    _ask_for_weights(plan, 0, thread, threads)
    for number in range(plan.shape[0]):
        step = plan[number]
        kind = step[0]
        clamped, wide, fault = 0, 0, 0
        # What every thread computes alike, the first one counts.
        counting = thread == 0 or kind == _TERNARY or (kind == _GROUP and not step[6])
        tally = incidents[2 * step[NODE] :] if counting else incidents[:0]
        if kind == _BARRIER:
            if threads > 1:
                barriers += 1
                wait_for_all(arrivals, barriers * threads, yield_address)
        elif kind == _SUM:
            wide, fault = _sum(step, tokens, values, limit, tally, nodes)
            if not counting:
                wide = 0
        elif kind == _SPLIT:
            if step[9] and tokens > 1 and threads > 1:
                # A unit's columns may have been written by two threads.
                barriers += 1
                wait_for_all(arrivals, barriers * threads, yield_address)
            fault = _split(step, thread, threads, tokens, last_only, values, planes, matrices, scratch)
        elif kind == _TERNARY:
            wide = _ternary(
                step, thread, threads, tokens, last_only, values, logits, planes, matrices, tile, scratch,
                limit, tally, nodes,
            )  # fmt: skip
            _ask_for_weights(plan, number + 1, thread, threads)
        elif kind == _COUNT:
            _count(step, thread, threads, tokens, values, messages)
        else:
            _group(
                step, thread, threads, tokens, values, code, links, constants, states, tables, sequences, own,
                tally, nodes,
            )  # fmt: skip
            fault = own[2]
            if counting:
                clamped, wide = own[0], own[1]
        if clamped != 0 or wide != 0:
            counts[0] += clamped
            counts[1] += wide
        if fault != 0 and counts[2] == 0:
            counts[2] = fault
            counts[3] = number


def take_part(thread, control, job, members, patience, yield_address):  # type: ignore[no-untyped-def]
    """Lead a team through a job, or help with one.

    Parameters
    ----------
    thread : int64
        0 leads. A helper has a number of its own from 1 on, and waits for a job.
    control : int64
        Address of what the team agrees by, see `memory`.
    job : int64
        Address of the job, for the leader.
    members : int64
        How many shall do it, for the leader.
    patience : int64
        How many times to look whether the helpers are ready, or, for a helper, whether there is a job.
    yield_address : int64
        See `memory.wait_for_all`.

    Returns
    -------
    bool
        Whether the job was done: false for a leader whose helpers did not get ready. Helpers return false
        when they have waited long enough.
    """
    arrivals = control + 8 * memory.ARRIVALS
    if thread == 0:
        if not claim_helpers(control, members, patience, yield_address):
            return False
        post_job(control, job, members)
        run_network(thread, members, carray(long_pointer(job), (JOB_SIZE,)), arrivals, yield_address)
        wait_for_helpers(control, members, yield_address)
        return True
    agreed = carray(long_pointer(control), (memory.STATES,))
    while await_job(control, thread, patience, yield_address):
        posted = carray(long_pointer(agreed[memory.JOB]), (JOB_SIZE,))
        run_network(thread, agreed[memory.MEMBERS], posted, arrivals, yield_address)
    return False
