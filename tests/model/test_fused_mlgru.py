"""The MLGRU's kernels against a loop in float64: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from loihi_mmfree.model.fused import mlgru as kernels
from loihi_mmfree.model.fused.mlgru import mlgru
from loihi_mmfree.model.layers import MlGru

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """So that few tokens are many chunks."""
    monkeypatch.setattr(kernels, "SHORTEST_CHUNK", 4)


def given(batch, tokens, channels, bounded=True, from_state=True, masked=False):
    """Pre-activations, lower bound, state and mask."""
    random = torch.Generator().manual_seed(tokens)

    def draw(*shape, dtype=torch.float32):
        return torch.randn(*shape, generator=random, dtype=dtype).to(DEVICE)

    i, f = draw(batch, tokens, channels), draw(batch, tokens, channels)
    bound = draw(channels).sigmoid() if bounded else None
    state = draw(batch, channels, dtype=torch.float64) if from_state else None
    mask = draw(batch, tokens) > -0.5 if masked else None
    return i, f, bound, state, mask


def in_float64(i, f, bound, state, mask):
    """The equations, one token after the other."""
    h = torch.zeros_like(i[:, 0]) if state is None else state
    low = 0.0 if bound is None else bound
    states = []
    for t in range(i.shape[1]):
        forget = low + (1 - low) / (1 + torch.exp(-f[:, t]))
        new = forget * h + (1 - forget) * i[:, t] / (1 + torch.exp(-i[:, t]))
        h = new if mask is None else torch.where(mask[:, t, None], new, h)
        states.append(h)
    return torch.stack(states, 1), h


@pytest.mark.parametrize(
    ("shape", "variant"),
    [
        ((1, 1, 3), {}),
        ((1, 5, 67), {}),
        ((2, 9, 5), {"bounded": False, "from_state": False}),
        ((2, 9, 5), {"masked": True}),
    ],
    ids=str,
)
def test_states_and_gradients_are_those_of_a_loop_in_float64(shape, variant):
    drawn = given(*shape, **variant)
    results = []
    for run, cast in ((mlgru, lambda x: x), (in_float64, torch.Tensor.double)):
        inputs = [x if x is None or x.dtype == torch.bool else cast(x).clone().requires_grad_() for x in drawn]
        states, last = run(*inputs)
        asked = [x for x in inputs if x is not None and x.requires_grad]
        weights = torch.linspace(-1, 2, states.numel(), device=DEVICE).view(states.shape)
        results.append([states, last, *torch.autograd.grad([(states * weights).sum() + last.sum()], asked)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5)


def test_a_text_in_two_pieces_gives_the_states_of_the_whole_bit_for_bit():
    i, f, bound, state, _ = given(1, 11, 5)
    whole, whole_last = mlgru(i, f, bound, state, None)
    first, between = mlgru(i[:, :5], f[:, :5], bound, state, None)
    second, last = mlgru(i[:, 5:], f[:, 5:], bound, between, None)
    assert torch.equal(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, whole_last, rtol=1e-13, atol=1e-13)


def test_padding_changes_no_state():
    i, f, bound, state, _ = given(1, 11, 5)
    mask = torch.zeros(1, 11, dtype=torch.bool, device=DEVICE)
    mask[:, 2:8] = True
    states, _ = mlgru(i, f, bound, state, mask)
    alone, _ = mlgru(i[:, 2:8], f[:, 2:8], bound, state, None)
    assert torch.equal(states[:, 2:8], alone)


def test_the_module_without_kernels_gives_the_same_to_the_last_bits_of_a_sigmoid():
    drawn = [x if x is None else x.cpu() for x in given(2, 9, 5, masked=True)]
    states, last = mlgru(*(x if x is None else x.to(DEVICE) for x in drawn))
    expected, expected_last = MlGru()(*drawn)
    torch.testing.assert_close(states.cpu(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(last.cpu(), expected_last, rtol=1e-5, atol=1e-6)
