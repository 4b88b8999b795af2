"""What Loihi 2 allows: every number with its unit, source and confidence. Nothing else states a limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, parse_toml, read_text
from loihi_mmfree.untrusted import short, some_of

Confidence = Literal["published", "inferred", "assumed"]


@dataclass(frozen=True)
class Figure:
    """A number about the chip.

    Parameters
    ----------
    value : int
    unit : str
    source : str
        Where it is from; of an assumption, the reasoning.
    confidence : str
        "published", "inferred" from something published, or "assumed".
    """

    value: int
    unit: str
    source: str
    confidence: Confidence


@dataclass(frozen=True)
class ChipSpec:
    """One system of Loihi 2 chips: the limits that a network on it must keep.

    Every field but the name is a Figure. Chips lie in a grid of `chip_rows` x `chip_columns`, numbered along a
    snake so that consecutive chips are neighbours; the cores of a chip lie in a mesh of `mesh_rows` x
    `mesh_columns`, numbered row by row.
    """

    name: str
    chips: Figure
    chip_rows: Figure
    chip_columns: Figure
    cores_per_chip: Figure
    mesh_rows: Figure
    mesh_columns: Figure
    neurons_per_core: Figure
    core_memory_bytes: Figure
    synapse_memory_bytes: Figure
    input_axons: Figure
    output_axons: Figure
    output_axon_bytes: Figure
    axon_header_bytes: Figure
    sparse_index_bytes: Figure
    delay_field_bytes: Figure
    weight_bits: Figure
    program_memory_bytes: Figure
    instruction_bytes: Figure
    table_memory_bytes: Figure
    message_bytes: Figure
    message_bits: Figure
    accumulator_bits: Figure
    state_bits: Figure
    register_bits: Figure
    synapse_delay: Figure
    message_operations: Figure

    def figures(self) -> dict[str, Figure]:
        """Return every figure by its name."""
        named = ((each.name, getattr(self, each.name)) for each in dataclasses.fields(self))
        return {name: value for name, value in named if isinstance(value, Figure)}

    def to_dict(self) -> dict[str, Any]:
        """Return a description that `system_from_mapping` reads."""
        figures = {
            key: {"value": each.value, "source": each.source, "confidence": each.confidence}
            for key, each in self.figures().items()
        }
        return {"name": self.name, **figures}


_BRIEF = "Intel Labs, Loihi 2 technology brief (2021), as quoted by others"
_MESH = (
    f"the 8 x 16 mesh of cores of {_BRIEF}; each core has a router of its own here, on the chip four share one of "
    "an 8 x 4 grid (Timcheck et al. 2026, arXiv:2601.10035, as quoted by others)"
)
_LOIHI1 = "Loihi 1 (Davies et al. 2018; the same figure in nengo-loihi)"
_LAVA = "lava-nc 0.10.0"

HALA_POINT = ChipSpec(
    name="hala-point",
    chips=Figure(1152, "chip", "Intel, Hala Point announcement (April 2024)", "published"),
    chip_rows=Figure(
        32, "chip", "a near-square grid of 1152; the wiring is three-dimensional, not public", "assumed"
    ),
    chip_columns=Figure(36, "chip", "a near-square grid of 1152; the wiring is not public", "assumed"),
    cores_per_chip=Figure(
        120,
        "core",
        f"128 in {_BRIEF}; Hala Point has 140544 on its 1152 chips, 122 each; later papers and users' code count "
        "120, the safe figure",
        "published",
    ),
    mesh_rows=Figure(8, "core", _MESH, "inferred"),
    mesh_columns=Figure(16, "core", _MESH, "inferred"),
    neurons_per_core=Figure(8192, "neuron", _BRIEF, "published"),
    core_memory_bytes=Figure(
        196608, "byte", f"192 times 1024 bytes a core, flexibly divided: {_BRIEF}", "published"
    ),
    synapse_memory_bytes=Figure(
        131072,
        "byte",
        f"up to 128 of the 192 times 1024 bytes: {_BRIEF}; the same as Loihi 1 (1048576 bits), and with 8-bit "
        "weights it makes a block of the 370M fill about one chip, as published (Abreu et al. 2025)",
        "published",
    ),
    input_axons=Figure(
        16384,
        "axon",
        f"4096 in {_LOIHI1} for 1024 neurons; Loihi 2 holds 8 times the neurons a core and compresses axon "
        "routing; four times the axons are assumed",
        "assumed",
    ),
    output_axons=Figure(
        16384,
        "axon",
        f"4096 in {_LOIHI1} for 1024 neurons; four times as many are assumed, as for input axons",
        "assumed",
    ),
    output_axon_bytes=Figure(
        2,
        "byte",
        "a 16-bit routing entry, held in the memory that is not synapses; the format is not public",
        "assumed",
    ),
    axon_header_bytes=Figure(
        4,
        "byte",
        "Loihi 1 heads a list of synapses with 10 bits and rounds it up to 64-bit words (nengo-loihi), in the "
        "mean 5 bytes; 4 are taken for one list of one input axon, dense or sparse",
        "assumed",
    ),
    sparse_index_bytes=Figure(
        2, "byte", "the number of one of 8192 neurons takes 13 bits, rounded up to bytes", "inferred"
    ),
    delay_field_bytes=Figure(1, "byte", "6 bits of a delay of at most 63 steps, rounded up to a byte", "inferred"),
    weight_bits=Figure(
        8, "bit", f"widest weight; narrower ones are packed: {_LAVA}, lava.proc.dense", "published"
    ),
    program_memory_bytes=Figure(
        8192,
        "byte",
        "neuron programs are microcode (Intel's technology brief); how much a core holds is not public",
        "assumed",
    ),
    instruction_bytes=Figure(
        8, "byte", "one instruction of ours as two 32-bit microinstructions; the format is not public", "assumed"
    ),
    table_memory_bytes=Figure(
        8192,
        "byte",
        "public fixed-point models of the family use small tables (IntelLabs, S5 on Loihi 2); room for some "
        "thousand entries is assumed",
        "assumed",
    ),
    message_bytes=Figure(
        8, "byte", "a payload of 32 bits (technology brief) and a header of 32 bits, on every hop", "assumed"
    ),
    message_bits=Figure(24, "bit", f"{_LAVA}, lava.proc.dense num_message_bits", "published"),
    accumulator_bits=Figure(24, "bit", f"{_LAVA}, lava.proc.dense bit widths", "published"),
    state_bits=Figure(24, "bit", f"{_LAVA}, lava.proc.lif fixed-point state", "published"),
    register_bits=Figure(
        40, "bit", "a 24-bit accumulator times a 15-bit multiplier; the width itself is not public", "assumed"
    ),
    synapse_delay=Figure(63, "time step", f"{_LAVA}, lava.proc.dense DelayDense", "published"),
    message_operations=Figure(
        21,
        "synaptic operation",
        "what one message into a core takes as much time as: 16 ns on Loihi 1, with no factor for Loihi 2 known, "
        "over 3.8 ns for a synaptic operation (SANA-FE, loihi.yaml, Boyle et al. 2025), 5 times faster on Loihi 2 "
        f"({_BRIEF}); it weighs a core's load and limits nothing",
        "assumed",
    ),
)
"""The largest system that Intel has shown."""

LOIHI2 = replace(HALA_POINT, name="loihi2")
"""The default: no particular board, as many chips as the largest system has."""

KAPOHO_POINT = replace(
    HALA_POINT,
    name="kapoho-point",
    chips=Figure(8, "chip", "Intel, Kapoho Point (2022)", "published"),
    chip_rows=Figure(2, "chip", "eight chips as 2 x 4; boards stack, the wiring is not public", "assumed"),
    chip_columns=Figure(4, "chip", "eight chips as 2 x 4; boards stack, the wiring is not public", "assumed"),
)

OHEO_GULCH = replace(
    HALA_POINT,
    name="oheo-gulch",
    chips=Figure(1, "chip", _BRIEF, "published"),
    chip_rows=Figure(1, "chip", "one chip", "published"),
    chip_columns=Figure(1, "chip", "one chip", "published"),
)

WIDEST: Mapping[str, int] = {"message_bits": 32, "accumulator_bits": 32, "state_bits": 32, "register_bits": 63}
"""What this package computes with: messages and sums are kept in 32 bits, registers in 64."""
NARROWEST_BITS = 2
"""A sign and a magnitude."""
LARGEST_GRID = 2**16
"""Chips of a system, or cores of a chip, at most: maps and routes go through all places of a grid."""
LARGEST_FIGURE = 2**40
LONGEST_NAME = 100

SYSTEMS: Mapping[str, ChipSpec] = {spec.name: spec for spec in (LOIHI2, OHEO_GULCH, KAPOHO_POINT, HALA_POINT)}
"""The systems known by name."""


def load_system(name_or_path: str | Path) -> ChipSpec:
    """Return a system by its name, or read one from a TOML file.

    The file names a `base` (default "loihi2") and whichever figures differ from it, each as a whole number or
    as a table of `value`, and optionally `source` and `confidence`; `name` renames the system, which otherwise
    is called like the file.

    Raises
    ------
    UsageError
        No such system or file; or a key of the file is unknown, of the wrong type or not positive.
    """
    if str(name_or_path) in SYSTEMS:
        return SYSTEMS[str(name_or_path)]
    path = Path(name_or_path)
    try:
        text = read_text(path, LARGEST_SETTINGS_BYTES)
    except UsageError as error:
        raise UsageError(
            f"chip: {str(name_or_path)!r} is neither a known system nor a readable TOML file; known systems: "
            f"{', '.join(SYSTEMS)} ({error})"
        ) from error
    return system_from_mapping(parse_toml(text, str(path)), str(path), path.stem)


def system_from_mapping(given: Mapping[str, Any], where: str, name: str) -> ChipSpec:
    """Read a system from what its TOML file holds; `where` names it in errors, `name` if it states none.

    Raises
    ------
    UsageError
        As `load_system`.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: a system is a table, found {short(given)}")
    values = dict(given)
    base = values.pop("base", LOIHI2.name)
    if not isinstance(base, str) or base not in SYSTEMS:
        raise UsageError(f"{where}: base is {short(base)}; known systems: {', '.join(SYSTEMS)}")
    name = values.pop("name", name)
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise UsageError(f"{where}: name must be a text of at most {LONGEST_NAME} letters, found {short(name)}")
    known = SYSTEMS[base].figures()
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"{where}: unknown {some_of(unknown)}; known: {', '.join(sorted(known))}")
    changed = {key: _figure(value, known[key], where, key) for key, value in values.items()}
    spec = replace(SYSTEMS[base], name=name, **cast("dict[str, Any]", changed))
    _check_grid(spec, where)
    _check_widths(spec, where)
    return spec


def _figure(given: Any, known: Figure, where: str, key: str) -> Figure:
    """The figure that a file gives, with the unit of the one it replaces."""
    fields = given if isinstance(given, dict) else {"value": given}
    unknown = sorted(set(fields) - {"value", "source", "confidence"})
    if unknown or "value" not in fields:
        raise UsageError(f"{where}: {key} must be a number or a table of value, source and confidence")
    value, source = fields["value"], fields.get("source", where)
    confidence = fields.get("confidence", "assumed")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{where}: {key} must be a whole number, found {short(value)}")
    if value < 1:
        raise UsageError(f"{where}: {key} is {short(value)}; it must be at least 1 {known.unit}")
    most = LARGEST_GRID if known.unit in ("chip", "core") else LARGEST_FIGURE
    if value > most:
        raise UsageError(f"{where}: {key} is {short(value)}; it must be at most {most} {known.unit}s")
    if not isinstance(source, str):
        raise UsageError(f"{where}: {key}.source must be a text, found {short(source)}")
    if confidence not in get_args(Confidence):
        known_ones = ", ".join(get_args(Confidence))
        raise UsageError(f"{where}: {key}.confidence is {short(confidence)}; it must be one of {known_ones}")
    return Figure(value, known.unit, source, confidence)


def _check_widths(spec: ChipSpec, where: str) -> None:
    """Raise UsageError unless values of the widths can be computed with here."""
    for name, widest in WIDEST.items():
        value = spec.figures()[name].value
        if not NARROWEST_BITS <= value <= widest:
            raise UsageError(f"{where}: {name} is {value}; it must be {NARROWEST_BITS} to {widest} bits")


def _check_grid(spec: ChipSpec, where: str) -> None:
    """Raise UsageError unless the grids have a place for every chip and core, and the memories for their parts."""
    for rows, columns, needed, what in (
        (spec.chip_rows, spec.chip_columns, spec.chips, "chips"),
        (spec.mesh_rows, spec.mesh_columns, spec.cores_per_chip, "cores_per_chip"),
    ):
        if rows.value * columns.value > LARGEST_GRID:
            raise UsageError(f"{where}: a grid of {rows.value} x {columns.value}; at most {LARGEST_GRID} places")
        if rows.value * columns.value < needed.value:
            raise UsageError(
                f"{where}: {what} is {needed.value}, the grid has {rows.value} x {columns.value} places"
            )
    if spec.core_memory_bytes.value <= spec.synapse_memory_bytes.value:
        raise UsageError(
            f"{where}: synapse_memory_bytes is {spec.synapse_memory_bytes.value}; it must be less than "
            f"core_memory_bytes, {spec.core_memory_bytes.value}"
        )
