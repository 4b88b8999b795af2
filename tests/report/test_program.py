"""What is told of a neuron group is what the graph holds, and enough to run it again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.schedule import offsets
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.program import describe_program


def groups(net: Net) -> list[NeuronGroup]:
    return [node for node in net.graph if isinstance(node, NeuronGroup)]


def described(net: Net, name: str) -> dict[str, Any]:
    """The JSON document of a group."""
    node = net.graph.by_name[name]
    assert isinstance(node, NeuronGroup)
    document = json.loads(json.dumps(describe_program(net.graph, node).to_dict()))
    assert isinstance(document, dict)
    return document


def test_a_group_is_told_whole(tiny_net: Net) -> None:
    found = described(tiny_net, "layers.1.attn.mlgru")
    assert (found["node"], found["role"], found["block"]) == ("layers.1.attn.mlgru", "MlGru", "layers.1")
    assert (found["neurons"], found["step"], found["depth"]) == (128, 12 + 3, 12 * 4 + 3)
    gate = tiny_net.graph.tensors["layers.1.attn.mlgru.gate"]
    assert found["constants"][0] == {
        "name": "gate", "bits": 16, "tensor": "layers.1.attn.mlgru.gate", "shape": [128], "dtype": "int32",
        "lowest": int(gate.min()), "highest": int(gate.max()),
    }  # fmt: skip
    assert [each["tensor"] for each in found["tables"]] == ["tables.sigmoid"]
    bits, frac = tiny_net.manifest["formats"]["layers.1.attn.state"]
    assert found["states"] == [
        {"name": "h", "bits": 16, "format": {"bits": bits, "frac": frac, "sixteenths": 16}, "initial": 0}
    ]


def test_an_input_is_followed_back_to_the_group_that_sends(tiny_net: Net) -> None:
    forget = described(tiny_net, "layers.1.attn.mlgru")["inputs"][1]
    bits, frac = tiny_net.manifest["formats"]["layers.1.attn.f_proj.input"]
    assert forget == {
        "name": "f",
        "bits": 24,
        "synapses": [
            {
                "node": "layers.1.attn.f_proj", "kind": "TernarySynapse", "rows": 128, "columns": 128,
                "first_column": 0, "steps": 1, "weights": "layers.1.attn.f_proj.codes",
            }
        ],
        "sender": "layers.1.attn_norm.scale:f_proj",
        "format": {"bits": bits, "frac": frac, "sixteenths": 16},
    }  # fmt: skip


def test_an_output_names_who_reads_it_and_which_inputs_that_leads_to(tiny_net: Net) -> None:
    out = described(tiny_net, "layers.0.mlp.residual")["outputs"][0]
    assert out["receivers"] == [
        {
            "node": "layers.1.attn_norm.scale.value_delay",
            "kind": "Delay",
            "reaches": ["layers.1.attn_norm.scale:value"],
        },
        {
            "node": "layers.1.attn.residual.stream_delay",
            "kind": "Delay",
            "reaches": ["layers.1.attn.residual:stream"],
        },
    ]


def test_senders_and_receivers_tell_of_the_same_connections(tiny_net: Net) -> None:
    sent, read = set(), set()
    for node in groups(tiny_net):
        found = describe_program(tiny_net.graph, node)
        read |= {(feed.sender, f"{node.name}:{feed.name}") for feed in found.inputs}
        for message in found.outputs:
            for receiver in message.receivers:
                sent |= {(f"{node.name}:{message.name}", reached) for reached in receiver.reaches}
    assert {each for each in sent if each[1] != "logits"} == {each for each in read if each[0] != "tokens:out"}


def test_steps_of_synapses_lead_from_one_group_to_the_next(tiny_net: Net) -> None:
    steps = offsets(tiny_net.graph)
    for node in groups(tiny_net):
        found = describe_program(tiny_net.graph, node)
        for feed in found.inputs:
            sender = feed.sender.rpartition(":")[0]
            assert steps[sender] + sum(hop.steps for hop in feed.synapses) == found.step


@pytest.mark.parametrize("name", ["layers.2.attn.mlgru", "layers.0.attn_norm.rms", "norm.scale"])
def test_the_document_alone_runs_the_group_as_the_golden_messages_have_it(tiny_net: Net, name: str) -> None:
    found, golden = described(tiny_net, name), tiny_net.golden()
    program = Program.from_dict(
        {
            "inputs": [[each["name"], each["bits"]] for each in found["inputs"]],
            "states": [[each["name"], each["bits"]] for each in found["states"]],
            "outputs": [[each["name"], each["bits"]] for each in found["outputs"]],
            "instructions": [
                [each[key] for key in ("operation", "target", "operands", "immediate", "bits")]
                for each in found["instructions"]
            ],
        }
    )
    loaded = {
        each["name"]: tiny_net.graph.tensors[each["tensor"]].astype(np.int64)
        for each in found["constants"] + found["tables"]
    }
    states = {each["name"]: np.full(found["neurons"], each["initial"]) for each in found["states"]}
    inputs = {}
    for each in found["inputs"]:
        read = each["synapses"][0]["node"] + ":out" if each["synapses"] else each["sender"]
        inputs[each["name"]] = golden[read].astype(np.int64)
    outputs = run_program(program, Machine(loaded, loaded, neurons=found["neurons"]), inputs, states)
    for port, values in outputs.items():
        assert np.array_equal(values, golden[str(Source(name, port))])


def test_every_operation_that_occurs_is_explained_once(tiny_net: Net) -> None:
    for node in groups(tiny_net):
        found = describe_program(tiny_net.graph, node)
        explained = [each.operation for each in found.operations]
        assert sorted(explained) == sorted({each.operation for each in node.program.instructions})
        assert all(each.meaning == OPERATIONS[each.operation].meaning for each in found.operations)
