"""The parallel scan against the loop, which is the definition, and both against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from loihi_mmfree.model.layers import MlGru
from loihi_mmfree.model.recurrence import FEW_TOKENS, loop, recurrence, scan

LENGTHS = [1, 2, 3, 4, 9, 10, 16, 63, 512]
both = pytest.mark.parametrize("run", [loop, scan])


def drawn(tokens, gates=(0.0, 1.0), dtype=torch.float32, batch=2, channels=16):
    """Gates within bounds, candidates and a first state."""
    random = torch.Generator().manual_seed(tokens)
    low, high = gates
    forget = low + (high - low) * torch.rand(batch, tokens, channels, generator=random, dtype=dtype)
    candidate = torch.randn(batch, tokens, channels, generator=random, dtype=dtype)
    state = torch.randn(batch, channels, generator=random, dtype=torch.float64)
    return forget, candidate, state


@both
def test_three_tokens_worked_out_by_hand(run):
    forget = torch.tensor([0.5, 0.25, 1.0])[None, :, None]
    candidate = torch.tensor([1.0, 0.0, -2.0])[None, :, None]
    states, last = run(forget, candidate, torch.tensor([[4.0]], dtype=torch.float64))
    assert states.flatten().tolist() == [3.0, 0.75, -1.25]
    assert last.tolist() == [[-1.25]]


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("gates", [(0, 1), (0, 0), (1, 1), (0, 1e-30), (1 - 1e-7, 1)], ids=str)
def test_the_scan_gives_the_states_of_the_loop_bit_for_bit(tokens, gates):
    given = drawn(tokens, gates)
    (states, last), (expected, expected_last) = scan(*given), loop(*given)
    assert states.dtype == torch.float32
    assert torch.equal(states, expected)
    torch.testing.assert_close(last, expected_last, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_scan_has_the_gradient_of_the_loop(tokens):
    gradients = []
    for run in (scan, loop):
        given = [each.requires_grad_() for each in drawn(tokens)]
        states, last = run(*given)
        gradients.append(torch.autograd.grad((states.square().sum(), last.sum()), given))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 5, 10])
def test_the_gradient_of_the_scan_is_that_of_finite_differences(tokens):
    given = [each.requires_grad_() for each in drawn(tokens, dtype=torch.float64, batch=1, channels=2)]
    assert torch.autograd.gradcheck(scan, given)


@pytest.mark.parametrize("cut", [1, FEW_TOKENS, 100])
def test_a_text_in_two_pieces_gives_the_states_of_the_whole_bit_for_bit(cut):
    forget, candidate, state = drawn(200)
    whole, _ = recurrence(forget, candidate, state)
    first, between = recurrence(forget[:, :cut], candidate[:, :cut], state)
    second, _ = recurrence(forget[:, cut:], candidate[:, cut:], between)
    assert torch.equal(torch.cat([first, second], 1), whole)


@pytest.mark.parametrize("run", [loop, scan])
@pytest.mark.parametrize("left", [0, 7])
def test_padding_on_either_side_changes_no_state(monkeypatch, run, left):
    monkeypatch.setattr("loihi_mmfree.model.layers.recurrence", run)
    i, f, state = drawn(40, (-4, 4))
    tokens = slice(left, left + 33)
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[:, tokens] = True
    states, last = MlGru()(i, f, None, state, mask)
    # As one piece of memory: of a view, torch computes sigmoids with another routine.
    alone, last_alone = MlGru()(i[:, tokens].contiguous(), f[:, tokens].contiguous(), None, state)
    assert torch.equal(states[:, tokens], alone)
    torch.testing.assert_close(last, last_alone, rtol=1e-13, atol=1e-13)
    assert torch.equal(states[:, :left], state.float()[:, None].expand(-1, left, -1))
