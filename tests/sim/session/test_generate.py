"""Runs as streams of tokens: what they give, what they keep, and what is left when they end."""

from __future__ import annotations

import gc
import hashlib
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.errors import SimulationError, UsageError
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend, TakeLogits
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.session.generate import TokenStream, check_ids
from loihi_mmfree.sim.session.sampling import Sampler

PROMPT = [1, 5, 9, 17, 3]


@pytest.mark.parametrize("backend", ["engine", "sim"])
def test_a_run_and_a_stream_give_the_same(tiny_net: Net, backend: str) -> None:
    pytest.importorskip("lava.magma", reason="Lava is not installed")
    run = loihi_mmfree.run(tiny_net, PROMPT, 6, backend=backend, stop_at_end_of_text=False)
    with loihi_mmfree.stream(tiny_net, PROMPT, 6, backend=backend, stop_at_end_of_text=False) as stream:
        tokens = list(stream)
    assert tuple(token.id for token in tokens) == run.new_ids
    assert "".join(token.text or "" for token in tokens) == run.text
    assert stream.result().logits_sha256 == run.logits_sha256
    assert stream.result().steps == run.steps


def test_logits_are_kept_only_where_they_are_asked_for(tiny_net: Net) -> None:
    plain = loihi_mmfree.run(tiny_net, PROMPT, 4, backend="engine")
    kept = loihi_mmfree.run(tiny_net, PROMPT, 4, backend="engine", logits=True)
    assert plain.logits is None
    assert kept.logits is not None
    expected = Engine(tiny_net.graph).process(np.array(kept.ids))
    np.testing.assert_array_equal(kept.logits, expected)
    digest = hashlib.sha256(expected.astype("<i4").tobytes()).hexdigest()
    assert plain.logits_sha256 == kept.logits_sha256 == digest


def test_text_as_a_prompt_is_its_ids(tiny_net: Net) -> None:
    tokenizer = loihi_mmfree.tokenizer(tiny_net)
    assert tokenizer is not None
    as_text = loihi_mmfree.run(tiny_net, "Once", 3, backend="engine")
    as_ids = loihi_mmfree.run(tiny_net, tokenizer.encode("Once"), 3, backend="engine")
    assert (as_text.logits_sha256, as_text.text) == (as_ids.logits_sha256, as_ids.text)
    whole = tokenizer.decode((*as_text.prompt_ids, *as_text.new_ids))
    assert tokenizer.decode(as_text.prompt_ids) + str(as_text.text) == whole


class Recorded(Backend):
    """An engine that notes whether it is open, and may fail at a call."""

    logit_scale, steps, counters = 1.0, 0, Counters()

    def __init__(self, net: Net, failing_call: int = 0) -> None:
        self._engine, self.open, self._calls, self._failing = Engine(net.graph), True, 0, failing_call

    def read(self, ids: np.ndarray, take: TakeLogits | None = None) -> np.ndarray:
        self._calls += 1
        if self._calls == self._failing:
            raise KeyboardInterrupt
        return self._engine.read(ids, take)

    def close(self) -> None:
        self.open = False


class Wide(Backend):
    """A network with so many logits that one could not overlook that they were kept."""

    logit_scale, steps, counters = 1.0, 0, Counters()

    def read(self, ids: np.ndarray, take: TakeLogits | None = None) -> np.ndarray:
        logits = np.zeros((1, 20_000), dtype=np.int32)
        for _ in ids:
            if take is not None:
                take(logits)
        return logits[0]

    def close(self) -> None:
        """Release nothing."""


def test_a_run_keeps_nothing_that_grows_but_ids() -> None:
    tracemalloc.start()
    stream = TokenStream(Wide(), np.zeros(500, dtype=np.int64), 500, Sampler())
    assert len(list(stream)) == 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20  # All logits would take 80 MB.


def stream_of(backend: Backend, new_tokens: int = 10) -> TokenStream:
    return TokenStream(backend, np.array(PROMPT), new_tokens, Sampler())


def test_closing_a_stream_releases_everything_and_keeps_what_was_done(tiny_net: Net) -> None:
    backend = Recorded(tiny_net)
    stream = stream_of(backend)
    first = [next(stream).id, next(stream).id]
    stream.close()
    stream.close()
    assert not backend.open
    assert stream.result().new_ids == tuple(first)
    assert list(stream) == []


def test_a_stream_that_is_forgotten_releases_everything(tiny_net: Net) -> None:
    backend = Recorded(tiny_net)
    stream = stream_of(backend)
    next(stream)
    del stream
    gc.collect()
    assert not backend.open


@pytest.mark.parametrize("call", [1, 3])
def test_an_interrupt_releases_everything_and_leaves_no_result(tiny_net: Net, call: int) -> None:
    backend = Recorded(tiny_net, failing_call=call)
    stream = stream_of(backend)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert not backend.open
    with pytest.raises(SimulationError, match="failed"):
        stream.result()


def test_a_run_ends_its_threads(tiny_net: Net) -> None:
    before = threading.active_count()
    for _ in range(3):
        loihi_mmfree.run(tiny_net, PROMPT, 2, backend="engine")
    assert threading.active_count() == before


def test_time_that_the_caller_takes_is_not_the_runs(tiny_net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("loihi_mmfree.sim.session.generate.time.perf_counter", lambda: clock[0])
    stream = stream_of(Recorded(tiny_net), 5)
    for _ in stream:
        clock[0] += 100
    assert stream.result().decode_seconds == 0


@pytest.mark.parametrize("ids", [[10**30], [1, -1], [512], [2**63]])
def test_ids_of_any_size_outside_the_vocabulary_are_named(ids: list[int]) -> None:
    with pytest.raises(UsageError, match=f"token ids {ids[-1]} are outside the vocabulary 0..511"):
        check_ids(ids, 512)


def test_a_long_prompt_holds_a_piece_of_its_logits(tiny_net: Net) -> None:
    largest: list[int] = []
    stream = TokenStream(
        Engine(tiny_net.graph), np.arange(400) % 512, 1, Sampler(), take=lambda piece: largest.append(piece.nbytes)
    )
    assert len(list(stream)) == 1
    assert sum(largest) == 400 * 512 * 4
    assert max(largest) <= 64 * 512 * 4


def test_logits_out_is_there_only_when_the_run_ends_well(tiny_net: Net, tmp_path: Path) -> None:
    def stop(token: loihi_mmfree.Token) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "logits.npz"
    out.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt):
        loihi_mmfree.run(tiny_net, PROMPT, 4, backend="engine", on_token=stop, logits_out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["logits.npz"]
    assert out.read_bytes() == b"earlier"
    result = loihi_mmfree.run(tiny_net, PROMPT, 4, backend="engine", logits=True, logits_out=out)
    with np.load(out) as written:
        np.testing.assert_array_equal(written["logits"], result.logits)
        assert written["ids"].tolist() == list(result.ids)
        assert float(written["scale"]) == result.logit_scale


@pytest.mark.parametrize("kernels", ["compiled", "numpy"])
def test_histograms_need_no_new_weights_for_a_token(
    tiny_net: Net, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loihi_mmfree.ir.synapses import TernarySynapse

    unpacked: list[str] = []
    weights = TernarySynapse.weights
    monkeypatch.setattr(
        TernarySynapse, "weights", lambda node, tensors: unpacked.append(node.name) or weights(node, tensors)
    )
    result = loihi_mmfree.run(
        tiny_net, PROMPT, 5, backend="engine", kernels=kernels, activity=True, histograms=True
    )
    assert result.activity is not None
    assert result.activity.histograms
    assert len(unpacked) == len(set(unpacked)) > 0


@pytest.mark.parametrize("several", [True, False])
def test_generation_ends_at_any_of_the_tokens_that_end_a_text(
    tiny_net: Net, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    whole = loihi_mmfree.run(tiny_net, PROMPT, 12, backend="engine", stop_at_end_of_text=False).new_ids
    third = whole[2]
    unseen = next(token for token in range(tiny_net.vocab_size) if token not in whole)
    # As the manifest of a network has it: one id, or a list.
    monkeypatch.setitem(tiny_net.manifest["model"], "eos_token_id", [unseen, third] if several else third)
    ended = loihi_mmfree.run(tiny_net, PROMPT, 12, backend="engine").new_ids
    assert ended == whole[: whole.index(third) + 1]
