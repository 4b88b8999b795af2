"""What the page of `inspect` shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loihi_mmfree.ir.nodes import block_of
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.resources import RESOURCES, UNITS
from loihi_mmfree.place.traffic import CoreTraffic, Traffic
from loihi_mmfree.report.pages.chip_map import LEVELS, ChipMap, chip_map, core_id, label
from loihi_mmfree.report.pages.link_map import busiest_chip, link_map
from loihi_mmfree.report.pages.tables import (
    NOTE,
    TEXT,
    WIDE,
    Fact,
    Row,
    Table,
    bar,
    count,
    grade,
    table,
)
from loihi_mmfree.report.summary import CoreSummary, NodeSummary, Summary
from loihi_mmfree.units import bytes_text, kilobytes

FULLEST, BUSIEST = 12, 8
"""How many of the fullest cores and of the busiest links are listed."""
_MOST_PAIRS = 48
OBJECTIVES = {"chips": "fewest chips", "speed": "shortest step"}


def inspect_context(net: Net, summary: Summary, moved: Traffic) -> dict[str, Any]:
    """Return what the template of the page is filled with."""
    maps = chip_map(net, summary, moved)
    return {
        "name": net.path.resolve().name,
        "system": summary.chip,
        "model": _model(net),
        "facts": _facts(net.placed.chip, summary),
        "maps": maps,
        "levels": LEVELS,
        "resources": _resources(summary),
        "fullest": _fullest(summary),
        "blocks": _blocks(summary),
        "chips": _chips(summary),
        "link_map": link_map(net.placed.chip, moved, busiest_chip(moved)),
        "link_caption": _link_caption(moved),
        "traffic_text": (
            "In a step of the pipelined schedule every neuron acts once. At worst each of them sends; a zero "
            "sends nothing, so a run sends less. A multicast counts once on every link of its tree."
        ),
        "traffic_facts": _traffic_facts(moved),
        "links": _links(moved),
        "between": _between(moved),
        "figures_text": _figures_text(net.placed.chip),
        "figures": _figures(net.placed.chip),
        "cores": _cores(summary, moved, maps),
        "nodes": _nodes(summary),
        "footer": _footer(net),
    }


def _model(net: Net) -> str:
    model = net.manifest["model"]
    return (
        f"MatMul-free language model: {model['num_hidden_layers']} layers, hidden size {model['hidden_size']:,}, "
        f"intermediate size {model['intermediate_size']:,}, vocabulary {model['vocab_size']:,}"
    )


def _footer(net: Net) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(net.manifest["versions"].items()))
    return f"Compiled from a checkpoint with SHA-256 {net.manifest['checkpoint_sha256'][:16]}… by {versions}."


def _facts(spec: ChipSpec, summary: Summary) -> list[Fact]:
    places = summary.chips_used * spec.cores_per_chip.value
    fullest = summary.fullest_cores[0]
    return [
        Fact("chips", count(summary.chips_used), f"of {spec.chips.value:,} of {summary.chip}"),
        Fact("cores", count(summary.cores_used), f"{summary.cores_used / places:.0%} of those on these chips"),
        Fact("fullest core", f"{fullest.load:.1%}", f"{label(fullest.fullest)}, {fullest.chip}/{fullest.core}"),
        Fact("depth", f"{summary.depth_steps:,} steps", "from token to logits"),
        Fact("weights", f"{summary.weight_bits} bit", "in synapse memory; ternary values"),
        Fact("activations", f"{summary.activation_bits} bit", "inputs of projections"),
        Fact("LM head", f"on {summary.head}", "final norm, head and logits"),
        Fact("objective", OBJECTIVES.get(summary.objective, summary.objective), "of the placement"),
        Fact("neurons", count(summary.neurons), "on the chips"),
        Fact("synapses", f"{summary.synapses / 1e6:,.2f} M", "non-zero, on the chips"),
        Fact("synapse memory", bytes_text(summary.synapse_bytes), "with the encoding's overhead"),
    ]


def _resources(summary: Summary) -> Table:
    rows = []
    for name in RESOURCES:
        used = [core.usage[name][0] for core in summary.cores]
        limit = summary.cores[0].usage[name][1]
        mean, most = sum(used) / len(used), max(used)
        cells = (UNITS[name], count(mean), count(most), f"{limit:,}", bar(most / limit), f"{most / limit:.1%}")
        rows.append(cells)
    headings = (("a core holds", TEXT), "in the mean", "at most", "limit", ("", TEXT), "of the limit")
    return table(headings, rows)


def _fullest(summary: Summary) -> Table:
    rows = []
    for core in summary.fullest_cores[:FULLEST]:
        used, limit = core.usage[core.fullest]
        place = f"{core.chip}/{core.core}"
        rows.append(
            (place, f"{core.load:.1%}", bar(core.load), label(core.fullest), f"{used:,} of {limit:,}", _held(core))
        )
    headings = (("chip/core", TEXT), "load", ("", TEXT), ("resource", TEXT), "used", ("neurons held", WIDE))
    return table(headings, rows)


def _blocks(summary: Summary) -> Table:
    rows = [
        (
            block.name,
            _ranges(block.chips) or "host",
            count(block.cores) if block.cores else "",
            count(block.neurons),
            count(block.synapses),
            kilobytes(block.synapse_bytes) if block.cores else "",
            count(block.instructions),
            str(block.steps),
        )
        for block in summary.blocks
    ]
    headings = (
        ("block", TEXT),
        ("chip", TEXT),
        "cores",
        "neurons",
        "synapses",
        "synapse memory, kB",
        "instructions a step",
        "steps",
    )
    return table(headings, rows)


def _chips(summary: Summary) -> Table:
    rows = [
        Row(
            (
                f"chip {chip.chip}",
                count(chip.cores),
                count(chip.neurons),
                kilobytes(chip.synapse_bytes),
                f"{chip.load:.1%}",
                bar(chip.load),
                ", ".join(chip.blocks),
            ),
            id=f"chip-{chip.chip}",
        )
        for chip in summary.chips
    ]
    headings = (
        ("chip", TEXT),
        "cores",
        "neurons",
        "synapse memory, kB",
        "fullest core",
        ("", TEXT),
        ("holds", WIDE),
    )
    return table(headings, rows)


def _traffic_facts(moved: Traffic) -> list[Fact]:
    between = sum(moved.between_chips().values())
    receiver = max(moved.cores, key=lambda core: core.received)
    facts = [
        Fact("messages a step", count(moved.sent), "sent by neurons, each counted once"),
        Fact("hops a step", count(moved.link_messages), f"{bytes_text(moved.link_bytes)} over links"),
        Fact("between chips", count(between), f"messages, {bytes_text(between * moved.message_bytes)} a step"),
        Fact("host", f"{count(moved.host_sent)} in", f"{count(moved.host_received)} messages out"),
        Fact("busiest core", count(receiver.received), f"messages in, {receiver.chip}/{receiver.core}"),
    ]
    if busiest := moved.busiest_link:
        facts.append(Fact("busiest link", count(busiest.messages), "messages a step"))
    return facts


def _link_caption(moved: Traffic) -> str:
    most = moved.busiest_link.messages if moved.busiest_link else 0.0
    return (
        f"The mesh of chip {busiest_chip(moved)}, which has the busiest link: two lines for the two directions, "
        f"from none to {most:,.0f} messages a step."
    )


def _links(moved: Traffic) -> Table:
    links = sorted(moved.links, key=lambda each: -each.messages)[:BUSIEST]
    rows = [
        (
            f"{each.source[0]}/{each.source[1]} → {each.target[0]}/{each.target[1]}",
            count(each.messages),
            kilobytes(each.messages * moved.message_bytes),
            "between chips" if each.between_chips else "within the chip",
        )
        for each in links
    ]
    return table((("chip/router", TEXT), "messages a step", "kB a step", ("where", TEXT)), rows)


def _between(moved: Traffic) -> Table:
    pairs = sorted(moved.between_chips().items(), key=lambda each: (-each[1], each[0]))[:_MOST_PAIRS]
    rows = [
        (f"{source} → {target}", count(messages), kilobytes(messages * moved.message_bytes))
        for (source, target), messages in pairs
    ]
    return table((("chip → neighbour", TEXT), "messages a step", "kB a step"), rows)


def _figures_text(spec: ChipSpec) -> str:
    grades = Counter(each.confidence for each in spec.figures().values())
    return (
        f"Every limit above comes from these {sum(grades.values())} figures: {grades['published']} published, "
        f"{grades['inferred']} inferred from something published, {grades['assumed']} assumed. Give other ones in "
        "a TOML file (`loihi-mmfree compile CKPT -o NET --chip FILE`)."
    )


def _figures(spec: ChipSpec) -> Table:
    rows = [
        (name.replace("_", " "), f"{each.value:,}", each.unit, grade(each.confidence), each.source)
        for name, each in spec.figures().items()
    ]
    return table((("figure", TEXT), "value", ("unit", TEXT), ("confidence", TEXT), ("source", NOTE)), rows)


def _cores(summary: Summary, moved: Traffic, maps: ChipMap) -> list[Table]:
    """A table of the cores of every chip that is drawn."""
    limits = summary.cores[0].usage
    headings: list[str | tuple[str, str]] = [("core", TEXT)]
    headings += [f"{label(name)}, of {limits[name][1]:,}" for name in RESOURCES]
    headings += ["messages out", "messages in", ("neurons held", WIDE)]
    pairs = list(zip(summary.cores, moved.cores, strict=True))
    found = []
    for chip in maps.shown:
        rows = [_core_row(core, sent) for core, sent in pairs if core.chip == chip]
        found.append(table(headings, rows, f"Cores of chip {chip}"))
    return found


def _core_row(core: CoreSummary, moved: CoreTraffic) -> Row:
    used = (count(core.usage[name][0]) for name in RESOURCES)
    return Row((str(core.core), *used, count(moved.sent), count(moved.received), _held(core)), id=core_id(core))


def _nodes(summary: Summary) -> list[Table]:
    """A table of the nodes of every block."""
    by_block: dict[str, list[NodeSummary]] = {}
    for node in summary.nodes:
        by_block.setdefault(block_of(node.name), []).append(node)
    headings = (("node", TEXT), ("kind", TEXT), "size", "step", ("formats", WIDE))
    return [
        table(headings, [(n.name, n.kind, n.shape, str(n.offset), n.formats) for n in held], f"Nodes of {name}")
        for name, held in by_block.items()
    ]


def _held(core: CoreSummary) -> str:
    return ", ".join(core.shards)


def _ranges(numbers: tuple[int, ...]) -> str:
    """Numbers with runs as first-last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
