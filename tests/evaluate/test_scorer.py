"""Scores of every token: the reference's, the integers', and both paired, whatever is scored together."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import OutOfMemoryError
from loihi_mmfree.evaluate.opening import open_model
from loihi_mmfree.evaluate.readers import BackendReader, DeviceMemoryError, FloatReader, _device_memory
from loihi_mmfree.evaluate.rows import log_softmax
from loihi_mmfree.evaluate.scorer import ReadingScorer
from loihi_mmfree.evaluate.texts import Text
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.model.perplexity import perplexity, token_losses
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine

TEXTS = [
    Text(np.random.default_rng(seed).integers(512, size=length), first)
    for seed, (length, first) in enumerate([(40, 1), (2, 1), (90, 70), (17, 16), (65, 1)])
]


def numbers(scores):
    """Everything that was found of some texts."""
    rows = [each for score in scores for each in (score.rows, score.paired and score.paired.rows)]
    found = [(row.losses.tolist(), row.top.tolist()) for row in rows if row is not None]
    return found, [score.paired.divergences.tolist() for score in scores if score.paired is not None]


def expected(logits, text):
    """Losses and likeliest tokens of a text, from all of its logits."""
    predicting = logits[text.first - 1 : -1]
    return token_losses(predicting, text.ids[text.first :]), predicting.argmax(-1)


def test_the_float_model_gives_the_losses_of_the_reference_bit_for_bit(real, float_logits):
    for text, score in zip(TEXTS, real.scorer.score(TEXTS), strict=True):
        losses, top = expected(float_logits(text.ids), text)
        np.testing.assert_array_equal(score.rows.losses, losses)
        np.testing.assert_array_equal(score.rows.top, top)


def test_the_float_model_gives_the_perplexity_of_the_reference(real, float_logits):
    ids = np.random.default_rng(7).integers(512, size=96)
    windows = [Text(ids[begin : begin + 32]) for begin in (0, 32, 64)]
    losses = np.concatenate([score.rows.losses for score in real.scorer.score(windows)])
    assert math.exp(losses.mean()) == perplexity(float_logits, ids, window=32)


def test_the_integers_give_the_losses_of_the_specification_bit_for_bit(integers, tiny_net):
    engine = Engine(tiny_net.graph)
    for text, score in zip(TEXTS, integers.scorer.score(TEXTS), strict=True):
        engine.reset()
        losses, top = expected(engine.process(text.ids) * engine.logit_scale, text)
        np.testing.assert_array_equal(score.rows.losses, losses)
        np.testing.assert_array_equal(score.rows.top, top)


def test_the_torch_backend_gives_the_same_numbers(integers, tiny_net):
    with_torch = open_model(tiny_net, backend="torch", device="cpu")
    assert numbers(with_torch.scorer.score(TEXTS[:4])) == numbers(integers.scorer.score(TEXTS[:4]))


@pytest.mark.parametrize("model", ["integers", "real", "both"])
def test_numbers_do_not_depend_on_what_is_scored_together(model, request):
    scorer = request.getfixturevalue(model).scorer
    one_by_one = [score for text in TEXTS for score in scorer.score([text])]
    assert numbers(scorer.score(TEXTS)) == numbers(one_by_one)


def test_the_pair_gives_what_each_gives_alone(integers, real, both):
    for pair, left, right in zip(*(model.scorer.score(TEXTS) for model in (both, integers, real)), strict=True):
        assert numbers([dataclasses.replace(pair, paired=None)]) == numbers([left])
        np.testing.assert_array_equal(pair.paired.rows.losses, right.rows.losses)
        np.testing.assert_array_equal(pair.paired.rows.top, right.rows.top)


def test_divergence_is_that_of_pytorch_over_all_logits(both, tiny_net, float_logits):
    engine = Engine(tiny_net.graph)
    found = engine.process(TEXTS[0].ids) * engine.logit_scale
    real = torch.from_numpy(float_logits(TEXTS[0].ids)).double().log_softmax(-1)
    pointwise = torch.nn.functional.kl_div(
        torch.from_numpy(found).log_softmax(-1), real, reduction="none", log_target=True
    )
    (score,) = both.scorer.score(TEXTS[:1])
    np.testing.assert_allclose(score.paired.divergences, pointwise.sum(-1)[:-1], rtol=1e-9)


def test_saturations_are_those_of_the_engine(tiny_net):
    engine = Engine(tiny_net.graph, strict=True)
    for text in TEXTS:
        engine.reset()
        engine.read(text.ids[:-1], lambda piece: None)
    opened = open_model(tiny_net, backend="engine")
    opened.scorer.score(TEXTS)
    assert opened.scorer.counters == engine.counters
    opened.close()


def test_rows_on_a_gpu_are_summed_up_in_an_order_that_the_width_alone_decides():
    """The same code on tensors of the processor: against NumPy, and row by row."""
    logits = np.random.default_rng(3).normal(size=(9, 37)) * 5
    together = log_softmax(torch.from_numpy(logits), 0.5)
    np.testing.assert_allclose(together.numpy(), log_softmax(logits, 0.5), rtol=1e-13)
    for row in range(9):
        assert torch.equal(together[row : row + 1], log_softmax(torch.from_numpy(logits[row : row + 1]), 0.5))


class TensorReader(BackendReader):
    """An engine that gives its logits as tensors, as a GPU's are given."""

    def read(self, texts, take):
        super().read(texts, lambda logits, *rest: take(torch.from_numpy(logits.copy()), *rest))


def test_logits_in_tensors_give_the_numbers_of_those_in_arrays(both, tiny_net, tiny_checkpoint):
    """All that runs on a GPU, on the processor's tensors; the sums of rows have another order there."""
    reference = FloatReader(MatMulFreeLM.from_checkpoint(open_checkpoint(tiny_checkpoint)))
    reference._on_gpu = True
    scorer = ReadingScorer(TensorReader(FastEngine(tiny_net.graph, strict=True)), reference)
    for found, expected in zip(scorer.score(TEXTS), both.scorer.score(TEXTS), strict=True):
        for mine, other in ((found.rows, expected.rows), (found.paired.rows, expected.paired.rows)):
            np.testing.assert_allclose(mine.losses, other.losses, rtol=1e-12)
            np.testing.assert_array_equal(mine.top, other.top)
        np.testing.assert_allclose(found.paired.divergences, expected.paired.divergences, rtol=1e-9)
    assert numbers(scorer.score(TEXTS)) == numbers([each for text in TEXTS for each in scorer.score([text])])


class SmallMemory(BackendReader):
    """An engine that, as a GPU may, has memory for so many texts only."""

    def __init__(self, graph, most):
        super().__init__(FastEngine(graph, strict=True))
        self.most, self.asked = most, []

    def read(self, texts, take):
        self.asked.append(len(texts))
        if len(texts) > self.most:
            # Part of them was read by then.
            super().read(texts[: self.most], take)
            raise DeviceMemoryError("CUDA out of memory")
        super().read(texts, take)


def test_where_memory_is_small_half_as_many_are_read_from_then_on_with_the_same_numbers(integers, tiny_net):
    reader = SmallMemory(tiny_net.graph, most=2)
    scorer = ReadingScorer(reader)
    before = integers.scorer.counters
    plain = integers.scorer.score(TEXTS)
    assert numbers(scorer.score(TEXTS)) == numbers(plain)
    assert scorer.counters == integers.scorer.counters.since(before)
    assert scorer.most == 2
    reader.asked.clear()
    scorer.score(TEXTS)
    assert reader.asked == [2, 2, 1]


def test_memory_that_is_too_small_for_one_text_is_an_error(tiny_net):
    with pytest.raises(OutOfMemoryError, match="a text of 40 tokens alone: CUDA out of memory; choose a shorter"):
        ReadingScorer(SmallMemory(tiny_net.graph, most=0)).score(TEXTS[:1])


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("Triton Error: out of memory")],
)
def test_memory_of_a_gpu_runs_out_in_several_words(error):
    with pytest.raises(DeviceMemoryError), _device_memory():
        raise error


def test_other_errors_of_a_device_stay_what_they_are():
    with pytest.raises(RuntimeError, match="illegal"), _device_memory():
        raise RuntimeError("illegal instruction")


def test_the_float_reader_does_not_read_the_last_token(real, tiny_checkpoint):
    """Nobody asks for what follows it."""
    seen = []
    reader = real.scorer._reader
    assert isinstance(reader, FloatReader)
    reader.read(TEXTS[:2], lambda logits, texts, positions: seen.extend(zip(texts, positions, strict=True)))
    assert seen == [(0, position) for position in range(39)] + [(1, 0)]
