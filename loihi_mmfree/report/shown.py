"""Results as a user of the Python interface meets them: as text, as data, and as a page in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.evaluation import Evaluation
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic, traffic
from loihi_mmfree.report.document import Report, build_report
from loihi_mmfree.report.evaluation import evaluation_notes, evaluation_tables
from loihi_mmfree.report.narrowing import narrowing_notes, narrowing_table
from loihi_mmfree.report.pages.page import evaluation_page, inspect_page, report_page
from loihi_mmfree.report.program import NodeProgram, describe_program
from loihi_mmfree.report.program_text import program_lines, shortened
from loihi_mmfree.report.summary import Summary, summarize
from loihi_mmfree.report.tables import TerminalTable, notes, tables
from loihi_mmfree.search.narrowing import Narrowing
from loihi_mmfree.text import counted

_FRAME = '<iframe srcdoc="{page}" style="width: 100%; height: 40rem; border: 0"></iframe>'


@dataclass(frozen=True, repr=False)
class NetworkReport(Report):
    """A report together with the network that it is about.

    Parameters
    ----------
    net : Net
    """

    net: Net = field(kw_only=True)

    @classmethod
    def of(cls, net: Net, sweep: bool = False) -> NetworkReport:
        """Make the report of a network; `sweep` also models its variations."""
        return cls(**vars(build_report(net, with_sweep=sweep)), net=net)

    @property
    def tables(self) -> tuple[TerminalTable, ...]:
        """All numbers as tables of text."""
        return tuple(tables(self))

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers has to know."""
        return notes(self)

    def html(self) -> str:
        """Return the report as one page with plots and the chip map."""
        return report_page(self, self.net)

    def _repr_html_(self) -> str:
        return _FRAME.format(page=html.escape(self.html()))

    def __repr__(self) -> str:
        results = self.tables[0]
        lines = ("  ".join(row) for row in (results.columns, *results.rows))
        return "\n".join([f"<NetworkReport of {self.net.path}: {results.title}>", *lines])


@dataclass(frozen=True, repr=False)
class EvaluationReport(Evaluation):
    """How good a model is, as text, as data and as a page."""

    @property
    def tables(self) -> tuple[TerminalTable, ...]:
        """All numbers as tables of text."""
        return tuple(evaluation_tables(self))

    @property
    def notes(self) -> list[str]:
        """How it was measured."""
        return evaluation_notes(self)

    def html(self) -> str:
        """Return the numbers as a page."""
        return evaluation_page(self)

    def _repr_html_(self) -> str:
        return _FRAME.format(page=html.escape(self.html()))

    def __repr__(self) -> str:
        lines = [f"<EvaluationReport of {self.model.path} on {self.path}>"]
        lines += ["  ".join(row) for table in self.tables for row in (table.columns, *table.rows)]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class NarrowingReport(Narrowing):
    """The narrowest formats that keep a budget, and every trial, as text and as data."""

    @property
    def tables(self) -> tuple[TerminalTable, ...]:
        """Every trial as a table of text."""
        return (narrowing_table(self),)

    @property
    def notes(self) -> list[str]:
        """How it was judged."""
        return narrowing_notes(self)

    def __repr__(self) -> str:
        (table,) = self.tables
        lines = ("  ".join(row) for row in (table.columns, *table.rows))
        return "\n".join([f"<NarrowingReport: {table.title}>", *lines])


@dataclass(frozen=True, repr=False)
class Inspection:
    """What a network consists of and where it lies.

    Parameters
    ----------
    net : Net
    summary : Summary
        Blocks, chips, cores, nodes and formats.
    traffic : Traffic
        At most, in a step when pipelined.
    """

    net: Net
    summary: Summary
    traffic: Traffic

    @classmethod
    def of(cls, net: Net) -> Inspection:
        """Count a network."""
        placed = net.placed
        return cls(net, summarize(net), traffic(net.graph, placed.chip, placed.placement))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return self.summary.to_dict()

    def html(self) -> str:
        """Return a page with a map of every chip."""
        return inspect_page(self.net, self.summary, self.traffic)

    def _repr_html_(self) -> str:
        return _FRAME.format(page=html.escape(self.html()))

    def __repr__(self) -> str:
        found = self.summary
        return (
            f"<Inspection of {self.net.path}: {len(found.nodes)} nodes on {found.cores_used} cores of "
            f"{found.chips_used} chips ({found.chip}), {found.depth_steps} time steps deep, head on {found.head}>"
        )


@dataclass(frozen=True, repr=False)
class GroupProgram(NodeProgram):
    """A neuron group with all that is needed to write its microcode; as text it is the listing with its header."""

    @classmethod
    def of(cls, net: Net, node: str) -> GroupProgram:
        """Describe the neuron group of this name.

        Raises
        ------
        UsageError
            There is no such group.
        """
        found = net.graph.by_name.get(node)
        if not isinstance(found, NeuronGroup):
            groups = [each.name for each in net.graph if isinstance(each, NeuronGroup)]
            near = sorted(groups, key=lambda group: (not (node in group or group in node), groups.index(group)))
            what = "no such node" if found is None else f"a {type(found).__name__} has no program"
            known = shortened(near, "a full inspection lists all")
            raise UsageError(f"program of {node}: {what}; neuron groups are {known}")
        return cls(**vars(describe_program(net.graph, found)))

    def __str__(self) -> str:
        return "\n".join(program_lines(self))

    def __repr__(self) -> str:
        count = f"{len(self.instructions)} instructions"
        return f"<GroupProgram of {self.node}: {self.role}, {counted(self.neurons, 'neuron')}, {count}>"
