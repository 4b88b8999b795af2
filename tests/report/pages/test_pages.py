"""Pages of HTML: whole, self-contained, escaped, and with the numbers that the commands print."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree import __version__
from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.model import PHASES, stage_seconds
from loihi_mmfree.cost.on_chip import on_chip_activity
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.published import load_published
from loihi_mmfree.cost.quantity import format_number, with_unit
from loihi_mmfree.cost.sweep import SweepRow
from loihi_mmfree.cost.workload import CoreLoad
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, block_of
from loihi_mmfree.net.artifact import Net, Placed
from loihi_mmfree.place.placer import Request, place
from loihi_mmfree.place.traffic import Traffic, traffic
from loihi_mmfree.report.document import NOT_MODELLED, Report, build_report
from loihi_mmfree.report.pages import chip_map
from loihi_mmfree.report.pages.activity import activity_context
from loihi_mmfree.report.pages.page import inspect_page, report_page
from loihi_mmfree.report.pages.tables import prose
from loihi_mmfree.report.summary import Summary, summarize

EVIL = "<script>alert(1)</script>\"'onload=x"
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


@pytest.fixture(scope="module")
def summary(tiny_net: Net) -> Summary:
    return summarize(tiny_net)


@pytest.fixture(scope="module")
def report(tiny_net: Net) -> Report:
    """Without recorded activity; variations of two settings stand for the sweep."""
    built = build_report(tiny_net)
    speeds, energies = {"prefill": 9e3, "generate": 300.0}, {"prefill": 0.1, "generate": 2.0}
    first = SweepRow("as compiled", 8, 1, 40, speeds, energies, {"prefill": True, "generate": True})
    return replace(built, sweep=(first, replace(first, what="2-bit weights", tokens_per_s=energies)))


@pytest.fixture(scope="module")
def moved(tiny_net: Net) -> Traffic:
    return traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)


@pytest.fixture(scope="module")
def inspected(tiny_net: Net, summary: Summary, moved: Traffic) -> str:
    return inspect_page(tiny_net, summary, moved)


@pytest.fixture(scope="module")
def reported(tiny_net: Net, report: Report) -> str:
    return report_page(report, tiny_net)


@pytest.fixture(params=["inspected", "reported"])
def text(request: pytest.FixtureRequest) -> str:
    """Each of the two pages."""
    return str(request.getfixturevalue(request.param))


def test_every_tag_is_closed_where_it_belongs(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert page.misplaced == []


def test_nothing_is_loaded(text: str) -> None:
    page = Page(text)
    loading = ("src", "srcset", "href", "data", "action", "poster", "xlink:href")
    targets = [value for _, attributes in page.tags for name, value in attributes.items() if name in loading]
    assert [each for each in targets if not str(each).startswith("#")] == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert not page.all("script")


def test_the_browser_is_forbidden_to_load_anything(text: str) -> None:
    policies = [each["content"] for each in Page(text).all("meta") if "http-equiv" in each]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_ids_are_unique_and_every_link_leads_to_one(text: str) -> None:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{each}" for each in ids} >= {each["href"] for each in page.all("a")}


def test_every_drawing_has_words_for_those_who_do_not_see_it(text: str) -> None:
    drawings = Page(text).all("svg")
    assert drawings
    assert all(each.get("aria-hidden") == "true" or len(str(each["aria-label"])) > 20 for each in drawings)


def test_wide_tables_scroll_in_a_region_of_their_own(text: str) -> None:
    page = Page(text)
    assert len([each for each in page.all("div") if "scroll" in (each.get("class") or "").split()]) == len(
        page.all("table")
    )


def test_the_page_says_that_nothing_was_measured_on_hardware(text: str) -> None:
    assert "nothing was measured on hardware" in Page(text).text.lower()


def test_a_browser_shows_the_page_without_network_and_without_errors(text: str, tmp_path: Path) -> None:
    shown = browse(text, tmp_path)
    assert "</footer>" in shown.stdout
    assert complaints(shown) == []


def test_the_browser_test_would_notice_what_a_page_loads_and_runs(text: str, tmp_path: Path) -> None:
    loading = text.replace("</main>", "<img src='x.png'></main>", 1)
    assert complaints(browse(loading, tmp_path))
    running = re.sub("<meta http-equiv[^>]*>", "", text).replace("</main>", "<script>nowhere()</script></main>", 1)
    assert complaints(browse(running, tmp_path))


def test_the_page_holds_the_numbers_of_the_summary(inspected: str, tiny_net: Net, summary: Summary) -> None:
    text = Page(inspected).text
    moved = traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)
    fullest = summary.fullest_cores[0]
    for number in (
        f"{summary.neurons:,}",
        f"{summary.depth_steps} steps",
        f"{summary.activation_bits} bit",
        f"on {summary.head}",
        f"{fullest.load:.1%}",
        f"{moved.sent:,.0f}",
        *(f"{block.synapses:,}" for block in summary.blocks),
    ):
        assert number in text


def test_every_core_has_a_square_and_a_row(inspected: str, summary: Summary) -> None:
    page = Page(inspected)
    rows = {each.get("id") for each in page.all("tr")}
    squares = {each["href"] for each in page.all("a")}
    assert len(squares) == summary.cores_used
    assert {f"core-{core.chip}-{core.core}" for core in summary.cores} <= rows


def test_every_figure_of_the_system_is_shown_with_source_and_confidence(inspected: str, tiny_net: Net) -> None:
    text = Page(inspected).text
    for figure in tiny_net.placed.chip.figures().values():
        assert " ".join(f"{figure.value:,} {figure.unit} {figure.confidence} {figure.source}".split()) in text


def test_names_cannot_become_markup(tiny_net: Net, summary: Summary, moved: Traffic) -> None:
    cores = tuple(replace(core, shards=(EVIL,)) for core in summary.cores)
    blocks = tuple(replace(block, name=EVIL) for block in summary.blocks)
    nodes = tuple(replace(node, name=EVIL) for node in summary.nodes)
    chips = tuple(replace(chip, blocks=(EVIL,)) for chip in summary.chips)
    hostile = replace(summary, chip=EVIL, cores=cores, blocks=blocks, nodes=nodes, chips=chips)
    page = Page(inspect_page(tiny_net, hostile, moved))
    assert not page.all("script")
    assert page.open == page.misplaced == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_same_network_gives_the_same_page(
    inspected: str, tiny_net: Net, summary: Summary, moved: Traffic
) -> None:
    assert inspect_page(tiny_net, summary, moved) == inspected


def test_a_scale_of_ten_shades_shows_a_little_as_more_than_nothing() -> None:
    assert [chip_map.level(share) for share in (0, 1e-6, 0.1, 0.11, 1.0)] == [0, 1, 1, 2, 10]


def test_too_many_cores_are_shown_by_the_chip(
    tiny_net: Net, summary: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chip_map, "MOST_CORES", 0)
    moved = traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)
    many = tuple(replace(core, chip=chip, core=0) for chip, core in enumerate(summary.cores))
    chips = tuple(replace(summary.chips[0], chip=chip) for chip in range(len(many)))
    maps = chip_map.chip_map(tiny_net, replace(summary, cores=many, chips=chips, chips_used=len(many)), moved)
    assert maps.system is not None
    assert len(maps.system.cells) == len(many)
    assert len(maps.chips) <= 3


def test_the_results_are_shown_with_range_and_origin(reported: str, report: Report) -> None:
    text = Page(reported).text
    for phase in PHASES:
        each = report.quantity(phase, "tokens_per_s", "tokens/s")
        low, high = map(format_number, each.inputs["range"])
        assert f"{format_number(each.value)} tokens/s modelled; {low} to {high} tokens/s" in text


def test_every_published_figure_is_in_the_plots_marked_as_published(reported: str, report: Report) -> None:
    labels = Page(reported).text
    for row in report.comparison:
        if row.tokens is None and "370M" not in row.model:
            continue  # of another size, in the tables only
        for value in filter(None, (row.generate_tokens_per_s, row.prefill_millijoules)):
            at = ", at no stated length" if row.tokens is None else f" at {row.tokens:,}"
            assert re.search(rf"{value.source}[a-z ]*: {re.escape(format_number(value.value) + at)}", labels)


def test_what_accelerators_leave_out_stands_beside_them_with_lanes_and_source(
    reported: str, report: Report
) -> None:
    text = Page(reported).text
    accelerators = report.published.accelerators
    assert {each.hardware.split(", ")[1] for each in accelerators} == {"ternip", "TerEffic"}
    for each in accelerators:
        lanes = "-" if each.lanes is None else str(each.lanes)
        assert f"{each.hardware} {each.model} {lanes} {each.leaves_out} {each.citation}" in text


def test_the_colours_of_the_sweep_are_explained(reported: str) -> None:
    key = reported.split("<h2>What other settings would do</h2>")[1].split("</ul>")[0]
    for kind, words in (
        ("dot best", "a choice than which none is faster for less energy"),
        ("dot hollow choice", "another choice"),
        ("dot hollow hypothetical", "hypothetical"),
    ):
        assert re.search(f'class="{kind}"[^/]*></circle></svg>{words}', key)


def test_every_parameter_is_shown_with_confidence_and_source(reported: str, report: Report) -> None:
    text = Page(reported).text
    for parameter in report.parameters.named().values():
        span = with_unit(f"{parameter.low:g} to {parameter.high:g}", parameter.unit)
        assert " ".join(f"{span} {parameter.confidence} {parameter.source}".split()) in text
    assert all(each in text for each in NOT_MODELLED)


def test_a_report_without_recorded_activity_says_so_first(reported: str) -> None:
    assert reported.index("No activity is recorded") < reported.index("<h2>")


def test_a_report_of_recorded_activity_shows_its_zeros_by_layer(tiny_net: Net, report: Report) -> None:
    key = "layers.1.attn.o_proj.norm.scale:o_proj"
    half = {**report.activity.messages, key: report.activity.messages[key] // 2}
    recorded = replace(report, recorded=True, activity=replace(report.activity, messages=half, origin="a run"))
    text = Page(report_page(recorded, tiny_net)).text
    assert "layers.1 0.0% 0.0% 0.0% 50.0% 0.0% 0.0%" in text
    assert "recorded activity (a run, 1 token)" in text


def recorded_activity(graph: Graph, sent: np.ndarray, incidents: Sequence[list[int]] = ()) -> Activity:
    """What a recorder makes of the messages [T, outputs] of a run and of its incidents."""
    recorder = ActivityRecorder(graph)
    assert recorder.observer.counts is not None
    recorder.observer.counts(sent, np.array(incidents, dtype=np.int32).reshape(-1, 4))
    return recorder.activity()


def test_every_block_with_neurons_has_a_row_of_activity_in_the_order_of_the_graph(
    tiny_net: Net, reported: str
) -> None:
    blocks = dict.fromkeys(block_of(node.name) for node in tiny_net.graph if isinstance(node, NeuronGroup))
    names = [row[0].removesuffix(" (host)") for row in activity_rows(reported)]
    assert names == list(blocks)
    assert names[0] == "embeddings"


def test_blocks_that_the_host_computes_are_marked_in_activity(tiny_net: Net, report: Report) -> None:
    for head, name in (("host", "lm_head (host)"), ("chip", "lm_head")):
        context = activity_context(report, placed_anew(tiny_net, head))
        assert context["activity"].rows[-1].cells[0] == name
        assert ("the model leaves it out" in context["activity_text"]) == (head == "host")


@pytest.mark.parametrize("head", ["host", "chip"])
def test_rows_of_activity_on_chip_add_up_to_what_is_counted_by_token(
    tiny_net: Net, report: Report, head: str
) -> None:
    net = placed_anew(tiny_net, head)
    outputs = len(report.activity.messages)
    counts = np.arange(2 * outputs, dtype=np.int32).reshape(2, outputs) + 1
    recorded = recorded_activity(tiny_net.graph, counts)
    by_token = on_chip_activity(net.graph, net.placed.placement, recorded)
    page = report_page(replace(report, recorded=True, activity=recorded), net)
    rows = [row for row in activity_rows(page) if "(host)" not in row[0]]
    for column, what in ((-3, "messages"), (-2, "synaptic_operations")):
        shown = sum(int(row[column].replace(",", "")) for row in rows)
        assert shown == pytest.approx(by_token[what].mean(), abs=len(rows))


def test_a_report_of_recorded_activity_plots_it_over_tokens(tiny_net: Net, report: Report) -> None:
    outputs = len(report.activity.messages)
    table = np.arange(300 * outputs, dtype=np.int32).reshape(300, outputs)
    operations, saturations = np.linspace(2e6, 3e6, 300), np.zeros(300, dtype=np.int64)
    nodes = counting_nodes(tiny_net.graph)
    row = [7, nodes.index("layers.1.attn.mlgru"), 1234, 0]
    recorded = replace(
        report,
        recorded=True,
        activity=recorded_activity(tiny_net.graph, table, [row]),
        per_token={"messages": table.sum(axis=1), "synaptic_operations": operations, "saturations": saturations},
    )
    page = Page(report_page(recorded, tiny_net))
    assert page.open == []
    assert page.misplaced == []
    assert "synaptic operations least 2,000,000, median 2,500,000, greatest 3,000,000" in page.text
    assert re.search(r"layers\.1 [^a-z]* 1,234 ", page.text)
    labels = [each.get("aria-label") or "" for each in page.all("svg")]
    assert any("millions over token: least 2.00, greatest 3.00" in each for each in labels)
    assert any("saturations over token: least 0, greatest 0" in each for each in labels)


def test_the_first_tables_are_unfolded_and_the_others_only_in_print(tiny_net: Net, report: Report) -> None:
    counts = {"messages": np.array([1, 2])}
    for each, number in ((report, 2), (replace(report, recorded=True, per_token=counts), 3)):
        text = report_page(each, tiny_net)
        opened = re.findall(r"<details open>\s*<summary>([^<]*)", text)
        assert [name.split()[0].rstrip(",") for name in opened] == ["net", "Zeros", "Activity"][:number]
        assert "<summary>Sessions" in text
        printed = text[text.rindex("@media print", 0, text.index("details::details-content")) :]
        assert "details::details-content { content-visibility: visible; display: block; }" in printed


def test_print_shows_folded_tables(reported: str, tmp_path: Path) -> None:
    folded = re.sub("details::details-content[^}]*}", "", reported)
    pages = [printed_pages(each, tmp_path / name) for name, each in (("as is", reported), ("folded", folded))]
    assert pages[0] > pages[1]


def test_a_source_goes_under_its_row_on_a_narrow_screen(reported: str) -> None:
    assert '<table class="noted" style="--between: 3">' in reported
    assert (
        '<table class="noted" style="--between: 2">' in reported
    )  # two texts: what is left out, and the citation
    noted = len(load_parameters().named()) + 2 * len(load_published().accelerators)
    assert reported.count('<td class="wide note">') == noted


def test_places_are_counted_in_words(tiny_net: Net, report: Report) -> None:
    assert " 1 chip of loihi2;" in Page(report_page(report, tiny_net)).text
    board = {"system_name": "kapoho-point", "chips_used": 3, "board_chips": 8}
    placed = replace(report, about={**report.about, **board})
    assert " 3 of 8 chips of kapoho-point;" in Page(report_page(placed, tiny_net)).text


def test_the_energy_of_a_board_has_a_card_where_one_is_meant(tiny_net: Net, report: Report) -> None:
    board = replace(report, workload=replace(report.workload, board_chips=8))
    energy = board.board_energy("generate")
    assert energy is not None
    card = f"generating: energy a token, whole board {format_number(energy.value)} mJ modelled"
    assert card in Page(report_page(board, tiny_net)).text
    assert "whole board" not in report_page(report, tiny_net).split("<main>")[0]


def test_a_part_of_the_time_too_small_to_be_seen_is_not_in_the_key(tiny_net: Net, report: Report) -> None:
    phase = replace(report.prediction.generate, shares={"synapses": 0.996, "neurons": 0.004})
    page = report_page(
        replace(report, prediction=replace(report.prediction, prefill=phase, generate=phase)), tiny_net
    )
    assert "</i>synapses</li>" in page
    assert "</i>neurons</li>" not in page


def test_a_stage_has_the_same_colour_on_every_page(tiny_net: Net, report: Report) -> None:
    stages = [*stage_seconds(CoreLoad(), report.parameters), "links", "barrier"]

    def colours(names: Sequence[str]) -> dict[str, str]:
        phase = replace(report.prediction.generate, shares={name: 1 / len(names) for name in names})
        prediction = replace(report.prediction, prefill=phase, generate=phase)
        page = report_page(replace(report, prediction=prediction), tiny_net)
        return {name: colour for colour, name in re.findall(r"--(k\d)\)\"></i>([a-z ]+)</li>", page)}

    every = colours(stages)
    assert len(set(every.values())) == len(stages)
    for name in stages:
        assert colours([name]) == {name: every[name]}


def test_cores_that_links_lead_to_are_listed_under_heads_that_stay(inspected: str) -> None:
    for part in inspected.split('<div class="')[1:]:
        (kind,) = re.findall('^[^"]*', part)
        if kind.startswith("scroll"):
            linked = '<tr id="' in part.split("</table>")[0]
            assert ("linked" in kind.split()) == linked
    assert re.search(r"\.scroll\.linked thead th \{ position: sticky; top: 0;", inspected)


def test_commands_in_a_text_are_code(reported: str) -> None:
    assert re.search("<code><span>loihi-mmfree</span> <span>run</span> .*<span>--activity</span></code>", reported)
    assert "`" not in reported
    assert prose("`a<b` and <i>").text == "<code><span>a&lt;b</span></code> and &lt;i&gt;"


def test_a_page_names_the_version_that_made_it(text: str) -> None:
    assert f"Made by loihi-mmfree {__version__}." in Page(text).text


def test_a_report_of_one_token_has_no_plot_over_tokens(tiny_net: Net, report: Report) -> None:
    assert "Activity of each token" not in report_page(report, tiny_net)


def test_a_report_without_a_sweep_has_no_plot_of_one(tiny_net: Net, report: Report) -> None:
    assert "What other settings would do" not in report_page(replace(report, sweep=()), tiny_net)


def test_the_name_of_a_network_cannot_become_markup_of_its_report(tiny_net: Net, report: Report) -> None:
    hostile = replace(report, about={**report.about, "net": EVIL, "system_name": EVIL})
    page = Page(report_page(hostile, tiny_net))
    assert not page.all("script")
    assert page.open == page.misplaced == []


def complaints(shown: subprocess.CompletedProcess[str]) -> list[str]:
    """What the browser refused, could not find or could not run."""
    return [line for line in shown.stderr.splitlines() if re.search(r"CONSOLE|net::ERR|Uncaught", line)]


def placed_anew(net: Net, head: str) -> Net:
    """The same network with its head somewhere else."""
    system = net.placed.chip
    copy = replace(net)
    vars(copy)["placed"] = Placed(system, place(net.graph, system, Request(weight_bits=8, head=head)))
    return copy


def activity_rows(page: str) -> list[list[str]]:
    """The cells of the table of activity, without markup."""
    part = page[page.index('aria-label="Activity per layer"') :].split("</table>")[0].split("<tbody>")[1]
    rows = (re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("</tr>"))
    return [[re.sub("<[^>]*>", "", cell).strip() for cell in row] for row in rows if row]


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
