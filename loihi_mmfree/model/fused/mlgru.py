"""The MLGRU from pre-activations to states on a GPU: gates, recurrence and their gradient.

Tokens are cut into chunks. One kernel takes every chunk from a state of zero; another begins each with its true
state, which it makes from what the chunks before it made of theirs. The gradient goes the same way, from the last
token to the first. States are carried in float64, as `model.recurrence` carries them, so that no cut shows in what
is rounded.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from loihi_mmfree.model.fused.kernels.mlgru import summarise, summarise_backward, walk, walk_backward
from loihi_mmfree.model.fused.products import Scaled
from loihi_mmfree.model.fused.sizes import EXACT

SHORTEST_CHUNK = 64
_CHANNELS = 64


class Recurrence(NamedTuple):
    """What a run over time gives.

    Parameters
    ----------
    states : Tensor of float32 [B, T, C]
        h after every token.
    last : Tensor of float64 [B, C]
    first : Tensor of float64 [B, chunks, C]
        h before every chunk, from which the states can be computed again in one pass.
    """

    states: Tensor
    last: Tensor
    first: Tensor


class Gradients(NamedTuple):
    """Gradients of what a run over time was given.

    Parameters
    ----------
    i, f : Tensor [B, T, C]
        Of the pre-activations, times the scale of their row where they have one; in the type of their values.
    lower_bound : Tensor of float32 [C] or None
    state : Tensor of float64 [B, C]
    """

    i: Tensor
    f: Tensor
    lower_bound: Tensor | None
    state: Tensor


class Gates(NamedTuple):
    """What the gates of a layer are computed from.

    Parameters
    ----------
    i, f : Scaled [B, T, C]
        Contiguous pre-activations.
    lower_bound, mask : Tensor or None
        As in `layers.MlGru`.
    """

    i: Scaled
    f: Scaled
    lower_bound: Tensor | None
    mask: Tensor | None


def mlgru(
    i: Tensor, f: Tensor, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Do what `layers.MlGru` does, with its parameters; the states are of float32."""
    with torch.cuda.device_of(f):
        return _MlGru.apply(i.contiguous(), f.contiguous(), lower_bound, state, mask)


class _MlGru(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, i: Tensor, f: Tensor, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        found = run(Gates(Scaled(i), Scaled(f), lower_bound, mask), state)
        ctx.save_for_backward(i, f, lower_bound, mask, found.states, found.first)
        ctx.has_state = state is not None
        return found.states, found.last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor, of_last: Tensor) -> tuple[Tensor | None, ...]:
        i, f, lower_bound, mask, states, first = ctx.saved_tensors
        gates = Gates(Scaled(i), Scaled(f), lower_bound, mask)
        found = run_backward(gates, states, first, of_states, of_last)
        return found.i, found.f, found.lower_bound, found.state if ctx.has_state else None, None


def run(gates: Gates, state: Tensor | None) -> Recurrence:
    """Return the states of all tokens, from the state of float64 [B, C] before the first; None is zero."""
    batch, tokens, channels = gates.f.values.shape
    chunks = triton.cdiv(tokens, chunk_of(tokens))
    first = torch.empty((batch, chunks, channels), dtype=torch.float64, device=gates.f.values.device)
    kept, made = _summaries(summarise, gates, first)
    return _walked(gates, first, kept, made, None if state is None else state.contiguous(), again=False)


def run_again(gates: Gates, first: Tensor) -> Recurrence:
    """Return the states once more, from those before every chunk."""
    return _walked(gates, first, None, None, None, again=True)


def run_backward(gates: Gates, states: Tensor, first: Tensor, of_states: Tensor, of_last: Tensor) -> Gradients:
    """Return the gradients of what `run` was given.

    Parameters
    ----------
    gates : Gates
        As given to `run`.
    states, first : Tensor
        As `run` returned them.
    of_states : Tensor [B, T, C]
        Gradient of the states.
    of_last : Tensor of float64 [B, C]
        Gradient of the last state, beside that.
    """
    of_states, of_last = of_states.contiguous(), of_last.contiguous()
    kept, made = _summaries(summarise_backward, gates, first, of_states)
    found = Gradients(
        torch.empty_like(gates.i.values),
        torch.empty_like(gates.f.values),
        None if gates.lower_bound is None else torch.empty_like(first, dtype=torch.float32),
        torch.empty_like(of_last),
    )
    given = kept, made, states, first, of_states, of_last
    _launch(walk_backward, gates, *given, *found, linked=kept is not None)
    return found if found.lower_bound is None else found._replace(lower_bound=found.lower_bound.sum((0, 1)))


def chunk_of(tokens: int) -> int:
    """Return how many tokens one program walks through: about as many as there are chunks, or more."""
    return max(SHORTEST_CHUNK, triton.next_power_of_2(math.isqrt(tokens)))


def _summaries(kernel: Any, gates: Gates, first: Tensor, *given: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What every chunk keeps and makes, [B, chunks, C]; of a single one nobody asks."""
    if first.shape[1] == 1:
        return None, None
    kept, made = torch.empty_like(first), torch.empty_like(first)
    _launch(kernel, gates, *given, kept, made)
    return kept, made


def _walked(
    gates: Gates, first: Tensor, kept: Tensor | None, made: Tensor | None, state: Tensor | None, again: bool
) -> Recurrence:
    states = torch.empty_like(gates.f.values, dtype=torch.float32)
    last = torch.empty_like(first[:, 0])
    options = {"from_state": state is not None, "again": again, "linked": kept is not None}
    _launch(walk, gates, kept, made, state, first, states, last, **options)
    return Recurrence(states, last, first)


def _launch(kernel: Any, gates: Gates, *given: Tensor | None, **options: bool) -> None:
    batch, tokens, channels = gates.f.values.shape
    length = chunk_of(tokens)
    chunks = triton.cdiv(tokens, length)
    kernel[batch * chunks, triton.cdiv(channels, _CHANNELS)](
        *gates.i, *gates.f, gates.lower_bound, gates.mask, *given, tokens, channels, chunks,
        scaled=gates.f.rows is not None, bounded=gates.lower_bound is not None, masked=gates.mask is not None,
        length=length, lanes=_CHANNELS, num_warps=1, **options, **EXACT,
    )  # fmt: skip
