"""Generation ends where the checkpoint says that texts end."""

from __future__ import annotations

import pytest

from loihi_mmfree import api
from loihi_mmfree.net.artifact import Net


@pytest.mark.parametrize("several", [True, False])
def test_generation_ends_at_any_of_the_tokens_that_end_a_text(
    tiny_net: Net, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    prompt = [1, 2, 3]
    whole = api.run(tiny_net, prompt, 12, backend="engine", stop_at_end_of_text=False).new_ids
    third = whole[2]
    unseen = next(token for token in range(tiny_net.vocab_size) if token not in whole)
    # As the manifest of a network has it: one id, or a list.
    monkeypatch.setitem(tiny_net.manifest["model"], "eos_token_id", [unseen, third] if several else third)
    ended = api.run(tiny_net, prompt, 12, backend="engine").new_ids
    assert ended == whole[: whole.index(third) + 1]
    assert api.run(tiny_net, prompt, 12, backend="engine", stop_at_end_of_text=False).new_ids == whole
