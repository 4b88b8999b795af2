"""The projections in the form of lava-dl's netx; where lava-dl itself is installed, it reads them.

lava-dl wants an environment of its own (torch 2.3): LAVA_DL_PYTHON names the Python of one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from loihi_mmfree import api
from loihi_mmfree.cli.app import app
from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.net.artifact import Net

h5py = pytest.importorskip("h5py")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "netx_projections.py"
PROJECTIONS = ("layers.0.attn.i_proj", "layers.1.mlp.down_proj", "lm_head")


@pytest.fixture(scope="module")
def file(tiny_net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.export(tiny_net, tmp_path_factory.mktemp("netx") / "projections.net", format="netx").path


def projections(net: Net) -> list[TernarySynapse]:
    return [node for node in net.graph if isinstance(node, TernarySynapse)]


def test_every_projection_is_a_dense_layer_of_sigma_neurons(file: Path, tiny_net: Net) -> None:
    with h5py.File(file) as archive:
        assert [archive[f"layer/{index}"].attrs["node"] for index in range(len(archive["layer"]))] == [
            node.name for node in projections(tiny_net)
        ]
        for index, node in enumerate(projections(tiny_net)):
            layer: Any = archive[f"layer/{index}"]
            assert layer["type"][0] == b"dense"
            assert layer["neuron/type"][0] == b"SDNN"
            assert "sigma_output" in layer["neuron"]
            assert layer["shape"][()].tolist() == [node.rows]
            np.testing.assert_array_equal(layer["weight"][()], node.weights(tiny_net.graph.tensors))


def test_the_layers_are_listed_with_the_bits_of_their_messages(tiny_net: Net, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tiny_net.path), "-o", str(tmp_path / "p.net"), "--json"])
    assert done.exit_code == 0, done.output
    written = api.export(tiny_net, tmp_path / "again.net")
    # 12-bit activations, and a bit for their differences.
    assert {each.message_bits for each in written.layers} == {13}
    assert [each.node for each in written.layers] == [node.name for node in projections(tiny_net)]
    assert (tmp_path / "p.net").read_bytes() == (tmp_path / "again.net").read_bytes()


def test_what_cannot_be_written_is_refused(tiny_net: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format: unknown 'onnx'; known: netx"):
        api.export(tiny_net, tmp_path / "p.onnx", format="onnx")
    with pytest.raises(UsageError, match="not written"):
        api.export(tiny_net, tmp_path / "no" / "p.net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("LAVA_DL_PYTHON" not in os.environ, reason="LAVA_DL_PYTHON names no Python with lava-dl")
def test_lava_dl_gives_the_sums_of_the_engine(file: Path, tiny_net: Net, tmp_path: Path) -> None:
    api.vectors(tiny_net, tmp_path / "vectors", PROJECTIONS)
    command = [os.environ["LAVA_DL_PYTHON"], str(SCRIPT), str(file), str(tmp_path / "vectors"), *PROJECTIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 projections differ" in done.stdout
    for node in PROJECTIONS:
        assert f"{node}: 0 of " in done.stdout
