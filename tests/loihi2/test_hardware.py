"""Systems by name and from TOML files."""

from __future__ import annotations

from pathlib import Path

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.loihi2.hardware import LOIHI2, SYSTEMS, Figure, load_system, system_from_mapping


@pytest.mark.parametrize(
    ("name", "chips"), [("loihi2", 1152), ("oheo-gulch", 1), ("kapoho-point", 8), ("hala-point", 1152)]
)
def test_the_systems_that_intel_has_shown_are_known_by_name(name: str, chips: int) -> None:
    assert load_system(name).name == name
    assert load_system(name).chips.value == chips


def test_every_figure_states_where_it_is_from() -> None:
    for spec in SYSTEMS.values():
        for name, figure in spec.figures().items():
            assert figure.source, name
            assert figure.unit, name
            assert figure.value >= 1, name


def test_grids_have_a_place_for_every_chip_and_core() -> None:
    for spec in SYSTEMS.values():
        assert spec.chips.value <= spec.chip_rows.value * spec.chip_columns.value
        assert spec.cores_per_chip.value <= spec.mesh_rows.value * spec.mesh_columns.value


def test_a_file_overrides_figures_of_its_base(tmp_path: Path) -> None:
    path = tmp_path / "our-board.toml"
    path.write_text(
        'base = "kapoho-point"\ninput_axons = 4096\n'
        '[output_axons]\nvalue = 2048\nsource = "INRC documentation"\nconfidence = "published"\n'
    )
    spec = load_system(path)
    assert spec.name == "our-board"
    assert spec.chips.value == 8
    assert spec.input_axons == Figure(4096, "axon", str(path), "assumed")
    assert spec.output_axons == Figure(2048, "axon", "INRC documentation", "published")
    assert spec.synapse_memory_bytes == LOIHI2.synapse_memory_bytes


def test_a_file_may_name_its_system(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('name = "two-chips"\nbase = "oheo-gulch"\nchips = 2\nchip_columns = 2\n')
    assert load_system(str(path)).name == "two-chips"


def test_a_description_gives_the_same_system_back() -> None:
    spec = SYSTEMS["kapoho-point"]
    assert system_from_mapping(spec.to_dict(), "net", "?") == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input_axon = 3", "unknown input_axon; known: .*input_axons"),
        ('input_axons = "many"', "input_axons must be a whole number, found 'many'"),
        ("input_axons = true", "input_axons must be a whole number, found True"),
        ("input_axons = 4096.0", "input_axons must be a whole number"),
        ("input_axons = 0", "input_axons is 0; it must be at least 1 axon"),
        ("input_axons = -4", "input_axons is -4"),
        ('[input_axons]\nsource = "x"', "input_axons must be a number or a table of value"),
        ("[input_axons]\nvalue = 5\nunit = 'x'", "input_axons must be a number or a table of value"),
        ("[input_axons]\nvalue = 5\nsource = 4", "input_axons.source must be a text"),
        ("[input_axons]\nvalue = 5\nconfidence = 'sure'", "input_axons.confidence is 'sure'"),
        ("base = 'loihi3'", "base is 'loihi3'; known systems: loihi2"),
        ("base = ['loihi2']", "base is"),
        ("name = 3", "name must be a text"),
        ("base = 'oheo-gulch'\nchips = 2", "chips is 2, the grid has 1 x 1 places"),
        ("cores_per_chip = 129", "cores_per_chip is 129, the grid has 8 x 16 places"),
        ("synapse_memory_bytes = 300000", "synapse_memory_bytes is 300000; it must be less than"),
        ("chips = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        load_system(path)
    assert "board.toml" in str(caught.value)


def test_neither_a_name_nor_a_file() -> None:
    with pytest.raises(UsageError, match="'loihi3' is neither a known system nor a readable TOML file"):
        load_system("loihi3")
