"""The pages of a small network, and a reader of pages."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from loihi_mmfree.cost.sweep import SweepRow
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic, traffic
from loihi_mmfree.report.document import Report, build_report
from loihi_mmfree.report.pages.page import inspect_page, report_page
from loihi_mmfree.report.summary import Summary, summarize

VOID = {"meta", "input", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """Reads a page: open tags at the end, every tag with its attributes, all visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.misplaced: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def read_page() -> type[Page]:
    """What reads a page: `Page`."""
    return Page


@pytest.fixture(scope="session")
def summary(tiny_net: Net) -> Summary:
    """What a page of `inspect` is made from."""
    return summarize(tiny_net)


@pytest.fixture(scope="session")
def report(tiny_net: Net) -> Report:
    """Without recorded activity; variations of two settings stand for the sweep."""
    built = build_report(tiny_net)
    speeds, energies = {"prefill": 9e3, "generate": 300.0}, {"prefill": 0.1, "generate": 2.0}
    first = SweepRow("as compiled", 8, 1, 40, speeds, energies, {"prefill": True, "generate": True})
    return replace(built, sweep=(first, replace(first, what="2-bit weights", tokens_per_s=energies)))


@pytest.fixture(scope="session")
def moved(tiny_net: Net) -> Traffic:
    """The messages of a token."""
    return traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)


@pytest.fixture(scope="session")
def inspected(tiny_net: Net, summary: Summary, moved: Traffic) -> str:
    """The page of `inspect`."""
    return inspect_page(tiny_net, summary, moved)


@pytest.fixture(scope="session")
def reported(tiny_net: Net, report: Report) -> str:
    """The page of `report`."""
    return report_page(report, tiny_net)
