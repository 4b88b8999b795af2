"""loihi-mmfree sweep: networks that were compiled, evaluated and counted, beside one another."""

from __future__ import annotations

from pathlib import Path

import pytest

import loihi_mmfree
from loihi_mmfree.activity.counts import projection_zeros

PROSE = "It was a dark night, and the rain fell on the roofs of the town, where nobody slept but the cat. "


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Whatever the machine has."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_row_is_what_evaluate_and_report_say_of_its_network(call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    text, kept = tmp_path / "text.txt", tmp_path / "nets"
    text.write_text(PROSE * 24)
    options = ("--text", text, "--act-bits", "8", "--zeros", "0.3", "--limit", 2, "-o", kept, "--json")
    called = call("sweep", tiny_checkpoint, *options)
    assert called.code == 0, called.err
    (row,) = called.document["networks"]
    assert row["setting"] == "a8-zeros0.3"
    assert row["zeros"] == pytest.approx(0.3, abs=0.1)
    assert row["best"]
    assert called.document["sources"]["millijoules"].startswith("modelled")
    assert "modelled for Loihi 2 from these counts" in " ".join(called.out.split())
    net = loihi_mmfree.load(kept / "a8-zeros0.3")
    found = loihi_mmfree.evaluate(net, text=text, checkpoint=tiny_checkpoint, limit=2).to_dict()
    assert found["paired"]["relative"] == row["relative"]
    assert found["perplexity"] == row["perplexity"]
    made = loihi_mmfree.report(net).to_dict()
    assert made["generate"]["tokens_per_s"]["value"] == row["tokens_per_s"]
    assert made["generate"]["millijoules_per_token"]["value"] == row["millijoules"]
    by_kind = projection_zeros(net.graph, loihi_mmfree.activity(net))
    assert min(by_kind.values()) <= row["zeros"] <= max(by_kind.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--act-bits", "8,x"), "--act-bits 8,x: give numbers separated by commas"),
        (("--act-bits", "3"), "activation_bits is 3; allowed: whole numbers from 4 to 16"),
        (("--zeros", "2"), "zeros is 2.0; it must be a number from 0 to 0.95"),
    ],
)
def test_what_cannot_be_swept_is_said(call, tiny_checkpoint: Path, options, said: str) -> None:
    found = call("sweep", tiny_checkpoint, "--text", "missing.txt", *options)
    assert found.code == 2
    assert said in found.err
