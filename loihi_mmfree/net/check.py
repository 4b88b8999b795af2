"""Is a network one that the compiler could have made? Checked whole before anything is computed with it.

What is checked here is what every path through the package relies on: a host at both ends, synapses between
neuron groups, messages that meet in time, tensors of the types, shapes and values that programs declare, and a
manifest that says the same. The hashes say that nothing was altered by chance; this says that nothing was made up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from loihi_mmfree.checkpoint.config import LARGEST_SIZE
from loihi_mmfree.errors import ArtifactError
from loihi_mmfree.fixedpoint.operations import Named
from loihi_mmfree.fixedpoint.qformat import SIXTEENTHS
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, TokenIn, token_input
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.ir.synapses import Broadcast, Delay, SumSynapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import WIDEST
from loihi_mmfree.untrusted import short, some_of

MOST_NODES = 2**17
LONGEST_DELAY = 4096
"""Time steps of one synapse; chips have 64."""
LARGEST_FRACTION = 256
"""Fractional bits of a format, either way."""
MESSAGE_BITS = WIDEST["message_bits"]
"""Widest message, sum or state: tensors, taps and kernels hold them in int32."""
LARGEST_SETTING = 2**53
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
_SOURCES: Mapping[type[Node], tuple[type[Node], ...]] = {
    TokenIn: (),
    NeuronGroup: (TokenIn, TernarySynapse, SumSynapse, Broadcast, Delay),
    TernarySynapse: (NeuronGroup,),
    SumSynapse: (NeuronGroup,),
    Broadcast: (NeuronGroup,),
    Delay: (NeuronGroup,),
    LogitsOut: (TernarySynapse,),
}
"""What each kind of node may read."""


def check_graph(graph: Graph) -> None:
    """Raise ValueError unless a well-formed graph is one that lowering makes, with the tensors that it needs."""
    if not 2 <= len(graph.nodes) <= MOST_NODES:
        raise ValueError(f"has {len(graph.nodes)} nodes")
    kinds = [type(node) for node in graph]
    for end, kind in ((0, TokenIn), (-1, LogitsOut)):
        if kinds.count(kind) != 1 or kinds[end] is not kind:
            where = "first" if end == 0 else "last"
            raise ValueError(f"has {kinds.count(kind)} nodes {kind.__name__}, expected one, the {where}")
    for node in graph:
        _check_node(graph, node)
    read = {source.node for node in graph for source in node.inputs}
    unread = [node.name for node in graph.nodes[:-1] if node.name not in read]
    if unread:
        raise ValueError(f"nobody reads {some_of(unread)}")
    used = {key for node in graph for key in _tensor_names(node)}
    if used != graph.tensors.keys():
        raise ValueError(f"the weights hold tensors that no node names: {some_of(graph.tensors.keys() - used)}")


def _check_node(graph: Graph, node: Node) -> None:
    if not _NAME.fullmatch(node.name):
        raise ValueError(f"{short(node.name)} is no name of a node")
    for source in node.inputs:
        sender = graph.by_name[source.node]
        if not isinstance(sender, _SOURCES[type(node)]):
            raise ValueError(
                f"{node.name}: a {type(node).__name__} cannot read a {type(sender).__name__}, {source}"
            )
    for size in (*node.input_sizes, *node.outputs.values()):
        if size > LARGEST_SIZE:
            raise ValueError(f"{node.name}: has {short(size)} elements, at most {LARGEST_SIZE}")
    node.check_tensors(graph.tensors)
    match node:
        case TokenIn():
            _check_embedding(graph, node)
        case Delay():
            if node.steps > LONGEST_DELAY:
                raise ValueError(f"{node.name}: a delay of {short(node.steps)} steps, at most {LONGEST_DELAY}")
        case LogitsOut():
            if not 0 < node.scale < math.inf:
                raise ValueError(f"{node.name}: its scale is {node.scale}; it must be positive")
        case NeuronGroup():
            _check_group(graph, node)


def _check_embedding(graph: Graph, node: TokenIn) -> None:
    table = graph.tensors[node.table]
    if not len(table):
        raise ValueError(f"{node.table}: has no rows")
    for reader in graph.readers(node):
        if isinstance(reader, NeuronGroup):
            ports = zip(reader.inputs, reader.program.inputs, strict=True)
            bits = min(port.bits for source, port in ports if source.node == node.name)
            _require_width(node.table, table, bits)


def _check_group(graph: Graph, node: NeuronGroup) -> None:
    program = node.program
    for port in (*program.inputs, *program.outputs, *program.states):
        if port.bits > MESSAGE_BITS:
            raise ValueError(f"{node.name}: {short(port.name)} has {port.bits} bits, at most {MESSAGE_BITS}")
        if not _NAME.fullmatch(port.name):
            raise ValueError(f"{node.name}: {short(port.name)} is no name of a message or state")
    unknown = dict(node.formats).keys() - {port.name for port in (*program.outputs, *program.states)}
    if unknown:
        raise ValueError(f"{node.name}: formats of {some_of(sorted(unknown))}, which it neither sends nor keeps")
    for _, meaning in node.formats:
        if abs(meaning.frac) > LARGEST_FRACTION:
            raise ValueError(f"{node.name}: a format of {short(meaning.frac)} fractional bits")
    for _, key in node.tables:
        if not len(graph.tensors[key]):
            raise ValueError(f"{key}: a table without entries")
    for each in program.instructions:
        if abs(each.immediate) >= 1 << 63 or not 0 <= each.bits < 64:
            raise ValueError(f"{node.name}: {each.operation} has the immediate {short(each.immediate)}")
    for named, loaded in ((node.constants, Named.CONSTANT), (node.tables, Named.TABLE)):
        widths = program.loaded(loaded)
        for name, key in named:
            _require_width(key, graph.tensors[key], widths[name])


def _require_width(key: str, values: NDArray[Any], bits: int) -> None:
    """Raise ValueError unless every value fits a signed integer of `bits` bits."""
    limit = 1 << (bits - 1)
    if values.min() < -limit or values.max() >= limit:
        raise ValueError(f"{key}: holds {values.min()} to {values.max()}, its reader takes {bits} bits")


def _tensor_names(node: Node) -> Iterator[str]:
    match node:
        case TokenIn():
            yield node.table
        case TernarySynapse():
            yield node.codes
        case NeuronGroup():
            yield from (key for _, key in (*node.constants, *node.tables))


def check_agreement(manifest: Mapping[str, Any], graph: Graph) -> None:
    """Raise ValueError unless a checked manifest tells of this graph, and messages in it meet in time."""
    tokens, logits = token_input(graph), graph.nodes[-1]
    assert isinstance(logits, LogitsOut)
    model = manifest["model"]
    for what, said, found in (
        ("vocab_size", model["vocab_size"], logits.size),
        ("vocab_size", model["vocab_size"], len(graph.tensors[tokens.table])),
        ("hidden_size", model["hidden_size"], tokens.size),
        ("depth_steps", manifest["depth_steps"], depth(graph)),
        ("logit_scale", manifest["logit_scale"], logits.scale),
    ):
        if said != found:
            raise ValueError(f"the manifest's {what} is {said}, the graph's {found}")


def check_manifest(manifest: Any, where: str) -> Mapping[str, Any]:
    """Return a manifest of this schema if every value in it is of its kind and within bounds.

    Raises
    ------
    ArtifactError
        It is something else.
    """
    kinds = {"files": dict, "tensors": dict, "model": dict, "formats": dict, "config": dict, "versions": dict}
    missing = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    if missing:
        raise ArtifactError(f"{where}: lacks {', '.join(missing)}; compile again")
    wrong = [*_wrong_entries(manifest), *_wrong_formats(manifest["formats"]), *_wrong_thresholds(manifest)]
    if wrong:
        raise ArtifactError(f"{where}: {some_of(wrong)}; compile again")
    return dict(manifest)


def _wrong_entries(manifest: Mapping[str, Any]) -> Iterator[str]:
    for key in ("files", "tensors", "versions"):
        for name, value in manifest[key].items():
            if not isinstance(value, str) or len(value) > 200:
                yield f"{key}: {short(name)} is {short(value)}"
    if not isinstance(manifest.get("checkpoint_sha256"), str):
        yield "checkpoint_sha256 is no text"
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
        if not _is_whole(manifest["model"].get(key), 1, LARGEST_SIZE):
            yield f"model: {key} is {short(manifest['model'].get(key))}"
    for key, value in manifest["model"].items():
        if not _is_plain(value):
            yield f"model: {short(key)} is {short(value)}"
    ends = manifest["model"].get("eos_token_id")
    for token in ends if isinstance(ends, list) else [ends]:
        if token is not None and not _is_whole(token, 0, LARGEST_SIZE):
            yield f"model: eos_token_id is {short(ends)}"
    quantization = manifest["config"].get("quantization")
    bits = quantization.get("activation_bits") if isinstance(quantization, dict) else None
    if not _is_whole(bits, 2, MESSAGE_BITS):
        yield f"config: quantization.activation_bits is {short(bits)}"
    if not _is_whole(manifest.get("depth_steps"), 1, MOST_NODES * LONGEST_DELAY):
        yield f"depth_steps is {short(manifest.get('depth_steps'))}"
    if not isinstance(manifest.get("logit_scale"), float):
        yield f"logit_scale is {short(manifest.get('logit_scale'))}"
    notices = manifest.get("notices")
    if not isinstance(notices, list) or not all(isinstance(each, str) for each in notices):
        yield f"notices is {short(notices)}"


def _wrong_formats(formats: Mapping[str, Any]) -> Iterator[str]:
    for site, value in formats.items():
        numbers = value if isinstance(value, list) and len(value) in (2, 3) else [None, None]
        bits, frac, sixteenths = (*numbers, SIXTEENTHS)[:3]
        right = _is_whole(bits, 2, MESSAGE_BITS) and _is_whole(frac, -LARGEST_FRACTION, LARGEST_FRACTION)
        if not right or not _is_whole(sixteenths, SIXTEENTHS, 2 * SIXTEENTHS - 1):
            yield f"formats: {short(site)} is {short(value)}"


def _wrong_thresholds(manifest: Mapping[str, Any]) -> Iterator[str]:
    thresholds = manifest.get("thresholds", {})
    if not isinstance(thresholds, dict):
        yield f"thresholds is {short(thresholds)}"
        return
    for site, value in thresholds.items():
        if site not in manifest["formats"] or not _is_whole(value, 1, 1 << MESSAGE_BITS):
            yield f"thresholds: {short(site)} is {short(value)}"


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_plain(value: Any) -> bool:
    """Whether a setting is a number within reason, a short text, true, false, null, or a short list of those."""
    if isinstance(value, list):
        return (
            len(value) <= 1000 and not any(isinstance(each, list) for each in value) and all(map(_is_plain, value))
        )
    if isinstance(value, str):
        return len(value) <= 1000
    number = isinstance(value, int | float) and abs(value) <= LARGEST_SETTING
    return number or value is None


def check_golden(graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless arrays are token ids and every integer message that they cause in a graph."""
    ids = arrays.get("ids")
    if ids is None or ids.dtype != "<i4" or ids.ndim != 1 or not len(ids):
        raise ValueError("has no ids")
    if ids.min() < 0 or ids.max() >= len(graph.tensors[token_input(graph).table]):
        raise ValueError("its ids are not in the vocabulary")
    sizes = {str(node.out(port)): size for node in graph.nodes[1:] for port, size in node.outputs.items()}
    if arrays.keys() - {"ids"} != sizes.keys():
        raise ValueError(
            f"its messages are not those of the graph: {some_of(arrays.keys() - {'ids'} ^ sizes.keys())}"
        )
    for name, size in sizes.items():
        if arrays[name].dtype != "<i4" or arrays[name].shape != (len(ids), size):
            raise ValueError(f"{name}: {arrays[name].dtype} of shape {arrays[name].shape}")
