"""The recurrence h_t = f_t h_(t-1) + c_t over many tokens: as a loop, the reference, and as a parallel scan.

Both carry h in float64 and round what they return. So no order of operations shows in the result, be it of the
scan, of a text that is read in pieces, or of one behind padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW_TOKENS = 8
"""Up to so many, the loop has no more steps than the scan."""
WIDE = 4096
"""So many numbers a step keep a processor busy; then the loop, which does half the work, is the faster one."""


def recurrence(forget: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states after every token and after the last one.

    Parameters
    ----------
    forget, candidate : Tensor [B, T, C]
        f, from 0 to 1, and c; T >= 1.
    state : Tensor of float64 [B, C]
        h before the first token.

    Returns
    -------
    states : Tensor [B, T, C]
        h, in the type of `candidate`.
    last : Tensor of float64 [B, C]
    """
    busy = candidate.device.type == "cpu" and state.numel() >= WIDE
    return (loop if busy or candidate.shape[1] <= FEW_TOKENS else scan)(forget, candidate, state)


def loop(forget: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Take one token after the other (see `recurrence`)."""
    states = []
    for forget_now, candidate_now in zip(forget.unbind(1), candidate.unbind(1), strict=True):
        state = forget_now.double() * state + candidate_now.double()
        states.append(state.to(candidate.dtype))
    return torch.stack(states, 1), state


def scan(forget: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Take about sqrt(T) blocks of tokens side by side (see `recurrence`); about 3 sqrt(T) steps instead of T.

    What a block makes of its first state is that state times the product of its gates, and what it makes of zero;
    with both, the first states of all blocks follow one from the other. Gates are multiplied only, so that
    neither a gate of 0 nor one of 1 is a special case.
    """
    return _Scan.apply(forget, candidate, state)


class _Scan(torch.autograd.Function):
    """The scan, whose gradient is a scan from the last token to the first: nothing is kept but f and h."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states, last = _scan(forget, candidate, state)
        ctx.save_for_backward(forget, states, state)
        return states, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor, of_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        forget, states, state = ctx.saved_tensors
        # With g_t the gradient of h_t: g_(t-1) = f_t g_t + what comes from outside, and the last f is not used.
        next_forget = torch.cat([torch.ones_like(forget[:, :1]), forget[:, 1:].flip(1)], 1)
        flipped, of_first = _scan(next_forget, of_states.flip(1), of_last)
        of_candidate = flipped.flip(1)
        before = torch.cat([state[:, None].to(states.dtype), states[:, :-1]], 1)
        return of_candidate * before, of_candidate, forget[:, 0].double() * of_first


def _scan(forget: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The states after every token, and after the last one."""
    tokens = candidate.shape[1]
    length = math.isqrt(tokens - 1) + 1
    gates, fresh = _blocks(forget, length, 1.0), _blocks(candidate, length, 0.0)
    reached = _first_states(gates, fresh, state)
    states = torch.empty_like(fresh)
    for t, gate, added in _steps(gates, fresh):
        torch.addcmul(added, gate, reached, out=reached)
        states[:, :, t] = reached
    # A token that fills up the last block keeps the state.
    return states.flatten(1, 2)[:, :tokens], reached[:, -1].clone()


def _blocks(values: Tensor, length: int, filling: float) -> Tensor:
    """Cut [B, T, C] into [B, blocks, length, C]; the last block is filled up."""
    missing = -values.shape[1] % length
    return F.pad(values, (0, 0, 0, missing), value=filling).unflatten(1, (-1, length))


def _steps(gates: Tensor, fresh: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield every step in a block and its f and c [B, blocks, C], in two buffers that the next step overwrites."""
    gate = torch.empty_like(gates[:, :, 0], dtype=torch.float64)
    added = torch.empty_like(gate)
    for t in range(gates.shape[2]):
        yield t, gate.copy_(gates[:, :, t]), added.copy_(fresh[:, :, t])


def _first_states(gates: Tensor, fresh: Tensor, state: Tensor) -> Tensor:
    """The state [B, blocks, C] before the first token of every block."""
    kept = torch.ones_like(gates[:, :, 0], dtype=torch.float64)
    made = torch.zeros_like(kept)
    for _, gate, added in _steps(gates, fresh):
        kept *= gate
        torch.addcmul(added, gate, made, out=made)
    first = [state]
    for block in range(gates.shape[1] - 1):
        first.append(torch.addcmul(made[:, block], kept[:, block], first[-1]))
    return torch.stack(first, 1)
