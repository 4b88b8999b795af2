"""The folder of vectors: an index, a description and an archive of arrays for every node, and what checks them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.bounds import propagate
from loihi_mmfree.errors import ArtifactError, MismatchError, UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.ir.graph import Node
from loihi_mmfree.ir.nodes import NeuronGroup, token_input
from loihi_mmfree.ir.synapses import Synapse
from loihi_mmfree.net.artifact import Net, network_sha256, versions
from loihi_mmfree.report.program import describe_program, hop
from loihi_mmfree.report.program_text import shortened
from loihi_mmfree.report.vectors.case import VectorCase
from loihi_mmfree.report.vectors.groups import GroupVectors
from loihi_mmfree.report.vectors.sums import SumVectors
from loihi_mmfree.scratch import new_folder
from loihi_mmfree.text import counted

SCHEMA_VERSION = 1
INDEX, NODES, CHECKER = "vectors.json", "nodes", "check_vectors.py"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class NodeVectors:
    """What was written of a node.

    Parameters
    ----------
    node, kind : str
    size : int
        Elements of its outputs.
    cases : mapping of str to int
        Their names, and how many steps each has.
    bytes : int
        Of its two files.
    """

    node: str
    kind: str
    size: int
    cases: Mapping[str, int]
    bytes: int


@dataclass(frozen=True, repr=False)
class Vectors:
    """The vectors of a network, written.

    Parameters
    ----------
    path : Path
        The folder.
    nodes : tuple of NodeVectors
    """

    path: Path
    nodes: tuple[NodeVectors, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {"path": str(self.path), "nodes": [asdict(each) for each in self.nodes]}

    def __repr__(self) -> str:
        steps = sum(sum(each.cases.values()) for each in self.nodes)
        return f"<Vectors of {counted(len(self.nodes), 'node')}, {counted(steps, 'step')} in all: {self.path}>"


def write_vectors(net: Net, target: Path, names: Sequence[str] = ()) -> Vectors:
    """Write the vectors of a network's neuron groups, and of the synapses that add up, into a new folder.

    Parameters
    ----------
    net : Net
    target : Path
        Appears whole or not at all.
    names : sequence of str
        Nodes; all without any.

    Raises
    ------
    UsageError
        There is no such node, or it has no vectors; the folder exists or cannot be written.
    ArtifactError
        The network exceeds a bound, so that there are no proved ranges.
    MismatchError
        A program does not give the golden messages.
    """
    known = {node.name: node for node in net.graph if _has_vectors(node)}
    for name in names:
        if name not in known:
            near = sorted(known, key=lambda each: (not (name in each or each in name), list(known).index(each)))
            raise UsageError(
                f"vectors of {name}: no neuron group, and no synapse that adds up; there are "
                f"{shortened(near, 'a full inspection lists all')}"
            )
    wanted = set(names) or known.keys()
    with new_folder(target) as folder:
        (folder / NODES).mkdir()
        written = tuple(
            _write_node(folder / NODES, node, description, arrays)
            for node, description, arrays in _made(net, wanted)
        )
        index = {
            "schema_version": SCHEMA_VERSION,
            "network_sha256": network_sha256(net.path),
            "versions": versions(),
            "nodes": [{name: vars(each)[name] for name in ("node", "kind", "size", "cases")} for each in written],
        }
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
        shutil.copyfile(Path(__file__).with_name(CHECKER), folder / CHECKER)
    return Vectors(target, written)


def _has_vectors(node: Node) -> bool:
    return isinstance(node, NeuronGroup) or (isinstance(node, Synapse) and not node.passes_on)


def _made(net: Net, wanted: Collection[str]) -> Iterator[tuple[Node, dict[str, Any], Arrays]]:
    """Give every node that is wanted with its description and its arrays, one after the other."""
    graph, golden = net.graph, net.golden()
    tokens = token_input(graph)
    messages = {**golden, str(tokens.out()): graph.tensors[tokens.table][golden["ids"]]}
    for node, ranges, (outputs, violations) in propagate(graph):
        if violations:
            raise ArtifactError(f"{net.path}: what may overflow has no vectors: {violations[0]}; compile again")
        if node.name not in wanted:
            continue
        random = np.random.default_rng(crc32(node.name.encode()))
        arriving = [messages[str(source)].astype(np.int64) for source in node.inputs]
        description, cases, arrays = _of(net, node, ranges, outputs, arriving, random)
        for port in node.outputs:
            if not np.array_equal(cases[0].values[f"outputs/{port}"], golden[str(node.out(port))]):
                raise MismatchError(f"{net.path}: {node.out(port)} is not the golden message; `compare` says more")
        listed = [
            {"name": each.name, "what": each.what, "carried": each.carried, "steps": each.steps} for each in cases
        ]
        described = {"schema_version": SCHEMA_VERSION, **description, "cases": listed}
        for each in cases:
            arrays |= {f"{each.name}/{path}": _stored(values) for path, values in each.values.items()}
        yield node, described, arrays


def _of(
    net: Net,
    node: Node,
    ranges: Sequence[Interval],
    outputs: Mapping[str, Interval],
    arriving: Sequence[Integers],
    random: np.random.Generator,
) -> tuple[dict[str, Any], tuple[VectorCase, ...], Arrays]:
    """The description of a node, its cases, and the arrays that it computes with."""
    if isinstance(node, NeuronGroup):
        group = GroupVectors(node, net.graph.tensors, ranges)
        cases = group.cases(arriving, random)
        arrays = {
            **{f"constants/{name}": _stored(value) for name, value in group.constants.items()},
            **{f"tables/{name}": _stored(value) for name, value in group.tables.items()},
        }
        described = describe_program(net.graph, node).to_dict()
        return {**described, "reached": group.reached(cases)}, cases, arrays
    assert isinstance(node, Synapse)
    sums = SumVectors(node, net.graph, ranges[0], outputs["out"])
    meaning = "outputs/out [step, row] is the sum over columns of weights [row, column] * inputs/in [step, column]"
    described = {**asdict(hop(node)), "sender": str(node.inputs[0]), "meaning": meaning}
    return described, sums.cases(arriving, random), {"weights": sums.weights}


def _stored(values: Integers) -> NDArray[Any]:
    """As int32, as messages and states are stored everywhere; as int64 if that is too narrow."""
    narrow = values.astype(np.int32)
    return narrow if np.array_equal(narrow, values) else values


def _write_node(folder: Path, node: Node, description: Mapping[str, Any], arrays: Arrays) -> NodeVectors:
    files = folder / f"{node.name}.json", folder / f"{node.name}.npz"
    files[0].write_text(json.dumps(description, indent=1) + "\n")
    np.savez_compressed(files[1], **arrays)
    return NodeVectors(
        node.name,
        node.kind,
        next(iter(node.outputs.values())),
        {each["name"]: each["steps"] for each in description["cases"]},
        sum(each.stat().st_size for each in files),
    )
