"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from loihi_mmfree.evaluate.evaluation import Evaluation
from loihi_mmfree.evaluate.measures import Accuracy, Change, PairedAccuracy, PairedPerplexity, Perplexity
from loihi_mmfree.evaluate.statistics import CONFIDENCE, RESAMPLES, Interval
from loihi_mmfree.report.tables import TerminalTable
from loihi_mmfree.text import counted


def evaluation_tables(found: Evaluation) -> Iterator[TerminalTable]:
    """Give the tables of an evaluation: both models, then the paired comparison."""
    models = [(found.model.kind, found.measure)]
    if found.reference is not None and found.reference_measure is not None:
        models.append((found.reference.kind, found.reference_measure))
    measured = found.measure
    if isinstance(measured, Perplexity):
        title = (
            f"{found.path}: {counted(measured.windows, 'window')}, {counted(measured.tokens, 'predicted token')}"
        )
        columns = ("", "perplexity", f"{CONFIDENCE:.0%} interval", "loss in nats", "likeliest token right")
    else:
        title = f"{found.path}: {counted(measured.items, 'item')}, {found.protocol['layout']}"
        columns = ("", "accuracy", f"{CONFIDENCE:.0%} interval", "normed by length", f"{CONFIDENCE:.0%} interval")
    yield TerminalTable(title, columns, tuple((name, *_cells(each)) for name, each in models))
    if found.paired is not None:
        rows = _text_rows(found.paired) if isinstance(found.paired, PairedPerplexity) else _task_rows(found.paired)
        heading = ("", "value", f"{CONFIDENCE:.0%} interval")
        yield TerminalTable("Integers beside the float model, on the same tokens", heading, tuple(rows))


def evaluation_notes(found: Evaluation) -> list[str]:
    """Return how it was measured."""
    protocol = found.protocol
    if "window" in protocol:
        how = f"Windows of {protocol['window']} tokens, one every {protocol['stride']}"
        how += f"; {counted(protocol['tokens_left_out'], 'token')} of {protocol['tokens_in_text']:,} left out"
    else:
        how = f"Prompts {protocol['prompts']}"
    lines = [
        f"{how}. BOS: {protocol['bos']}.",
        f"Intervals: {RESAMPLES} resamples of windows or items, fixed seed.",
        f"Computed by: {found.model.computed_by}"
        + ("" if found.reference is None else f"; float by {found.reference.computed_by}")
        + (f"; {found.tokens_per_s:,.0f} tokens/s." if found.tokens_per_s else "; all was read back."),
    ]
    if found.model.kind == "integers":
        lines.append(f"Saturations {found.saturations:,}, overflows {found.overflows:,}.")
    return lines


def _cells(measure: Perplexity | Accuracy) -> tuple[str, ...]:
    if isinstance(measure, Perplexity):
        number = f"{measure.perplexity:.3f}"
        return number, _range(measure.perplexity_interval, ".3f"), f"{measure.loss:.4f}", f"{measure.right:.2%}"
    normed, ends = measure.accuracy_norm, measure.accuracy_norm_interval
    return (
        f"{measure.accuracy:.2%}",
        _range(measure.accuracy_interval, ".2%"),
        "-" if normed is None else f"{normed:.2%}",
        "-" if ends is None else _range(ends, ".2%"),
    )


def _text_rows(paired: PairedPerplexity) -> Iterator[tuple[str, str, str]]:
    yield "perplexity against float", f"{paired.relative:+.3%}", _range(paired.relative_interval, "+.3%")
    ends = _range(paired.loss_difference_interval, "+.2e")
    yield "loss of a token, less that of float", f"{paired.loss_difference:+.2e} nats", ends
    magnitude, rms = paired.loss_difference_magnitude, paired.loss_difference_rms
    yield (
        "its magnitude: mean, rms, largest",
        f"{magnitude:.3g}, {rms:.3g}, {paired.loss_difference_largest:.3g}",
        "",
    )
    yield "same likeliest token", f"{paired.top1_agreement:.2%}", ""
    yield "KL divergence from float", f"{paired.kl_divergence:.2e} nats", ""


def _task_rows(paired: PairedAccuracy) -> Iterator[tuple[str, str, str]]:
    changes = [("accuracy", paired.accuracy), ("normed accuracy", paired.accuracy_norm)]
    for name, change in changes:
        if change is not None:
            yield from _change_rows(name, change)
    yield "same answer", f"{paired.same_answer:.2%}", ""
    yield "same likeliest token", f"{paired.top1_agreement:.2%}", ""
    yield "KL divergence from float", f"{paired.kl_divergence:.2e} nats", ""


def _change_rows(name: str, change: Change) -> Iterator[tuple[str, str, str]]:
    yield f"{name}, less that of float", f"{change.difference:+.2%}", _range(change.difference_interval, "+.2%")
    yield f"{name}: right by one only, integers and float", f"{change.only_integers}, {change.only_float}", ""
    yield f"{name}: McNemar's exact p", f"{change.mcnemar_p:.3g}", ""


def _range(ends: Interval, form: str) -> str:
    low, high = ends
    return f"{low:{form}} to {high:{form}}"
