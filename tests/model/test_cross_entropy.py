"""The loss in chunks against the loss of all logits at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)

from loihi_mmfree.model import cross_entropy
from loihi_mmfree.model.cross_entropy import IGNORED, next_token_loss
from loihi_mmfree.model.ternary import BitLinear


@pytest.fixture
def head() -> BitLinear:
    torch.manual_seed(0)
    head = BitLinear(24, 31)
    torch.nn.init.normal_(head.weight)
    torch.nn.init.normal_(head.norm.weight, mean=1.0)
    return head


def of_all_logits(head, hidden, labels, count=None):
    """As transformers takes it."""
    losses = F.cross_entropy(head(hidden)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    return losses / ((labels[:, 1:] != IGNORED).sum() if count is None else count)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("count", [None, 7])
def test_loss_and_gradients_are_those_of_all_logits_at_once(monkeypatch, head, rows, count):
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", rows * 31 * 4)
    hidden = torch.randn(2, 9, 24, requires_grad=True)
    labels = torch.randint(31, (2, 9))
    labels[0, 4:6] = IGNORED
    results = []
    for loss_of in (next_token_loss, of_all_logits):
        loss = loss_of(head, hidden, labels, count)
        results.append([loss, *torch.autograd.grad(3 * loss, (hidden, head.weight, head.norm.weight))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_loss_without_gradients_computes_none(head):
    with torch.no_grad():
        loss = next_token_loss(head, torch.randn(2, 5, 24), torch.randint(31, (2, 5)))
    assert not loss.requires_grad


def test_where_nothing_is_to_be_predicted_the_loss_is_none(head):
    assert next_token_loss(head, torch.randn(1, 5, 24), torch.full((1, 5), IGNORED)).isnan()
