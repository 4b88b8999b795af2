"""loihi-mmfree compile --budget: the narrowest formats that keep it, and a network that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

PROSE = "It was a dark night, and the rain fell on the roofs of the town, where nobody slept but the cat. "


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Whatever the machine has."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_what_was_found_is_what_its_settings_compile_to(call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    first, second, text = tmp_path / "first", tmp_path / "second", tmp_path / "text.txt"
    text.write_text(PROSE * 40)
    options = ("--budget", "3%", "--budget-text", text, "--budget-trials", 3)
    found = call("compile", tiny_checkpoint, "-o", first, *options, "--json")
    assert found.code == 0, found.err
    narrowing = found.document["narrowing"]
    assert narrowing["found"]["kept"]
    assert narrowing["found"]["relative_interval"][1] <= 0.03
    assert [each["number"] for each in narrowing["trials"]] == [1, 2, 3]
    assert "trial 2: *.input to 8 bits" in found.err
    assert "Formats within +3.000%" in found.out
    again = call("compile", tiny_checkpoint, "-o", second, "--config", first / "config.toml")
    assert again.code == 0, again.err
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "lots"), "--budget lots: give a share of perplexity"),
        (("--budget", "-1%"), "--budget -0.01: a share of perplexity"),
        (("--budget-text", "x.txt"), "--budget-text is what a budget is judged on; give --budget 0.2%"),
        (("--budget", "1%", "--budget-text", "missing.txt"), "--budget-text missing.txt: cannot be read"),
        (("--budget", "1%", "--budget-trials", "0"), "--budget-trials 0: at least 1"),
    ],
)
def test_what_no_search_can_do_is_said(call, tiny_checkpoint: Path, tmp_path: Path, options, said: str) -> None:
    found = call("compile", tiny_checkpoint, "-o", tmp_path / "net", *options)
    assert found.code == 2
    assert said in found.err
    assert not (tmp_path / "net").exists()


def test_a_network_in_the_way_is_said_before_the_search(call, tiny_checkpoint: Path, net_copy: Path) -> None:
    found = call("compile", tiny_checkpoint, "-o", net_copy, "--budget", "1%")
    assert found.code == 2
    assert "exists" in found.err
    assert "trial" not in found.err
