"""Pages of HTML that need nothing but themselves: no script, no network, no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loihi_mmfree import __version__
from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.place.traffic import Traffic
from loihi_mmfree.compiler.summary import Summary
from loihi_mmfree.report.page_tables import prose

if TYPE_CHECKING:
    from jinja2 import Environment

    from loihi_mmfree.report.document import Report


def inspect_page(net: Net, summary: Summary, moved: Traffic) -> str:
    """Return the page of a compiled network: where it lies, what every core holds, what travels.

    Parameters
    ----------
    net : Net
        Placed.
    summary : Summary
        Of the same network (:func:`..compiler.summary.summarize`).
    moved : Traffic
        Of the same network (:func:`..compiler.place.traffic.traffic`).
    """
    from loihi_mmfree.report.page_inspect import inspect_context

    return render("inspect.html.jinja", inspect_context(net, summary, moved))


def report_page(report: Report, net: Net) -> str:
    """Return the page of a report: results, plots beside published systems, activity, chip map, assumptions.

    Parameters
    ----------
    report : Report
    net : Net
        The network that the report is about.
    """
    from loihi_mmfree.report.page_report import report_context

    return render("report.html.jinja", report_context(report, net))


def render(template: str, context: dict[str, Any]) -> str:
    """Fill a template of this package; all text of `context` is escaped."""
    return _environment().get_template(template).render(context)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("loihi_mmfree.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    environment.globals["version"] = __version__
    return environment
