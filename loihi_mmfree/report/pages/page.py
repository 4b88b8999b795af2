"""Pages of HTML that need nothing but themselves: no script, no network, no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loihi_mmfree.evaluate.evaluation import Evaluation
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic
from loihi_mmfree.report.pages.tables import prose
from loihi_mmfree.report.summary import Summary
from loihi_mmfree.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

    from loihi_mmfree.report.document import Report


COLOURS = 9
"""Categories that have a colour of their own, k1 to k9 of the style."""


def inspect_page(net: Net, summary: Summary, moved: Traffic) -> str:
    """Return the page of a compiled network: where it lies, what every core holds, what travels.

    Parameters
    ----------
    net : Net
        Placed.
    summary : Summary
        Of the same network (:func:`loihi_mmfree.report.summary.summarize`).
    moved : Traffic
        Of the same network (:func:`loihi_mmfree.place.traffic.traffic`).
    """
    from loihi_mmfree.report.pages.inspect import inspect_context

    return render("inspect.html.jinja", inspect_context(net, summary, moved))


def report_page(report: Report, net: Net) -> str:
    """Return the page of a report: results, plots beside published systems, activity, chip map, assumptions.

    Parameters
    ----------
    report : Report
    net : Net
        The network that the report is about.
    """
    from loihi_mmfree.report.pages.report import report_context

    return render("report.html.jinja", report_context(report, net))


def evaluation_page(found: Evaluation) -> str:
    """Return the page of an evaluation: the tables, and how they were measured."""
    from loihi_mmfree.report.pages.evaluation import evaluation_context

    return render("evaluation.html.jinja", evaluation_context(found))


def render(template: str, context: dict[str, Any]) -> str:
    """Fill a template of this package; all text of `context` is escaped."""
    return _environment().get_template(template).render(context)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("loihi_mmfree.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    environment.globals["version"] = __version__
    environment.globals["colours"] = COLOURS
    return environment
