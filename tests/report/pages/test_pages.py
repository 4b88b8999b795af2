"""Pages of HTML: whole, self-contained, escaped, shown by a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree import __version__
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic
from loihi_mmfree.report.document import Report
from loihi_mmfree.report.pages.page import inspect_page, report_page
from loihi_mmfree.report.summary import Summary

ReadPage = Callable[[str], Any]

EVIL = "<script>alert(1)</script>\"'onload=x"


@pytest.fixture(params=["inspected", "reported"])
def text(request: pytest.FixtureRequest) -> str:
    """Each of the two pages."""
    return str(request.getfixturevalue(request.param))


def test_every_tag_is_closed_where_it_belongs(text: str, read_page: ReadPage) -> None:
    page = read_page(text)
    assert page.open == []
    assert page.misplaced == []


def test_nothing_is_loaded(text: str, read_page: ReadPage) -> None:
    page = read_page(text)
    loading = ("src", "srcset", "href", "data", "action", "poster", "xlink:href")
    targets = [value for _, attributes in page.tags for name, value in attributes.items() if name in loading]
    assert [each for each in targets if not str(each).startswith("#")] == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert not page.all("script")


def test_the_browser_is_forbidden_to_load_anything(text: str, read_page: ReadPage) -> None:
    policies = [each["content"] for each in read_page(text).all("meta") if "http-equiv" in each]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_ids_are_unique_and_every_link_leads_to_one(text: str, read_page: ReadPage) -> None:
    page = read_page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{each}" for each in ids} >= {each["href"] for each in page.all("a")}


def test_every_drawing_has_words_for_those_who_do_not_see_it(text: str, read_page: ReadPage) -> None:
    drawings = read_page(text).all("svg")
    assert drawings
    assert all(each.get("aria-hidden") == "true" or len(str(each["aria-label"])) > 20 for each in drawings)


def test_wide_tables_scroll_in_a_region_of_their_own(text: str, read_page: ReadPage) -> None:
    page = read_page(text)
    scrolling = [each for each in page.all("div") if "scroll" in (each.get("class") or "").split()]
    assert len(scrolling) == len(page.all("table"))


def test_the_page_says_that_nothing_was_measured_on_hardware(text: str, read_page: ReadPage) -> None:
    assert "nothing was measured on hardware" in read_page(text).text.lower()


def test_a_browser_shows_the_page_without_network_and_without_errors(text: str, tmp_path: Path) -> None:
    shown = browse(text, tmp_path)
    assert "</footer>" in shown.stdout
    assert complaints(shown) == []


def test_the_browser_test_would_notice_what_a_page_loads_and_runs(text: str, tmp_path: Path) -> None:
    loading = text.replace("</main>", "<img src='x.png'></main>", 1)
    assert complaints(browse(loading, tmp_path))
    running = re.sub("<meta http-equiv[^>]*>", "", text).replace("</main>", "<script>nowhere()</script></main>", 1)
    assert complaints(browse(running, tmp_path))


def test_print_shows_folded_tables(reported: str, tmp_path: Path) -> None:
    folded = re.sub("details::details-content[^}]*}", "", reported)
    pages = [printed_pages(each, tmp_path / name) for name, each in (("as is", reported), ("folded", folded))]
    assert pages[0] > pages[1]


def test_a_page_names_the_version_that_made_it(text: str, read_page: ReadPage) -> None:
    assert f"Made by loihi-mmfree {__version__}." in read_page(text).text


def test_names_cannot_become_markup(tiny_net: Net, summary: Summary, moved: Traffic, read_page: ReadPage) -> None:
    cores = tuple(replace(core, shards=(EVIL,)) for core in summary.cores)
    blocks = tuple(replace(block, name=EVIL) for block in summary.blocks)
    nodes = tuple(replace(node, name=EVIL) for node in summary.nodes)
    chips = tuple(replace(chip, blocks=(EVIL,)) for chip in summary.chips)
    hostile = replace(summary, chip=EVIL, cores=cores, blocks=blocks, nodes=nodes, chips=chips)
    page = read_page(inspect_page(tiny_net, hostile, moved))
    assert not page.all("script")
    assert page.open == page.misplaced == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_name_of_a_network_cannot_become_markup_of_its_report(
    tiny_net: Net, report: Report, read_page: ReadPage
) -> None:
    hostile = replace(report, about={**report.about, "net": EVIL, "system_name": EVIL})
    page = read_page(report_page(hostile, tiny_net))
    assert not page.all("script")
    assert page.open == page.misplaced == []


def complaints(shown: subprocess.CompletedProcess[str]) -> list[str]:
    """What the browser refused, could not find or could not run."""
    return [line for line in shown.stderr.splitlines() if re.search(r"CONSOLE|net::ERR|Uncaught", line)]


def browse(page: str, folder: Path, action: str = "--dump-dom") -> subprocess.CompletedProcess[str]:
    """Open a page in a headless Chromium which has no network, and return the document and what was logged."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    file = folder / "page.html"
    file.write_text(page)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --enable-logging=stderr --v=0"
    # Every name resolves to nothing: whatever the page asked of a network would fail and be logged.
    rules = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [browser, *options.split(), action, rules, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def printed_pages(page: str, folder: Path) -> int:
    """The pages of paper that a headless Chromium needs."""
    folder.mkdir()
    browse(page, folder, f"--print-to-pdf={folder / 'page.pdf'}")
    return len(re.findall(rb"/Type /Page\b", (folder / "page.pdf").read_bytes()))
