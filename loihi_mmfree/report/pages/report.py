"""What the page of `report` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loihi_mmfree.cost.comparison import THIS_NETWORK, ComparisonRow
from loihi_mmfree.cost.model import PHASES, Prediction
from loihi_mmfree.cost.quantity import Quantity, format_number, with_unit
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.document import NOT_MODELLED, Report
from loihi_mmfree.report.pages.activity import activity_context
from loihi_mmfree.report.pages.chip_map import LEVELS, chip_map
from loihi_mmfree.report.pages.figures import (
    ParetoPoint,
    Series,
    Span,
    choice_sample,
    pareto_plot,
    sample,
    series_plot,
    shares_plot,
    span_plot,
)
from loihi_mmfree.report.pages.svg import Html
from loihi_mmfree.report.pages.tables import NOTE, NUMBER, TEXT, Fact, Table, grade, table
from loihi_mmfree.report.summary import summarize
from loihi_mmfree.report.tables import (
    MANUAL_PAGE,
    TerminalTable,
    left_out_table,
    notes,
    tables,
    validation_table,
)
from loihi_mmfree.text import counted
from loihi_mmfree.units import MICROSECONDS

_NOT_MEASURED = "Nothing was measured on hardware."
_OPEN = ("Zeros,", "Activity of a token")
"""How the titles of the tables begin that need not be unfolded, beside the first one."""
_STAGES = ("synapses", "messages in", "messages out", "neurons", "links", "barrier")
"""What steps wait for, in the order of their colours: a stage has the same one on every page."""
_RESULTS = (
    ("generate_tokens_per_s", "generating: throughput", "tokens/s"),
    ("generate_millijoules", "generating: energy", "mJ a token"),
    ("prefill_tokens_per_s", "prefill: throughput", "tokens/s"),
    ("prefill_millijoules", "prefill: energy", "mJ a token"),
)
_OF_THE_SIZE = "370M"
"""In the names of the models whose accelerators are drawn beside the others."""
_CHOICES = (
    (True, False, "a choice than which none is faster for less energy"),
    (False, False, "another choice, with the same logits"),
    (
        False,
        True,
        "hypothetical: zeros put in, or bits left out, of a network that nobody trained or compiled",
    ),
)
"""The kinds of points of the sweep: best, hypothetical, in words."""
_PHASE_NAMES = {"prefill": "prefill, a token every step", "generate": "generating, a token at a time"}
_SPANS: tuple[tuple[str, Callable[[Prediction], float]], ...] = (
    ("generating: tokens/s", lambda each: each.generate.tokens_per_s),
    ("generating: mJ a token", lambda each: each.generate.millijoules_per_token),
    ("prefill: tokens/s", lambda each: each.prefill.tokens_per_s),
    ("prefill: mJ a token", lambda each: each.prefill.millijoules_per_token),
)


def report_context(report: Report, net: Net) -> dict[str, Any]:
    """Return what the template of the page is filled with."""
    amount = "in the mean, as recorded" if report.recorded else "at most"
    # The list "not in the model", the last one, has a place of its own, and so has what the sweep leaves out.
    said = [each for each in notes(report)[:-1] if each not in report.sweep_left_out]
    return {
        "name": report.about["net"],
        "placed": _placed(report),
        "provenance": _recorded(report) if report.recorded else f"{said[0]} {_NOT_MEASURED}",
        "notes": said if report.recorded else said[1:],
        "facts": _facts(report),
        **_comparison(report, net),
        **_shares(report),
        **_sweep(report),
        **_certainty(report),
        **activity_context(report, net),
        "maps": chip_map(net, summarize(net), report.traffic, amount, linked=False),
        "levels": LEVELS,
        **_assumptions(report),
        "tables": [
            _converted(each, open=number == 0 or each.title.startswith(_OPEN))
            for number, each in enumerate(tables(report))
        ],
        "footer": f"From a checkpoint with SHA-256 {report.about['checkpoint_sha256'][:16]}….",
    }


def _placed(report: Report) -> str:
    about = report.about
    used, board = about["chips_used"], about["board_chips"]
    chips = counted(used, "chip") if board is None else f"{used:,} of {counted(board, 'chip')}"
    return (
        f"{counted(about['cores_used'], 'core')}, {chips} of {about['system_name']}; head on "
        f"{about['head']}, {about['weight_bits']}-bit weights, {about['activation_bits']}-bit activations; "
        f"{about['steps_per_token']:,} steps from token to logits"
    )


def _recorded(report: Report) -> str:
    return (
        f"Modelled from the network's own placement and its recorded activity ({report.activity.origin}, "
        f"{counted(report.activity.tokens, 'token')}). {_NOT_MEASURED}"
    )


def _facts(report: Report) -> list[Fact]:
    facts = []
    for phase, name in (("generate", "generating"), ("prefill", "prefill")):
        for what, attribute, unit in (
            ("throughput", "tokens_per_s", "tokens/s"),
            ("energy a token", "millijoules_per_token", "mJ"),
            ("power", "watts", "W"),
        ):
            each = report.quantity(phase, attribute, unit)
            low, high = (format_number(end) for end in each.inputs["range"])
            value = f"{format_number(each.value)} {unit}"
            facts.append(Fact(f"{name}: {what}", value, f"{each.source}; {low} to {high} {unit}"))
        if (board := report.board_energy(phase)) is not None:
            value = f"{format_number(board.value)} {board.unit}"
            facts.append(Fact(f"{name}: energy a token, whole board", value, board.source))
    return facts


def _comparison(report: Report, net: Net) -> dict[str, Any]:
    systems: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in report.comparison:
        if row.tokens is not None or _OF_THE_SIZE in row.model:
            systems.setdefault((row.system, row.model), []).append(row)
    every = {field: _series(field, systems, report) for field, _, _ in _RESULTS}
    plots = [
        series_plot(title, "tokens", unit, every[field], report.published.tokens)
        for field, title, unit in _RESULTS
    ]
    left_out = left_out_table(report)
    weights = sum(node.rows * node.columns for node in net.graph if isinstance(node, TernarySynapse))
    return {
        "comparison_plots": plots,
        "comparison_key": [
            {"sample": sample(each), "name": f"{each.name} ({each.origin})"} for each in every[_RESULTS[0][0]]
        ],
        "left_out": _converted(left_out, notes=(3, 4)),
        "comparison_text": (
            f"{report.about['net']} has {weights / 1e6:,.1f} million ternary weights, the published models in the "
            "plots have 370 to 500 million parameters: compare like with like. Markers of estimates are hollow. "
            "What is published at no stated length is a level line, without prefill; accelerators of larger "
            f"models stand in the tables only. Published: {report.published.citation}; of accelerators, see the "
            "table below."
        ),
    }


def _series(
    field: str, systems: Mapping[tuple[str, str], Sequence[ComparisonRow]], report: Report
) -> list[Series]:
    """One result of every system that states it; a system keeps its number in all of them."""
    found = []
    for number, ((hardware, model), rows) in enumerate(systems.items()):
        name, origin = f"{_model(model, report)} on {hardware}", rows[0].origin
        values: list[Quantity] = [value for row in rows if (value := getattr(row, field)) is not None]
        if not values:
            continue
        if rows[0].tokens is None:
            found.append(Series(name, origin, number, level=values[0].value))
        else:
            lengths = [row.tokens for row in rows if row.tokens is not None]
            points = zip(lengths, (value.value for value in values), strict=True)
            found.append(Series(name, origin, number, tuple(points)))
    return found


def _model(name: str, report: Report) -> str:
    return str(report.about["net"]) if name == THIS_NETWORK else name


def _shares(report: Report) -> dict[str, Any]:
    visible = {phase: getattr(report.prediction, phase).main_shares for phase in PHASES}
    named = {name for shares in visible.values() for name in shares}
    colours = {name: number for number, name in enumerate(_STAGES, start=2) if name in named}
    plots = []
    for phase in PHASES:
        result = getattr(report.prediction, phase)
        shares = [(name, share, colours[name]) for name, share in visible[phase].items()]
        words = ", ".join(f"{name} {share:.0%}" for name, share, _ in shares)
        caption = f"{_PHASE_NAMES[phase]}: {format_number(1e6 * result.seconds_per_token)} {MICROSECONDS}; {words}"
        plots.append({"plot": shares_plot(_PHASE_NAMES[phase], shares), "caption": caption})
    return {"shares_plots": plots, "shares_key": list(colours.items())}


def _sweep(report: Report) -> dict[str, Any]:
    plots = []
    for phase, title in (("generate", "generating"), ("prefill", "prefill")) if report.sweep else ():
        choices = [
            ParetoPoint(
                number,
                row.label,
                row.tokens_per_s[phase],
                row.millijoules[phase],
                row.best[phase],
                row.hypothetical,
            )
            for number, row in enumerate(report.sweep, start=1)
        ]
        plots.append(pareto_plot(title, "tokens/s", "mJ a token", choices))
    rows = [
        (str(number), row.label, str(row.chips), *_phase_cells(row.tokens_per_s, row.millijoules))
        for number, row in enumerate(report.sweep, start=1)
    ]
    headings = (
        "point",
        ("variation", TEXT),
        "chips",
        "generating, tokens/s",
        "mJ a token",
        "prefill, tokens/s",
        "mJ a token",
    )
    return {
        "sweep_plots": plots,
        "sweep_rows": table(headings, rows),
        "sweep_key": [
            {"sample": choice_sample(best, hypothetical), "name": name} for best, hypothetical, name in _CHOICES
        ],
        "sweep_text": (
            " ".join(["Modelled, one change at a time. Right and down is better.", *report.sweep_left_out])
        ),
    }


def _phase_cells(speeds: dict[str, float], energies: dict[str, float]) -> list[str]:
    return [format_number(each[phase]) for phase in ("generate", "prefill") for each in (speeds, energies)]


def _certainty(report: Report) -> dict[str, Any]:
    """What the uncertain parameters move, and the networks that others measured."""
    validation = validation_table(report)
    return {
        "sensitivity_plots": [_span_plot(report, title, result) for title, result in _SPANS],
        "sensitivity_text": (
            "What each parameter that is not fitted multiplies a result by: at the low end of its range (hollow) "
            "and at the high end (filled), the fitted ones fitted anew. An end that is missing cannot meet the "
            "published figures. Left out is what moves a result by less than 1 %."
        ),
        "validation": _converted(validation),
        "validation_text": (
            "Nothing was fitted to these. Their residuals say how far to trust the time of a step, total energy, "
            f"and its division into static and dynamic; {MANUAL_PAGE}, says what they support and refute."
        ),
    }


def _span_plot(report: Report, title: str, result: Callable[[Prediction], float]) -> Html:
    base = result(report.prediction)
    spans = [
        Span(row.name, *(None if end is None else result(end) / base for end in (row.low, row.high)))
        for row in report.sensitivity
    ]
    return span_plot(title, spans)


def _assumptions(report: Report) -> dict[str, Any]:
    named = report.parameters.named()
    grades = Counter(each.confidence for each in named.values())
    rows = [
        (
            name.replace("_", " "),
            with_unit(f"{each.value:g}", each.unit),
            with_unit(f"{each.low:g} to {each.high:g}", each.unit),
            grade(each.confidence),
            each.source,
        )
        for name, each in named.items()
    ]
    headings = (
        ("parameter", TEXT),
        "value",
        "range",
        ("confidence", TEXT),
        ("source", NOTE),
    )
    return {
        "parameters": table(headings, rows),
        "not_modelled": NOT_MODELLED,
        "assumptions_text": f"{len(named)} parameters: "
        + ", ".join(f"{number} {confidence}" for confidence, number in grades.items())
        + ". Limits of the chip: `loihi-mmfree inspect NET --html FILE`.",
    }


def _converted(shown: TerminalTable, open: bool = False, notes: Sequence[int] = ()) -> Table:
    """A table of the terminal; `notes` are long texts, others are text if most cells begin with a letter."""
    kinds = (
        NOTE
        if n in notes
        else TEXT
        if 2 * sum(row[n][:1].isalpha() for row in shown.rows) > len(shown.rows)
        else NUMBER
        for n in range(len(shown.columns))
    )
    return table(list(zip(shown.columns, kinds, strict=True)), shown.rows, shown.title, open)
