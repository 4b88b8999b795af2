"""Tables of the commands: whole in a terminal of any width."""

from __future__ import annotations

import re

import pytest

from loihi_mmfree.cli.output import column_widths, folded, print_table

COLUMNS = ("hardware", "generate tokens/s", "mJ", "source")
ROWS = [
    ("Loihi 2, 24 chips", "17,445", "0.0621 mJ", "published measurement"),
    ("[bold]Jetson[/] Orin Nano", "719 to 1,168", "10,100 mJ", "modelled"),
]


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, title: str = "A table"
) -> list[str]:
    """The lines of the table in a terminal of some width."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(title, COLUMNS, ROWS)
    return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 200])
def test_no_terminal_is_too_narrow_for_a_number_or_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width)
    text = "\n".join(lines)
    assert "…" not in text
    for whole in ("17,445", "0.0621 mJ", "10,100 mJ", "24 chips", "1,168", "measurement", "modelled", "Orin"):
        assert whole in text


def test_a_table_that_can_be_folded_is_as_narrow_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(map(len, printed(capsys, monkeypatch, 60))) <= 60


def test_what_looks_like_markup_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(printed(capsys, monkeypatch, 200, title="net [red]"))
    assert "net [red]" in text
    assert "[bold]Jetson[/] Orin Nano" in text


def test_a_dash_stands_in_a_column_of_numbers_as_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("A table", ("what", "tokens/s"), [("a", "10,000"), ("b", "-")])
    *_, first, second, _ = capsys.readouterr().out.splitlines()
    assert first.rstrip().endswith("10,000")
    assert len(second.rstrip()) == len(first.rstrip())


def test_a_number_keeps_its_unit() -> None:
    assert folded("0.0571 mJ (0.0389 to 0.141)", 1) == ["0.0571 mJ", "(0.0389 to", "0.141)"]
    assert folded("0.0571 mJ (0.0389 to 0.141)", 20) == ["0.0571 mJ (0.0389 to", "0.141)"]


def test_headings_are_folded_before_cells() -> None:
    assert column_widths([("generate tokens/s", "719"), ("variation", "spread over two chips")], 30) == [9, 21]


def test_columns_are_never_narrower_than_their_longest_word() -> None:
    assert column_widths([("source", "published measurement"), ("mJ", "10,100")], 0) == [11, 6]
