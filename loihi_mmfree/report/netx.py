"""The ternary projections of a network as a file that lava-dl's netx reads (lava-dl 0.6.0, `netx.hdf5.Network`).

netx describes a chain of layers, each a synapse and a neuron of its own kinds. Of a MatMul-free block it can
express the projections alone: as dense layers with sigma neurons, which add up what arrives. Sent the differences
of inputs that follow each other, such a layer gives the projection of the inputs themselves, exactly, for it is
linear.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.files import replacing
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.net.artifact import Net, network_sha256


@dataclass(frozen=True)
class NetxLayer:
    """A layer of the file.

    Parameters
    ----------
    index : int
        Read it alone with `Network(file, num_layers=index + 1, skip_layers=index, input_message_bits=...)`.
    node : str
        The projection.
    rows, columns : int
    message_bits : int
        Of what is sent to it: differences of inputs take one bit more than inputs.
    """

    index: int
    node: str
    rows: int
    columns: int
    message_bits: int


@dataclass(frozen=True)
class NetxExport:
    """What was written."""

    path: Path
    layers: tuple[NetxLayer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {"path": str(self.path), "layers": [asdict(each) for each in self.layers]}


def write_netx(net: Net, target: Path) -> NetxExport:
    """Write the projections of a network, each as a layer of its own.

    Parameters
    ----------
    net : Net
    target : Path
        The file; it appears whole or not at all.

    Raises
    ------
    BackendUnavailableError
        h5py is not installed.
    UsageError
        The file cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise BackendUnavailableError(
            "export netx: h5py is not installed; it comes with the extra `netx`"
        ) from error
    layers = []
    with replacing(target, "`output`") as file, h5py.File(file, "w") as archive:
        archive.attrs["network_sha256"] = network_sha256(net.path)
        for index, node in enumerate(each for each in net.graph if isinstance(each, TernarySynapse)):
            layer = NetxLayer(index, node.name, node.rows, node.source_size, _input_bits(net.graph, node) + 1)
            layers.append(layer)
            group = archive.create_group(f"layer/{index}")
            group.attrs.update(node=layer.node, message_bits=layer.message_bits)
            group["type"] = np.array([b"dense"])
            group["shape"] = np.array([node.rows])
            group.create_dataset("weight", data=node.weights(net.graph.tensors), compression="gzip")
            group["neuron/type"] = np.array([b"SDNN"])
            group["neuron/sigma_output"] = np.array([1])
    return NetxExport(target, tuple(layers))


def _input_bits(graph: Graph, node: TernarySynapse) -> int:
    """Bits of what a projection reads, as its sender declares them."""
    (source,) = node.inputs
    sender = graph.by_name[source.node]
    assert isinstance(sender, NeuronGroup)
    return next(port.bits for port in sender.program.outputs if port.name == source.port)
