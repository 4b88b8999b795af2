"""On the shipped checkpoints, the torch backend gives the logits of the engine, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.sampling import Sampler


@pytest.mark.parametrize("name", ["tiny_net", "demo_net"])
@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_a_run_has_the_same_tokens_logits_and_counts(
    request: pytest.FixtureRequest, name: str, temperature: float
) -> None:
    net: Net = request.getfixturevalue(name)
    prompt = np.random.default_rng(0).integers(0, net.vocab_size, 40).tolist()
    torch, engine = (
        loihi_mmfree.run(
            net, prompt, 4, sampler=Sampler(temperature, seed=11), stop_at_end_of_text=False, logits=True, **where
        )
        for where in ({"backend": "torch", "device": "cpu"}, {"backend": "engine"})
    )
    assert torch.new_ids == engine.new_ids
    assert torch.logits_sha256 == engine.logits_sha256
    assert (torch.saturations, torch.overflows) == (engine.saturations, engine.overflows)
    np.testing.assert_array_equal(torch.logits, engine.logits)
