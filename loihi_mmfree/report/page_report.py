"""What the page of `report` shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.nodes import NeuronGroup, TernarySynapse, block_of
from loihi_mmfree.compiler.summary import summarize
from loihi_mmfree.report.chip_map import LEVELS, chip_map
from loihi_mmfree.report.comparison import THIS_NETWORK, ComparisonRow
from loihi_mmfree.report.document import NOT_MODELLED, Report
from loihi_mmfree.report.figures import (
    Bin,
    Choice,
    Series,
    Span,
    bins_plot,
    pareto_plot,
    sample,
    series_plot,
    shares_plot,
    span_plot,
)
from loihi_mmfree.report.model import PHASES, Prediction
from loihi_mmfree.report.page_tables import NUMBER, TEXT, WIDE, Fact, Table, bar, count, grade, table
from loihi_mmfree.report.quantity import Quantity, format_number
from loihi_mmfree.report.svg import Html
from loihi_mmfree.report.tables import notes, tables, validation_table
from loihi_mmfree.sim.activity import synaptic_operations

_NOT_MEASURED = "Nothing was measured on hardware."
_LEAST_REACH = 1.01
"""Parameters that move a result by less are left out of its plot."""
_MOST_POINTS = 120
"""Of a plot over tokens."""
_COLOURS = (7, 1, 3, 6, 2, 4, 5)
"""This network's, then those of the published systems, in their order."""
_RESULTS = (
    ("generate_tokens_per_s", "generating: throughput", "tokens/s"),
    ("generate_millijoules", "generating: energy", "mJ a token"),
    ("prefill_tokens_per_s", "prefill: throughput", "tokens/s"),
    ("prefill_millijoules", "prefill: energy", "mJ a token"),
)
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
    *said, _ = notes(report)  # the last one is the list "not in the model"
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
        **_activity(report, net),
        **_over_tokens(report),
        "maps": chip_map(net, summarize(net), report.traffic, amount, linked=False),
        "levels": LEVELS,
        **_assumptions(report),
        "tables": [_converted(each.title, each.columns, each.rows) for each in tables(report)],
        "footer": f"From a checkpoint with SHA-256 {report.about['checkpoint_sha256'][:16]}….",
    }


def _placed(report: Report) -> str:
    about = report.about
    return (
        f"{about['cores_used']:,} cores, chips: {about['chips_used']:,} of {about['system_name']}; head on "
        f"{about['head']}, {about['weight_bits']}-bit weights, {about['activation_bits']}-bit activations; "
        f"{about['steps_per_token']:,} steps from token to logits"
    )


def _recorded(report: Report) -> str:
    return (
        f"Modelled from the network's own placement and its recorded activity ({report.activity.origin}, "
        f"{report.activity.tokens:,} tokens). {_NOT_MEASURED}"
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
            facts.append(Fact(f"{name}: {what}", value, f"{each.source}; {low} to {high}"))
    return facts


def _comparison(report: Report, net: Net) -> dict[str, Any]:
    systems: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in report.comparison:
        systems.setdefault((row.hardware, row.model), []).append(row)
    origins = {key: _origin(rows[0]) for key, rows in systems.items()}
    colours = {key: _COLOURS[number % len(_COLOURS)] for number, key in enumerate(systems)}
    names = {key: f"{_model(key[1], report)} on {key[0]}" for key in systems}
    plots = [
        series_plot(
            title,
            "tokens",
            unit,
            [
                Series(
                    names[key],
                    origins[key],
                    colours[key],
                    tuple((r.tokens, getattr(r, field).value) for r in rows),
                )
                for key, rows in systems.items()
            ],
            report.published.tokens,
        )
        for field, title, unit in _RESULTS
    ]
    weights = sum(node.rows * node.columns for node in net.graph if isinstance(node, TernarySynapse))
    return {
        "comparison_plots": plots,
        "comparison_key": [
            {"sample": sample(origins[key], colours[key]), "name": f"{names[key]} ({origins[key]})"}
            for key in systems
        ],
        "comparison_text": (
            f"{report.about['net']} has {weights / 1e6:,.1f} million ternary weights, the published models have "
            f"370 to 500 million parameters: compare like with like. Published: {report.published.citation}."
        ),
    }


def _model(name: str, report: Report) -> str:
    return str(report.about["net"]) if name == THIS_NETWORK else name


def _origin(row: ComparisonRow) -> str:
    quantity: Quantity = row.generate_tokens_per_s
    if quantity.source != "published":
        return quantity.source
    return "published measurement" if row.kind.startswith("measured") else "published estimate"


def _shares(report: Report) -> dict[str, Any]:
    names = list(dict.fromkeys(name for phase in PHASES for name in getattr(report.prediction, phase).shares))
    colours = {name: number % 7 + 1 for number, name in enumerate(names)}
    plots = []
    for phase in PHASES:
        result = getattr(report.prediction, phase)
        shares = [(name, share, colours[name]) for name, share in result.shares.items()]
        words = ", ".join(f"{name} {share:.0%}" for name, share, _ in shares if share >= 0.005)
        caption = f"{_PHASE_NAMES[phase]}: {format_number(1e6 * result.seconds_per_token)} µs; {words}"
        plots.append({"plot": shares_plot(_PHASE_NAMES[phase], shares), "caption": caption})
    return {"shares_plots": plots, "shares_key": list(colours.items())}


def _sweep(report: Report) -> dict[str, Any]:
    plots = []
    for phase, title in (("generate", "generating"), ("prefill", "prefill")) if report.sweep else ():
        choices = [
            Choice(number, row.what, row.tokens_per_s[phase], row.millijoules[phase], row.best[phase])
            for number, row in enumerate(report.sweep, start=1)
        ]
        plots.append(pareto_plot(title, "tokens/s", "mJ a token", choices))
    rows = [
        (str(number), row.what, str(row.chips), *_phase_cells(row.tokens_per_s, row.millijoules))
        for number, row in enumerate(report.sweep, start=1)
    ]
    headings = ("point", ("variation", TEXT), "chips", "generating, tokens/s", "mJ", "prefill, tokens/s", "mJ")
    return {
        "sweep_plots": plots,
        "sweep_key": table(headings, rows),
        "sweep_text": (
            "Modelled, one change at a time. Right and down is better; filled points are those than which none is "
            "faster for less energy. Zeros are put in, no network was trained for them."
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
        "validation": _converted(validation.title, validation.columns, validation.rows),
        "validation_text": (
            "Nothing was fitted to these. Their residuals say how far to trust the time of a step, total energy, "
            "and its division into static and dynamic; docs/reports.md says what they support and refute."
        ),
    }


def _span_plot(report: Report, title: str, result: Callable[[Prediction], float]) -> Html:
    base = result(report.prediction)
    spans = [
        Span(row.name, *(None if end is None else result(end) / base for end in (row.low, row.high)))
        for row in report.sensitivity
    ]
    moving = [each for each in spans if each.reach >= _LEAST_REACH]
    return span_plot(title, sorted(moving, key=lambda each: -each.reach))


def _activity(report: Report, net: Net) -> dict[str, Any]:
    """Share of zeros at the inputs of projections, and what is sent and operated, by layer."""
    scales = [node for node in net.graph if isinstance(node, NeuronGroup) and node.role == "Scale"]
    kinds = list(dict.fromkeys(port for node in scales for port in node.outputs))
    zeros: dict[str, dict[str, float]] = {}
    for node in scales:
        for port, size in node.outputs.items():
            sent = report.activity.per_token(node.out(port))
            zeros.setdefault(block_of(node.name), {})[port] = 1 - sent / size
    messages: dict[str, float] = defaultdict(float)
    operations: dict[str, float] = defaultdict(float)
    for key, sent in report.activity.rates.items():
        messages[block_of(key.split(":")[0])] += sent
    for name, number in synaptic_operations(net.graph, report.activity.rates).items():
        operations[block_of(name)] += number
    saturations: dict[str, int] = defaultdict(int)
    for name, clamped in report.activity.saturations.items():
        saturations[block_of(name)] += clamped
    rows = [
        (
            block,
            *(_zero_cell(found.get(kind)) for kind in kinds),
            count(messages[block]),
            count(operations[block]),
            *([f"{saturations[block]:,}"] if report.recorded else []),
        )
        for block, found in zeros.items()
    ]
    headings: list[str | tuple[str, str]] = [("layer", TEXT), *kinds]
    headings += ["messages", "operations", *(["clamped"] if report.recorded else [])]
    where = (
        f"Recorded: {report.activity.origin}, {report.activity.tokens:,} tokens."
        if report.recorded
        else "Not recorded for this network, so that every message counts as sent; run --activity records it."
    )
    means = "Messages and synaptic operations are means a token" + (
        ", clamped values a sum." if report.recorded else "."
    )
    return {
        "activity": table(headings, rows),
        "activity_text": f"Share of zeros at the input of each projection: a zero sends nothing. {means} {where}",
    }


def _over_tokens(report: Report) -> dict[str, Any]:
    """What each token caused, in the order in which they were read."""
    if report.activity.tokens < 2 or not report.per_token:
        return {"tokens_plots": [], "tokens_text": ""}
    plots, words = [], []
    for what, values in report.per_token.items():
        name = what.replace("_", " ")
        parts = np.array_split(values, min(len(values), _MOST_POINTS))
        ends = np.cumsum([len(each) for each in parts])
        scale, unit = (1e6, f"{name}, millions") if values.max() >= 1e6 else (1.0, name)
        bins = [
            Bin(end - (len(each) - 1) / 2, each.min() / scale, each.mean() / scale, each.max() / scale)
            for end, each in zip(ends, parts, strict=True)
        ]
        plots.append(bins_plot(f"{name} of each token", "token", unit, bins))
        words.append(f"{name} " + ", ".join(f"{end} {count(q.value)}" for end, q in report.spread(what).items()))
    return {
        "tokens_plots": plots,
        "tokens_text": (
            f"Measured over {report.activity.tokens:,} tokens: {'; '.join(words)}. The model takes the mean over "
            f"all tokens. The line joins the means of at most {_MOST_POINTS} stretches of tokens; the band is "
            "their range. The vertical axes need not begin with 0."
        ),
    }


def _zero_cell(share: float | None) -> Html | str:
    return "" if share is None else Html(f"{share:.1%} {bar(share).text}")


def _assumptions(report: Report) -> dict[str, Any]:
    named = report.parameters.named()
    grades = Counter(each.confidence for each in named.values())
    rows = [
        (
            name.replace("_", " "),
            f"{each.value:g}",
            f"{each.low:g} to {each.high:g}",
            each.unit,
            grade(each.confidence),
            each.source,
        )
        for name, each in named.items()
    ]
    headings = (
        ("parameter", TEXT),
        "value",
        "range",
        ("unit", TEXT),
        ("confidence", TEXT),
        ("source", WIDE),
    )
    return {
        "parameters": table(headings, rows),
        "not_modelled": NOT_MODELLED,
        "assumptions_text": f"{len(named)} parameters: "
        + ", ".join(f"{number} {confidence}" for confidence, number in grades.items())
        + ". Limits of the chip: loihi-mmfree inspect --html.",
    }


def _converted(title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Table:
    """A table of the terminal; a column is text if most of its cells begin with a letter."""
    kinds = (
        TEXT if 2 * sum(row[n][:1].isalpha() for row in rows) > len(rows) else NUMBER for n in range(len(columns))
    )
    return table(list(zip(columns, kinds, strict=True)), rows, title)
