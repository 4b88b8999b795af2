"""The main promise: on the shipped checkpoints, Lava gives the logits of the engine, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.generate import RunResult
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import Tokenizer

TEXT = (
    "It was a dark night, and the old man sat by the fire. He said nothing for a long time, and then he told "
    "the story of his life: how he had gone to sea, how the ship was lost in a storm off the coast, and how he "
    "came home after many years to find that nobody knew his name. The boy listened, and did not ask a question."
)
NEW_TOKENS = 3
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=["tiny_net", "demo_net"])
def net(request: pytest.FixtureRequest) -> Net:
    """Both shipped checkpoints, compiled with the default settings."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Net)
    return found


def _prompt(net: Net, length: int) -> list[int]:
    assert net.tokenizer_path is not None
    ids = Tokenizer(net.tokenizer_path).encode(TEXT)
    assert len(ids) >= length
    return ids[:length]


def _sampler(sampled: bool) -> Sampler:
    return Sampler(temperature=1.2, top_k=40, top_p=0.9, seed=11) if sampled else Sampler()


def _run(net: Net, length: int, sampled: bool, **where: str) -> RunResult:
    return loihi_mmfree.run(
        net,
        _prompt(net, length),
        NEW_TOKENS,
        sampler=_sampler(sampled),
        stop_at_end_of_text=False,
        **where,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("granularity", ["operator", "block", "network"])
@pytest.mark.parametrize(
    ("length", "sampled"), [(1, False), (2, False), (17, False), (64, False), (2, True), (17, True)]
)
def test_lava_gives_the_logits_of_the_engine(net: Net, granularity: str, length: int, sampled: bool) -> None:
    engine = _run(net, length, sampled, backend="engine")
    lava = _run(net, length, sampled, backend="sim", granularity=granularity)
    assert lava.logits_sha256 == engine.logits_sha256
    assert lava.new_ids == engine.new_ids
    assert lava.overflows == engine.overflows == 0


def test_at_operator_granularity_a_prompt_is_pipelined_and_generation_falls_through(net: Net) -> None:
    depth = net.manifest["depth_steps"]
    lava = _run(net, 17, False, backend="sim", granularity="operator")
    assert lava.steps == (17 + depth) + (NEW_TOKENS - 1) * (1 + depth)


@pytest.mark.parametrize(("name", "least_agreement"), [("mmf-tiny", 0.95), ("mmf-demo", 0.95)])
def test_the_integers_choose_nearly_every_token_that_upstream_chooses(
    request: pytest.FixtureRequest, name: str, least_agreement: float
) -> None:
    net = request.getfixturevalue("tiny_net" if name == "mmf-tiny" else "demo_net")
    agreements = []
    with np.load(ROOT / "data" / name / "golden.npz") as golden:
        for prompt in "abc":
            ids, logits = golden[f"{prompt}/input_ids"].reshape(-1), golden[f"{prompt}/logits"]
            found = loihi_mmfree.run(net, ids, 0, backend="engine", logits=True).logits
            agreements.append(found.argmax(axis=1) == logits.reshape(len(ids), -1).argmax(axis=1))
    assert np.concatenate(agreements).mean() >= least_agreement
