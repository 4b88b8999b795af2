"""A report as tables for a terminal; every number says where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loihi_mmfree.activity.file import RECORDING
from loihi_mmfree.cost.core_cycles import ASSUMED_MEGAHERTZ, FORMULA
from loihi_mmfree.cost.model import PHASES
from loihi_mmfree.cost.quantity import Quantity, format_number, with_unit
from loihi_mmfree.report.document import NOT_MODELLED, Report

MANUAL_PAGE = "reports.md of the documentation, which `loihi-mmfree doctor` finds"
"""Where a reader of a report learns more; the page may be read on another machine than it was made on."""
_RESULTS = (
    ("throughput", "tokens_per_s", "tokens/s"),
    ("energy a token, chips in use", "millijoules_per_token", "mJ"),
    ("power", "watts", "W"),
)


@dataclass(frozen=True)
class TerminalTable:
    """Title, columns, rows: all text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: Report) -> Iterator[TerminalTable]:
    """Give the tables of a report, the most important first."""
    yield _results(report)
    yield _zeros(report)
    if report.per_token:
        yield _spread(report)
    yield _sessions(report)
    yield _comparison(report)
    yield left_out_table(report)
    if report.cores:
        yield _cores(report)
    yield _sensitivity(report)
    yield validation_table(report)
    if report.sweep:
        yield _sweep(report)


def notes(report: Report) -> list[str]:
    """Return what a reader of the numbers has to know."""
    lines = []
    if not report.recorded:
        lines.append(
            "No activity is recorded for this network: the numbers assume the worst case, every message sent. "
            f"{RECORDING} records it."
        )
    residual = f"{report.residual.value:+.1%}"
    lines.append(
        "Modelled: scaled costs of Loihi 1, fitted to three published numbers of one system. Its throughput of "
        f"generating, which is not fitted, comes out {residual} from the published one; the form of the model "
        f"was chosen knowing it, and other plausible forms miss it by more ({MANUAL_PAGE})."
    )
    lines.append(
        f"Ranges: each parameter of {report.inputs['parameters']} at its ends, fitted anew; of energy also by the "
        "energies that others measured of PilotNet, which divide otherwise into static and dynamic. They are no "
        "confidence intervals: prefill of the published 370M, and its energies, are what is fitted to, so a "
        "network of its shape comes near them by construction, and a narrow range there is no certainty."
    )
    steady = format_number(report.prediction.prefill.tokens_per_s)
    lines.append(
        "Beside published systems, this network's prefill includes the steps in which the pipeline fills and "
        f"empties, and comes nearer to {steady} tokens/s the longer the prompt is; the published figures of "
        "Loihi 2, the same at every length, seem to leave these steps out."
    )
    return [*lines, *report.sweep_left_out, "Not in the model: " + "; ".join(NOT_MODELLED) + "."]


def _results(report: Report) -> TerminalTable:
    rows = []
    for name, attribute, unit in _RESULTS:
        cells = []
        for phase in PHASES:
            each = report.quantity(phase, attribute, unit)
            low, high = each.inputs["range"]
            cells.append(
                f"{format_number(each.value)} {unit} ({format_number(low)} to {format_number(high)} {unit})"
            )
        rows.append((name, *cells, "modelled"))
    others = [report.other_energy(phase) for phase in PHASES]
    rows.append(("energy a token, by the energies of PilotNet", *map(_with_unit, others), "modelled"))
    boards = [each for each in map(report.board_energy, PHASES) if each is not None]
    if boards:
        rows.append(("energy a token, whole board", *map(_with_unit, boards), "modelled"))
    shares = (getattr(report.prediction, phase).main_shares for phase in PHASES)
    waits = (", ".join(f"{what} {share:.0%}" for what, share in each.items()) for each in shares)
    rows.append(("what the time goes to", *waits, "modelled"))
    chips = f"{report.workload.cores} cores, chips: {report.workload.chips}"
    return TerminalTable(
        f"{report.about['net']} on Loihi 2, {chips}", ("", "prefill", "generate", "source"), tuple(rows)
    )


def _with_unit(quantity: Quantity) -> str:
    return f"{format_number(quantity.value)} {quantity.unit}"


def _as_stated(quantity: Quantity | None) -> str:
    """A published number has the digits that were published, no more and no less."""
    if quantity is None:
        return "-"
    return f"{quantity.value:,}" if quantity.source == "published" else format_number(quantity.value)


def _zeros(report: Report) -> TerminalTable:
    source = "measured" if report.recorded else "worst case"
    rows = tuple(
        (kind, f"{share:.1%}", f"{report.published.zeros[kind]:.1%}" if kind in report.published.zeros else "-")
        for kind, share in report.zeros.items()
    )
    columns = ("input of", f"this network ({source})", "370M at 8 bit (published)")
    return TerminalTable(f"Zeros, which send nothing; {report.activity.origin}", columns, rows)


def _spread(report: Report) -> TerminalTable:
    rows = tuple(
        (what.replace("_", " "), *(f"{each.value:,.0f}" for each in report.spread(what).values()), "measured")
        for what in report.per_token
    )
    origin, tokens = report.activity.origin, f"{report.activity.tokens:,} tokens"
    title = f"Activity of a token, counted in simulation ({origin}) over {tokens}, without what the host computes"
    return TerminalTable(title, ("", "least", "median", "greatest", "source"), rows)


def _sessions(report: Report) -> TerminalTable:
    rows = tuple(
        (
            f"{each.prompt_tokens} + {each.new_tokens}",
            f"{format_number(each.seconds)} s",
            f"{format_number(each.joules)} J",
            f"{format_number(1e3 * each.joules_per_token)} mJ",
            f"{format_number(1e3 * each.joules_per_output_token)} mJ",
            "-" if each.board_joules is None else f"{format_number(each.board_joules)} J",
        )
        for each in report.sessions
    )
    columns = ("tokens read + generated", "time", "energy", "a token", "a generated token", "whole board")
    return TerminalTable("Sessions (modelled)", columns, rows)


def _comparison(report: Report) -> TerminalTable:
    rows = tuple(
        (
            row.system,
            row.model,
            "-" if row.tokens is None else str(row.tokens),
            *(
                _as_stated(each)
                for each in (
                    row.generate_tokens_per_s,
                    row.generate_millijoules,
                    row.prefill_tokens_per_s,
                    row.prefill_millijoules,
                )
            ),
            row.origin,
        )
        for row in report.comparison
    )
    columns = (
        "hardware",
        "model",
        "tokens",
        "generate, tokens/s",
        "mJ a token",
        "prefill, tokens/s",
        "mJ a token",
        "source",
    )
    return TerminalTable(f"Beside published systems ({report.published.citation})", columns, rows)


def left_out_table(report: Report) -> TerminalTable:
    """Return the published systems whose figures leave something out, with what, and where they are published."""
    rows = tuple(
        (
            row.hardware,
            row.model,
            "-" if row.lanes is None else str(row.lanes),
            row.leaves_out,
            str(row.generate_tokens_per_s.inputs["citation"]),
        )
        for row in report.comparison
        if row.leaves_out
    )
    columns = ("hardware", "model", "lanes", "left out, or not known", "citation")
    return TerminalTable("What published figures of accelerators leave out", columns, rows)


def _cores(report: Report) -> TerminalTable:
    rows = tuple(
        (
            str(row.size.weights_per_cycle),
            str(row.size.lanes),
            f"{row.cycles.value:,}",
            f"{row.blocks_cycles.value:,}",
            f"{row.utilisation.value:.0%}",
            format_number(row.tokens_per_s.value),
        )
        for row in report.cores
    )
    columns = (
        "weights a cycle",
        "lanes",
        "cycles a token",
        "without the head",
        "of these, weights are taken in",
        f"tokens/s at {ASSUMED_MEGAHERTZ} MHz (assumed)",
    )
    return TerminalTable(f"As a core in RTL (cycles: {FORMULA}; no stream held back)", columns, rows)


def _sensitivity(report: Report) -> TerminalTable:
    rows = []
    for row in report.sensitivity:
        ends = [row.low, row.high]
        speed = (format_number(end.generate.tokens_per_s) if end else "no fit" for end in ends)
        prefill = (format_number(end.prefill.tokens_per_s) if end else "no fit" for end in ends)
        energy = (format_number(end.generate.millijoules_per_token) if end else "no fit" for end in ends)
        rows.append(
            (
                row.name,
                with_unit(f"{row.low_value:g} to {row.high_value:g}", row.unit),
                *(" to ".join(each) for each in (speed, energy, prefill)),
                row.confidence,
            )
        )
    columns = (
        "parameter",
        "range",
        "generate, tokens/s",
        "generate, mJ a token",
        "prefill, tokens/s",
        "confidence",
    )
    return TerminalTable("What the uncertain parameters move (modelled)", columns, tuple(rows))


def validation_table(report: Report) -> TerminalTable:
    """Return the networks of others, as measured and as modelled."""
    rows = tuple(
        (
            validation.network.title,
            each.quantity,
            f"{format_number(each.measured)} {each.unit}",
            f"{format_number(each.modelled)} {each.unit}",
            f"{each.residual:+.1%}",
        )
        for validation in report.validations
        for each in validation.quantities
    )
    columns = ("network", "quantity", "published", "modelled", "residual")
    return TerminalTable("The model held against networks that others measured on Loihi 2", columns, rows)


def _sweep(report: Report) -> TerminalTable:
    rows = tuple(
        (
            row.label,
            str(row.chips),
            *(
                cell
                for phase in reversed(PHASES)
                for cell in (
                    format_number(row.tokens_per_s[phase]) + (" *" if row.best[phase] else ""),
                    format_number(row.millijoules[phase]),
                )
            ),
        )
        for row in report.sweep
    )
    columns = ("variation", "chips", "generate, tokens/s", "mJ a token", "prefill, tokens/s", "mJ a token")
    title = "Variations (modelled; * no other choice is faster for less energy; hypothetical ones take no part)"
    return TerminalTable(title, columns, rows)
