"""Kernels of the MLGRU. A program walks through one chunk of one text, for some channels that lie together."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import sigmoid, swish


@triton.jit
def _place(tokens, channels, chunks, length: tl.constexpr, lanes: tl.constexpr):
    """Return the rows from the first of a chunk to behind its last, its text and number, and the channels."""
    part = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * lanes + tl.arange(0, lanes)
    text, chunk = part // chunks, part % chunks
    begin = text * tokens + chunk * length
    end = text * tokens + tl.minimum(tokens, (chunk + 1) * length)
    return begin, end, text, chunk, channel, channel < channels


@triton.jit
def _load(values, rows, row, channels, channel, inside, scaled: tl.constexpr):
    """Return the channels of a row as they are, and its scale."""
    value = tl.load(values + row * channels + channel, mask=inside, other=0).to(tl.float32)
    scale = tl.load(rows + row) if scaled else 1.0
    return value, scale


@triton.jit
def _bound_of(lower_bound, channel, inside, bounded: tl.constexpr):
    if bounded:
        bound = tl.load(lower_bound + channel, mask=inside, other=0)
    else:
        bound = tl.zeros_like(channel).to(tl.float32)
    return bound


@triton.jit
def _is_token(mask, row, masked: tl.constexpr):
    token = tl.load(mask + row) != 0 if masked else tl.full((), 1, tl.int1)
    return token


@triton.jit
def _gate(f, bound, token):
    """Return the forget gate; what is no token forgets nothing."""
    return tl.where(token, bound + (1 - bound) * sigmoid(f), 1.0)


@triton.jit
def _step(i, f, h, bound, token):
    """Return the forget gate and the next state, in float64."""
    forget = _gate(f, bound, token)
    open_gate, _ = swish(i)
    candidate = open_gate * (1 - forget)
    forget = forget.to(tl.float64)
    return forget, tl.fma(forget, h, candidate.to(tl.float64))


@triton.jit
def summarise(
    i, i_rows, i_scale, f, f_rows, f_scale, lower_bound, mask, kept, made, tokens, channels, chunks,
    scaled: tl.constexpr, bounded: tl.constexpr, masked: tl.constexpr, length: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """How much of its first state a chunk keeps, and what it makes of zero, [B, chunks, C]."""
    begin, end, text, chunk, channel, inside = _place(tokens, channels, chunks, length, lanes)
    bound = _bound_of(lower_bound, channel, inside, bounded)
    i_factor = tl.load(i_scale) if scaled else 1.0
    f_factor = tl.load(f_scale) if scaled else 1.0
    keeps = tl.full([lanes], 1, tl.float64)
    makes = tl.zeros([lanes], tl.float64)
    for row in range(begin, end):
        i_value, i_row = _load(i, i_rows, row, channels, channel, inside, scaled)
        f_value, f_row = _load(f, f_rows, row, channels, channel, inside, scaled)
        token = _is_token(mask, row, masked)
        forget, makes = _step(i_value * (i_row * i_factor), f_value * (f_row * f_factor), makes, bound, token)
        keeps *= forget
    place = (text * chunks + chunk) * channels + channel
    tl.store(kept + place, keeps, mask=inside)
    tl.store(made + place, makes, mask=inside)


@triton.jit
def walk(
    i, i_rows, i_scale, f, f_rows, f_scale, lower_bound, mask, kept, made, state, first, states, last,
    tokens, channels, chunks, from_state: tl.constexpr, again: tl.constexpr, linked: tl.constexpr,
    scaled: tl.constexpr, bounded: tl.constexpr, masked: tl.constexpr, length: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """The states of a chunk, from its first state: as it was found before, or from the chunks before it."""
    begin, end, text, chunk, channel, inside = _place(tokens, channels, chunks, length, lanes)
    bound = _bound_of(lower_bound, channel, inside, bounded)
    i_factor = tl.load(i_scale) if scaled else 1.0
    f_factor = tl.load(f_scale) if scaled else 1.0
    first_place = (text * chunks + chunk) * channels + channel
    if again:
        h = tl.load(first + first_place, mask=inside, other=0)
    else:
        h = tl.zeros([lanes], tl.float64)
        if from_state:
            h = tl.load(state + text * channels + channel, mask=inside, other=0)
        if linked:
            for before in range(text * chunks, text * chunks + chunk):
                keeps = tl.load(kept + before * channels + channel, mask=inside, other=0)
                h = tl.fma(keeps, h, tl.load(made + before * channels + channel, mask=inside, other=0))
        tl.store(first + first_place, h, mask=inside)
    i_next, i_row_next = _load(i, i_rows, begin, channels, channel, inside, scaled)
    f_next, f_row_next = _load(f, f_rows, begin, channels, channel, inside, scaled)
    for row in range(begin, end):
        i_value = i_next * (i_row_next * i_factor)
        f_value = f_next * (f_row_next * f_factor)
        # Asked for before this token is stored, since the compiler may not move a load before a store.
        following = tl.minimum(row + 1, end - 1)
        i_next, i_row_next = _load(i, i_rows, following, channels, channel, inside, scaled)
        f_next, f_row_next = _load(f, f_rows, following, channels, channel, inside, scaled)
        _, h = _step(i_value, f_value, h, bound, _is_token(mask, row, masked))
        tl.store(states + row * channels + channel, h.to(tl.float32), mask=inside)
    if chunk == chunks - 1:
        tl.store(last + text * channels + channel, h, mask=inside)


@triton.jit
def summarise_backward(
    i, i_rows, i_scale, f, f_rows, f_scale, lower_bound, mask, of_states, kept, made, tokens, channels, chunks,
    scaled: tl.constexpr, bounded: tl.constexpr, masked: tl.constexpr, length: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """How much of the gradient behind a chunk reaches the state before it, and what the chunk adds to that."""
    begin, end, text, chunk, channel, inside = _place(tokens, channels, chunks, length, lanes)
    bound = _bound_of(lower_bound, channel, inside, bounded)
    f_factor = tl.load(f_scale) if scaled else 1.0
    keeps = tl.full([lanes], 1, tl.float64)
    makes = tl.zeros([lanes], tl.float64)
    for step in range(0, end - begin):
        row = end - 1 - step
        f_value, f_row = _load(f, f_rows, row, channels, channel, inside, scaled)
        outer = tl.load(of_states + row * channels + channel, mask=inside, other=0).to(tl.float64)
        forget = _gate(f_value * (f_row * f_factor), bound, _is_token(mask, row, masked)).to(tl.float64)
        keeps *= forget
        makes = forget * (makes + outer)
    place = (text * chunks + chunk) * channels + channel
    tl.store(kept + place, keeps, mask=inside)
    tl.store(made + place, makes, mask=inside)


@triton.jit
def walk_backward(
    i, i_rows, i_scale, f, f_rows, f_scale, lower_bound, mask, kept, made, states, first, of_states, of_last,
    of_i, of_f, of_bound, of_state, tokens, channels, chunks, linked: tl.constexpr,
    scaled: tl.constexpr, bounded: tl.constexpr, masked: tl.constexpr, length: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """The gradients of a chunk, from that of the state behind it, which comes from the chunks behind."""
    begin, end, text, chunk, channel, inside = _place(tokens, channels, chunks, length, lanes)
    bound = _bound_of(lower_bound, channel, inside, bounded)
    i_factor = tl.load(i_scale) if scaled else 1.0
    f_factor = tl.load(f_scale) if scaled else 1.0
    carried = tl.load(of_last + text * channels + channel, mask=inside, other=0)
    if linked:
        for step in range(1, chunks - chunk):
            behind = ((text + 1) * chunks - step) * channels + channel
            keeps = tl.load(kept + behind, mask=inside, other=0)
            carried = tl.fma(keeps, carried, tl.load(made + behind, mask=inside, other=0))
    first_place = (text * chunks + chunk) * channels + channel
    before_chunk = tl.load(first + first_place, mask=inside, other=0).to(tl.float32)
    of_bounds = tl.zeros([lanes], tl.float32)
    for step in range(0, end - begin):
        row = end - 1 - step
        place = row * channels + channel
        i_value, i_row = _load(i, i_rows, row, channels, channel, inside, scaled)
        f_value, f_row = _load(f, f_rows, row, channels, channel, inside, scaled)
        outer = tl.load(of_states + place, mask=inside, other=0).to(tl.float64)
        before = tl.load(states + place - channels, mask=inside & (row > begin), other=0)
        before = tl.where(row > begin, before, before_chunk)
        token = _is_token(mask, row, masked)
        i_value *= i_row * i_factor
        f_value *= f_row * f_factor
        open_gate, slope = swish(i_value)
        sigma = sigmoid(f_value)
        forget = tl.where(token, bound + (1 - bound) * sigma, 1.0)
        of_h = carried + outer
        carried = forget.to(tl.float64) * of_h
        of_candidate = tl.where(token, of_h.to(tl.float32), 0.0)
        of_forget = of_candidate * (before - open_gate)
        of_bounds += of_forget * (1 - sigma)
        found_i = of_candidate * (1 - forget) * slope
        found_f = of_forget * (1 - bound) * sigma * (1 - sigma)
        tl.store(of_i + place, (found_i * i_row).to(of_i.dtype.element_ty), mask=inside)
        tl.store(of_f + place, (found_f * f_row).to(of_f.dtype.element_ty), mask=inside)
    if bounded:
        tl.store(of_bound + first_place, of_bounds, mask=inside)
    if chunk == 0:
        tl.store(of_state + text * channels + channel, carried, mask=inside)
