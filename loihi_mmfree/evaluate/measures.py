"""From sums of texts to what is reported: perplexity and accuracy, of one model and of two on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.evaluate.records import Sums
from loihi_mmfree.evaluate.statistics import Interval, interval, mcnemar, perplexity, resampled_sums
from loihi_mmfree.evaluate.tasks import Question


@dataclass(frozen=True)
class Perplexity:
    """How well a text was predicted.

    Parameters
    ----------
    perplexity : float
        exp of the mean negative log likelihood of a predicted token.
    perplexity_interval : pair of float
        By resampling windows.
    loss : float
        That mean, in nats.
    right : float
        Share of the tokens that were the likeliest.
    tokens, windows : int
        Predicted tokens, and windows that hold them.
    """

    perplexity: float
    perplexity_interval: Interval
    loss: float
    right: float
    tokens: int
    windows: int


@dataclass(frozen=True)
class PairedPerplexity:
    """The integers beside the float model, on the same tokens.

    Parameters
    ----------
    relative : float
        Perplexity of the integers over that of the float model, less 1.
    relative_interval : pair of float
        By resampling windows.
    loss_difference : float
        Mean of the loss of a token, integers less float, in nats.
    loss_difference_interval : pair of float
    loss_difference_magnitude, loss_difference_rms, loss_difference_largest : float
        Of the difference of single tokens: mean magnitude, root of the mean square, largest magnitude.
    top1_agreement : float
        Share of the tokens for which both have the same likeliest one.
    kl_divergence : float
        Mean Kullback-Leibler divergence of the integers' prediction from the float model's, in nats a token.
    """

    relative: float
    relative_interval: Interval
    loss_difference: float
    loss_difference_interval: Interval
    loss_difference_magnitude: float
    loss_difference_rms: float
    loss_difference_largest: float
    top1_agreement: float
    kl_divergence: float


@dataclass(frozen=True)
class Accuracy:
    """How many items were answered rightly.

    Parameters
    ----------
    accuracy : float
        By the log likelihood of the answers.
    accuracy_interval : pair of float
        By resampling items.
    accuracy_norm : float, optional
        By the log likelihood of an answer over its characters; not where an answer has none of its own.
    accuracy_norm_interval : pair of float, optional
    items : int
    """

    accuracy: float
    accuracy_interval: Interval
    accuracy_norm: float | None
    accuracy_norm_interval: Interval | None
    items: int


@dataclass(frozen=True)
class Change:
    """Answers of the integers beside those of the float model.

    Parameters
    ----------
    difference : float
        Accuracy of the integers less that of the float model.
    difference_interval : pair of float
        By resampling items.
    only_integers, only_float : int
        Items that one answered rightly and the other did not.
    mcnemar_p : float
        Exact, two-sided: how likely so unequal numbers are, were both as good.
    """

    difference: float
    difference_interval: Interval
    only_integers: int
    only_float: int
    mcnemar_p: float


@dataclass(frozen=True)
class PairedAccuracy:
    """The integers beside the float model, on the same items.

    Parameters
    ----------
    accuracy : Change
    accuracy_norm : Change, optional
    same_answer : float
        Share of the items of which both choose the same answer; of completions, on which both agree whether it is
        theirs.
    top1_agreement, kl_divergence : float
        As in `PairedPerplexity`, over the tokens of all answers.
    """

    accuracy: Change
    accuracy_norm: Change | None
    same_answer: float
    top1_agreement: float
    kl_divergence: float


def measure_text(windows: Sequence[Sums]) -> Perplexity:
    """Return the perplexity of windows, in their order."""
    tokens = sum(each.tokens for each in windows)
    loss = math.fsum(each.loss for each in windows) / tokens
    drawn = resampled_sums(np.array([(each.loss, each.tokens) for each in windows]))
    low, high = interval(drawn[:, 0] / drawn[:, 1])
    right = sum(each.right for each in windows) / tokens
    return Perplexity(perplexity(loss), (perplexity(low), perplexity(high)), loss, right, tokens, len(windows))


def mean_difference(differences: Sequence[float], tokens: Sequence[int]) -> tuple[float, Interval]:
    """Return the mean difference in loss of a token, in nats, and its interval by resampling windows.

    Parameters
    ----------
    differences : sequence of float
        Of the loss of each window.
    tokens : sequence of int
        Predicted tokens of each window.
    """
    drawn = resampled_sums(np.array([*zip(differences, tokens, strict=True)]))
    return math.fsum(differences) / sum(tokens), interval(drawn[:, 0] / drawn[:, 1])


def compare_text(windows: Sequence[Sums]) -> PairedPerplexity:
    """Return how the integers differ from the float model on windows that both have read."""
    tokens = sum(each.tokens for each in windows)
    pairs = [each.beside for each in windows if each.beside is not None]
    differences = [each.loss - pair.loss for each, pair in zip(windows, pairs, strict=True)]
    mean, (low, high) = mean_difference(differences, [each.tokens for each in windows])
    return PairedPerplexity(
        relative=math.expm1(mean),
        relative_interval=(math.expm1(low), math.expm1(high)),
        loss_difference=mean,
        loss_difference_interval=(low, high),
        loss_difference_magnitude=math.fsum(each.absolute for each in pairs) / tokens,
        loss_difference_rms=math.sqrt(math.fsum(each.squares for each in pairs) / tokens),
        loss_difference_largest=max(each.largest for each in pairs),
        top1_agreement=sum(each.same for each in pairs) / tokens,
        kl_divergence=math.fsum(each.divergence for each in pairs) / tokens,
    )


Answers = Sequence[tuple[Sums, ...]]
"""Sums of the texts of each item."""


def measure_task(questions: Sequence[Question], answers: Answers) -> Accuracy:
    """Return the accuracy over items."""
    plain = _right(questions, answers)
    normed = _right_normed(questions, answers)
    accuracy_norm = None if normed is None else float(normed.mean())
    return Accuracy(
        accuracy=float(plain.mean()),
        accuracy_interval=_mean_interval(plain),
        accuracy_norm=accuracy_norm,
        accuracy_norm_interval=None if normed is None else _mean_interval(normed),
        items=len(questions),
    )


def compare_task(questions: Sequence[Question], answers: Answers) -> PairedAccuracy:
    """Return how the integers differ from the float model on items that both have answered."""
    others = [tuple(text.reference for text in texts) for texts in answers]
    normed, others_normed = _right_normed(questions, answers), _right_normed(questions, others)
    pairs = [(text.tokens, text.beside) for texts in answers for text in texts if text.beside is not None]
    tokens = sum(count for count, _ in pairs)
    same = [_choice(mine) == _choice(other) for mine, other in zip(answers, others, strict=True)]
    return PairedAccuracy(
        accuracy=_change(_right(questions, answers), _right(questions, others)),
        accuracy_norm=None if normed is None or others_normed is None else _change(normed, others_normed),
        same_answer=sum(same) / len(same),
        top1_agreement=sum(pair.same for _, pair in pairs) / tokens,
        kl_divergence=math.fsum(pair.divergence for _, pair in pairs) / tokens,
    )


def _choice(texts: tuple[Sums, ...], lengths: tuple[int, ...] | None = None) -> int:
    """The answer that is the likeliest, the first of several; 0 is the continuation of a text, -1 another one."""
    if len(texts) == 1:
        return 0 if texts[0].right == texts[0].tokens else -1
    by = [1] * len(texts) if lengths is None else lengths
    scores = [-text.loss / length for text, length in zip(texts, by, strict=True)]
    return scores.index(max(scores))


def _right(questions: Sequence[Question], answers: Answers) -> NDArray[np.float64]:
    """1 for each item that was answered rightly, else 0."""
    pairs = zip(questions, answers, strict=True)
    return np.array([float(_choice(texts) == question.gold) for question, texts in pairs])


def _right_normed(questions: Sequence[Question], answers: Answers) -> NDArray[np.float64] | None:
    if any(question.lengths is None for question in questions):
        return None
    pairs = zip(questions, answers, strict=True)
    return np.array([float(_choice(texts, question.lengths) == question.gold) for question, texts in pairs])


def _mean_interval(values: NDArray[np.float64]) -> Interval:
    return interval(resampled_sums(values[:, None])[:, 0] / len(values))


def _change(integers: NDArray[np.float64], real: NDArray[np.float64]) -> Change:
    only_integers, only_float = int((integers > real).sum()), int((real > integers).sum())
    return Change(
        difference=float((integers - real).mean()),
        difference_interval=_mean_interval(integers - real),
        only_integers=only_integers,
        only_float=only_float,
        mcnemar_p=mcnemar(only_integers, only_float),
    )
