"""compare: where do two paths first differ, and by how much?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.compiler.golden import golden_messages
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.compiler.programs import RSQRT, SIGMOID
from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.tables import rsqrt_table, sigmoid_table
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, logits_output
from loihi_mmfree.net.artifact import Net, altered_tensors
from loihi_mmfree.sim.backend import Backend
from loihi_mmfree.sim.session.opening import Choice, open_backend
from loihi_mmfree.untrusted import some_of

if TYPE_CHECKING:
    from loihi_mmfree.checkpoint import Checkpoint

Messages = Mapping[str, NDArray[np.int32]]

SHOW_MESSAGES = ("sim", "engine", "rtl")
"""Backends that show every message."""


@dataclass(frozen=True)
class Difference:
    """The first message in which two paths differ.

    Parameters
    ----------
    where : str
        `node:port`, or a tensor's name.
    token, neuron : int, optional
        Position of the first differing value.
    expected, found : int, optional
        The two values there.
    count : int
        How many values of this message differ.
    largest : int
        Largest difference within this message.
    """

    where: str
    token: int | None = None
    neuron: int | None = None
    expected: int | None = None
    found: int | None = None
    count: int = 0
    largest: int = 0

    def __str__(self) -> str:
        if self.token is None:
            return self.where
        return (
            f"{self.where}: {self.count} values differ by at most {self.largest}; first at token {self.token}, "
            f"neuron {self.neuron}: expected {self.expected}, found {self.found}"
        )


@dataclass(frozen=True)
class Stage:
    """One comparison: what was held against what, and the differences, the earliest first."""

    name: str
    compared: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Deviation:
    """How far the integers are from real arithmetic at one place (no fault: a measure of quantization)."""

    where: str
    relative: float


@dataclass(frozen=True)
class Comparison:
    """Everything `compare` found."""

    stages: tuple[Stage, ...]
    deviations: tuple[Deviation, ...]

    @property
    def equal(self) -> bool:
        """Whether all exact stages agree."""
        return not any(stage.differences for stage in self.stages)

    def __str__(self) -> str:
        """A line for every stage."""
        results = (f"{len(each.differences)} differ" if each.differences else "equal" for each in self.stages)
        lines = (f"{each.name}: {result}" for each, result in zip(self.stages, results, strict=True))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Comparison: {'equal' if self.equal else 'differs'}>\n{self}"


def compare_messages(name: str, expected: Messages, found: Messages, order: list[str]) -> Stage:
    """Hold two sets of messages against each other in the order of the graph.

    Parameters
    ----------
    name : str
        What is compared.
    expected, found : mapping `node:port` -> int32 array [T, n]
    order : list of str
        Keys in the order of the data flow, so that the first difference is the cause of the others.
    """
    differences = []
    compared = 0
    for key in order:
        if key not in expected or key not in found:
            continue
        compared += 1
        difference = _difference(key, expected[key], found[key])
        if difference is not None:
            differences.append(difference)
    return Stage(name, compared, tuple(differences))


def _difference(key: str, expected: NDArray[np.int32], found: NDArray[np.int32]) -> Difference | None:
    if expected.shape != found.shape:
        return Difference(f"{key}: shape {found.shape}, expected {expected.shape}")
    wrong = expected != found
    if not wrong.any():
        return None
    token, neuron = (int(each) for each in np.argwhere(wrong)[0])
    gap = np.abs(expected.astype(np.int64) - found.astype(np.int64))
    return Difference(
        key,
        token,
        neuron,
        int(expected[token, neuron]),
        int(found[token, neuron]),
        int(wrong.sum()),
        int(gap.max()),
    )


def message_order(graph: Graph) -> list[str]:
    """Return `node:port` of every message, in the order of the data flow."""
    return [str(node.out(port)) for node in graph for port in node.outputs]


def compare_net(
    net: Net, checkpoint: Path | None = None, lava: bool = True, backend: str | None = None
) -> Comparison:
    """Hold a compiled network against its manifest, its golden messages, its checkpoint and Lava.

    Parameters
    ----------
    net : Net
        Loaded without verification of hashes, so that an altered file can be looked into.
    checkpoint : Path, optional
        Lower it again with the network's own formats, and compare tensors, messages and real arithmetic.
    lava : bool
        Also run the operator graph on Lava's simulation.
    backend : str, optional
        Also hold this one against the engine and the golden logits.

    Returns
    -------
    Comparison
    """
    golden = net.golden()
    ids = golden["ids"].astype(np.int64)
    order = message_order(net.graph)
    altered = tuple(Difference(name) for name in altered_tensors(net))
    stages = [Stage("tensors = manifest", len(net.manifest["tensors"]), altered)]
    stages.append(_against_specified_tables(net.graph))
    messages = golden_messages(net.graph, ids)
    stages.append(compare_messages("engine = golden messages", golden, messages, order))
    deviations: tuple[Deviation, ...] = ()
    if checkpoint is not None:
        recompiled, deviations = _against_checkpoint(net, checkpoint, ids, messages)
        stages += recompiled
    if lava:
        stages.append(_against("Lava", partial(open_backend, net, Choice("sim")), ids, messages, order))
    if backend is not None:
        stages += _against_backend(net, backend, ids, messages, golden, order)
    return Comparison(tuple(stages), deviations)


def _against_specified_tables(graph: Graph) -> Stage:
    """The tables hold no parameter of the model: they must be those of the specification."""
    specified = {SIGMOID: sigmoid_table(), RSQRT: rsqrt_table()}
    keys = {key: name for node in graph if isinstance(node, NeuronGroup) for name, key in node.tables}
    wrong = [key for key, name in keys.items() if not _same(specified.get(name), graph.tensors.get(key))]
    return Stage("tables = specification", len(keys), tuple(map(Difference, wrong)))


def _against(
    name: str, backend: Callable[..., Backend], ids: NDArray[np.int64], messages: Messages, order: list[str]
) -> Stage:
    """Hold every message of a backend against the engine's."""
    pieces: dict[str, list[NDArray[np.int32]]] = {}

    def keep(source: Source, values: Integers) -> None:
        pieces.setdefault(str(source), []).append(values.astype(np.int32))

    with backend(observer=Observer(values=keep)) as network:
        network.read(ids)
    found = {key: np.concatenate(each) for key, each in pieces.items()}
    return compare_messages(f"{name} = engine", messages, found, order)


def _against_backend(
    net: Net, backend: str, ids: NDArray[np.int64], messages: Messages, golden: Messages, order: list[str]
) -> list[Stage]:
    """Every message, if it shows them, and the logits of tokens read together and one by one.

    As a prompt is read, and as tokens are that are generated.
    """
    opening = partial(open_backend, net, Choice(backend))
    stages = [_against(backend, opening, ids, messages, order)] if backend in SHOW_MESSAGES else []
    logits = str(logits_output(net.graph).inputs[0])
    with opening() as opened:
        together = opened.process(ids)
        opened.reset()
        alone = np.stack([opened.read(ids[token : token + 1]) for token in range(len(ids))])
    return stages + [
        compare_messages(f"{backend}, {how} = golden messages", golden, {logits: found}, [logits])
        for how, found in (("tokens together", together), ("tokens one by one", alone))
    ]


def _against_checkpoint(
    net: Net, path: Path, ids: NDArray[np.int64], messages: Messages
) -> tuple[list[Stage], tuple[Deviation, ...]]:
    from loihi_mmfree.checkpoint import open_checkpoint
    from loihi_mmfree.compiler.layers import layer_graph
    from loihi_mmfree.compiler.reference import evaluate_layers

    checkpoint = open_checkpoint(path, net.manifest.get("config", {}).get("ternary_scale", "absmean"))
    _require_same_model(net, checkpoint, path)
    formats = {site: QFormat.from_list(each) for site, each in net.manifest["formats"].items()}
    fresh = run_passes(checkpoint, formats, net.placed.chip, thresholds=net.manifest.get("thresholds"))
    reals = evaluate_layers(layer_graph(checkpoint.config), checkpoint, ids)
    order = message_order(fresh)
    tensors = [
        Difference(name)
        for name in sorted(fresh.tensors.keys() | net.graph.tensors.keys())
        if not _same(fresh.tensors.get(name), net.graph.tensors.get(name))
    ]
    programs = [
        Difference(f"{node.name} (program)")
        for node in fresh
        if isinstance(node, NeuronGroup) and net.graph.by_name.get(node.name) != node
    ]
    expected = golden_messages(fresh, ids)
    stages = [
        Stage("network = checkpoint lowered again", len(fresh.tensors), tuple(tensors + programs)),
        compare_messages("engine = checkpoint lowered again", expected, messages, order),
    ]
    return stages, _deviations(net.graph, reals, messages)


def _require_same_model(net: Net, checkpoint: Checkpoint, path: Path) -> None:
    """Refuse a checkpoint of another shape, before its tensors are looked for."""
    compiled, found = net.manifest["model"], json.loads(json.dumps(asdict(checkpoint.config)))
    other = [
        f"{key} {found[key]}, compiled {compiled.get(key)}" for key in found if found[key] != compiled.get(key)
    ]
    if other:
        raise UsageError(f"{path}: not the model that {net.path} was compiled from: {some_of(other)}")


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def _deviations(graph: Graph, reals: Mapping[str, Any], messages: Messages) -> tuple[Deviation, ...]:
    """Relative norm of the difference to real arithmetic, for every residual and the logits."""
    found = []
    for node in graph:
        if isinstance(node, NeuronGroup) and node.role in (Role.EMBEDDING, Role.RESIDUAL):
            scale = dict(node.formats)["out"].scale
            found.append(_deviation(node.name, reals[node.name], messages[str(node.out())] * scale))
        elif isinstance(node, LogitsOut):
            found.append(_deviation(node.name, reals[node.name], messages[str(node.inputs[0])] * node.scale))
    return tuple(found)


def _deviation(name: str, real: Any, integer: Any) -> Deviation:
    return Deviation(name, float(np.linalg.norm(integer - real) / np.linalg.norm(real)))
