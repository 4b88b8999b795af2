"""report and inspect --html, as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]


def test_without_recorded_activity_it_says_so_and_takes_the_worst_case(call: Call, tiny_net: Net) -> None:
    called = call("report", tiny_net.path, "--json")
    assert called.code == 0
    assert called.document["activity"]["source"] == "worst case"
    assert "worst case" in called.out.rpartition("{")[0]


def test_with_recorded_activity_it_takes_that(call: Call, net_copy: Path) -> None:
    worst = call("report", net_copy, "--json").document
    call("run", net_copy, "--backend", "engine", "--ids", "1,2,3,4", "-n", 8, "--activity")
    found = call("report", net_copy, "--json").document
    assert found["activity"]["source"] == "recorded"
    assert found["activity"]["tokens"] == 11
    energy = [each["generate"]["millijoules_per_token"]["value"] for each in (found, worst)]
    assert energy[0] <= energy[1]


def test_what_it_promises_has_value_unit_source_and_inputs(call: Call, tiny_net: Net) -> None:
    document = call("report", tiny_net.path, "--json").document
    for phase in ("prefill", "generate"):
        for name in ("tokens_per_s", "millijoules_per_token"):
            quantity = document[phase][name]
            assert quantity.keys() >= {"value", "unit", "source", "inputs"}
            assert quantity["source"] == "modelled"
            assert quantity["value"] > 0


@pytest.mark.parametrize("command", ["inspect", "report"])
def test_a_page_is_written_whole_or_not_at_all(call: Call, tiny_net: Net, tmp_path: Path, command: str) -> None:
    assert call(command, tiny_net.path, "--html", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_text().rstrip().endswith("</html>")
    called = call(command, tiny_net.path, "--html", tmp_path / "nowhere" / "page.html")
    assert called.code == 2
    assert "--html" in called.err
