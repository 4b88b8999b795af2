"""Runs assembled neuron programs: one compiled loop for every instruction, over chunks that stay in the cache."""

from __future__ import annotations

from numba import njit

from loihi_mmfree.fixedpoint.kernels.assemble import Code

CHUNK = 128
"""Neurons that go through a program together."""
TABLE_FAULT = 1
SHIFT_FAULT = 2
MESSAGE_FAULT = 3
"""What an instruction can meet that the interval proof excludes."""

_INPUT, _STATE, _ADD, _SUB, _MUL = map(int, (Code.INPUT, Code.STATE, Code.ADD, Code.SUB, Code.MUL))
_LEFT, _RIGHT, _RIGHT_BY = map(int, (Code.SHIFT_LEFT, Code.SHIFT_RIGHT, Code.SHIFT_RIGHT_BY))
_HIGH, _LOW, _ABSOLUTE = map(int, (Code.HIGH_BITS, Code.LOW_BITS, Code.ABSOLUTE))
_MIN, _MAX, _SATURATE, _SELECT, _LERP = map(int, (Code.MIN, Code.MAX, Code.SATURATE, Code.SELECT, Code.LERP))
_EXPONENT, _MANTISSA, _TABLE, _STORE, _SEND = map(
    int, (Code.EXPONENT, Code.MANTISSA, Code.TABLE, Code.STORE, Code.SEND)
)


@njit(nogil=True)
def _even_exponent(value, bits):  # type: ignore[no-untyped-def]
    if value <= 0:
        return 0
    length = 0
    for step in (32, 16, 8, 4, 2, 1):
        if value >> step > 0:
            value >>= step
            length += step
    excess = length + 1 - bits
    return excess + (excess & 1)


@njit(nogil=True)
def _mantissa(value, bits):  # type: ignore[no-untyped-def]
    exponent = _even_exponent(value, bits)
    if exponent < 0:
        value <<= -exponent
    elif exponent > 0:
        value = (value + (1 << (exponent - 1))) >> exponent
    return min(value, (1 << bits) - 1)


@njit(nogil=True)
def _count_overflows(values, bits):  # type: ignore[no-untyped-def]
    wide = 0
    for at in range(values.size):
        wide |= values[at] ^ (values[at] >> 63)
    if wide >> (bits - 1) == 0:
        return 0
    limit, count = 1 << (bits - 1), 0
    for at in range(values.size):
        count += values[at] < -limit or values[at] >= limit
    return count


@njit(nogil=True)
def evaluate(code, immediate, z, x, y, w):  # type: ignore[no-untyped-def]
    """Run one instruction of plain arithmetic.

    Parameters
    ----------
    code, immediate : int64
    z : int64 array [n]
        The target; no operand shares its memory.
    x, y, w : int64 arrays [n]
        The operands.

    Returns
    -------
    (int64, int64)
        Number of values clamped, and the fault met or 0.
    """
    n = z.size
    clamped, fault = 0, 0
    if code == _ADD:
        for at in range(n):
            z[at] = x[at] + y[at]
    elif code == _SUB:
        for at in range(n):
            z[at] = x[at] - y[at]
    elif code == _MUL:
        for at in range(n):
            z[at] = x[at] * y[at]
    elif code == _LEFT:
        for at in range(n):
            z[at] = x[at] << immediate
    elif code == _RIGHT:
        half = (1 << immediate) >> 1
        for at in range(n):
            z[at] = (x[at] + half) >> immediate
    elif code == _RIGHT_BY:
        wrong = 0
        for at in range(n):
            wrong |= y[at]
            distance = y[at] & 63
            z[at] = (x[at] + ((1 << distance) >> 1)) >> distance
        fault = SHIFT_FAULT if wrong & ~63 else 0
    elif code == _HIGH:
        for at in range(n):
            z[at] = x[at] >> immediate
    elif code == _LOW:
        mask = (1 << immediate) - 1
        for at in range(n):
            z[at] = x[at] & mask
    elif code == _ABSOLUTE:
        for at in range(n):
            z[at] = abs(x[at])
    elif code == _MIN:
        for at in range(n):
            z[at] = min(x[at], y[at])
    elif code == _MAX:
        for at in range(n):
            z[at] = max(x[at], y[at])
    elif code == _SATURATE:
        limit = (1 << (immediate - 1)) - 1
        for at in range(n):
            z[at] = min(max(x[at], -limit), limit)
            clamped += x[at] != z[at]
    elif code == _SELECT:
        for at in range(n):
            z[at] = y[at] if x[at] >= 0 else w[at]
    elif code == _LERP:
        one, half = 1 << immediate, (1 << immediate) >> 1
        for at in range(n):
            z[at] = (x[at] * y[at] + (one - x[at]) * w[at] + half) >> immediate
    elif code == _EXPONENT:
        for at in range(n):
            z[at] = _even_exponent(x[at], immediate)
    elif code == _MANTISSA:
        for at in range(n):
            z[at] = _mantissa(x[at], immediate)
    return clamped, fault


@njit(nogil=True)
def _look_up(table, x, z):  # type: ignore[no-untyped-def]
    last = table.size - 1
    lowest, highest = x[0], x[0]
    for at in range(x.size):
        lowest, highest = min(lowest, x[at]), max(highest, x[at])
    if lowest < 0 or highest > last:
        for at in range(x.size):
            z[at] = 0
        return TABLE_FAULT
    for at in range(x.size):
        z[at] = table[x[at]]
    return 0


@njit(nogil=True)
def _send(x, out):  # type: ignore[no-untyped-def]
    wide = 0
    for at in range(x.size):
        wide |= x[at] ^ (x[at] >> 63)
        out[at] = x[at]
    return MESSAGE_FAULT if wide >> 31 else 0


@njit(nogil=True)
def run_chunk(  # type: ignore[no-untyped-def]
    code,
    registers,
    size,
    first,
    token,
    inputs,
    outputs,
    states,
    tables,
    values,
    state_memory,
    table_memory,
    strict,
):
    """Run a program for neurons first..first+n of one token.

    Parameters
    ----------
    code : int64 array [instructions, WIDTH]
    registers : int64 array [registers, n]
        The fixed ones are filled.
    size, first, token : int64
        Neurons of the group, first neuron of the chunk, token.
    inputs, outputs : int64 arrays [ports, 2]
        Where a port's values begin in `values`, and how many a token has (1: the same for all neurons).
    states : int64 array [states]
        Where a state begins in `state_memory`.
    tables : int64 array [tables, 2]
        Begin and length in `table_memory`.
    values : int32 array
    state_memory : int64 array
    table_memory : int32 array
    strict : bool
        Count values that are wider than their register.

    Returns
    -------
    (int64, int64, int64)
        Saturations, overflows, fault or 0.
    """
    n = registers.shape[1]
    saturations, overflows, fault = 0, 0, 0
    for number in range(code.shape[0]):
        row = code[number]
        kind, operand = row[0], row[2]
        z = registers[row[1]]
        if kind == _INPUT:
            begin, width = inputs[operand, 0], inputs[operand, 1]
            if width == size:
                source = values[begin + token * width + first : begin + token * width + first + n]
                for at in range(n):
                    z[at] = source[at]
            else:
                z[:] = values[begin + token * width]
        elif kind == _STATE:
            begin = states[operand] + first
            z[:] = state_memory[begin : begin + n]
        elif kind == _STORE:
            begin = states[operand] + first
            state_memory[begin : begin + n] = registers[row[3]]
            continue
        elif kind == _SEND:
            begin = outputs[operand, 0] + token * size + first
            fault = max(fault, _send(registers[row[3]], values[begin : begin + n]))
            continue
        elif kind == _TABLE:
            begin, length = tables[operand, 0], tables[operand, 1]
            fault = max(fault, _look_up(table_memory[begin : begin + length], registers[row[3]], z))
        else:
            clamped, met = evaluate(kind, row[5], z, registers[operand], registers[row[3]], registers[row[4]])
            saturations += clamped
            fault = max(fault, met)
        if strict:
            overflows += _count_overflows(z, row[6])
    return saturations, overflows, fault
