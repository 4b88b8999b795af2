"""The way to a chip, as far as it is public; behind it stand-ins of what only Intel's community has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from loihi_mmfree import api
from loihi_mmfree.cli.main import app
from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.nodes import NeuronGroup
from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.loihi2 import backend
from loihi_mmfree.report.core_activity import expect_activity
from loihi_mmfree.report.profiler import Probes
from loihi_mmfree.sim.activity_file import save_activity
from loihi_mmfree.sim.engine import Engine

Register = Callable[..., None]


@dataclass(frozen=True)
class StandInEntryPoint:
    """What importlib finds of a registered object."""

    name: str
    registered: Any

    def load(self) -> Any:
        return self.registered


def stand_in_probes() -> Probes:
    """What a run was measured with: made-up numbers, read as Lava's profiler is."""
    return Probes(
        power=SimpleNamespace(total_power=4.0, static_total_power=3.0, vdd_power=1.0),
        time=SimpleNamespace(avg_time_per_step=1e5),
        activity=SimpleNamespace(core_idx=[3], syn_ops=[600], dendrite_updates=[60], spikes_in=[6], axon_out=[12]),
    )


class StandInRunner:
    """A chip that the engine plays."""

    def __init__(self, net: Net, models: Mapping[str, Any], profile: bool) -> None:
        self.models, self.running = models, True
        self._engine = Engine(net.graph)
        self.logit_scale, self._profile = self._engine.logit_scale, profile

    @property
    def steps(self) -> int:
        return self._engine.steps

    @property
    def counters(self) -> Any:
        return self._engine.counters

    @property
    def probes(self) -> Probes | None:
        assert not self.running, "probes are read after the network has stopped"
        return stand_in_probes() if self._profile else None

    def process(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        return self._engine.process(ids)

    def close(self) -> None:
        self.running = False


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """A function that makes objects look registered, and the extension installed."""

    def entry(models: Mapping[str, Any], runners: Mapping[str, Any]) -> None:
        groups = {backend.MODELS_GROUP: models, backend.RUNNERS_GROUP: runners}
        monkeypatch.setattr(backend, "extension_installed", lambda: True)
        monkeypatch.setattr(
            backend, "entry_points", lambda group: [StandInEntryPoint(*each) for each in groups[group].items()]
        )

    return entry


def roles(net: Net) -> dict[str, str]:
    return {node.role: f"model of {node.role}" for node in net.graph if isinstance(node, NeuronGroup)}


def test_without_the_extension_it_says_how_to_get_it(tiny_net: Net) -> None:
    with pytest.raises(BackendUnavailableError, match="INRC"):
        backend.open_chip(tiny_net)


def test_models_that_are_missing_are_named(tiny_net: Net, register: Register) -> None:
    models = roles(tiny_net)
    del models["MlGru"], models["Glu"]
    register(models, {"mine": StandInRunner})
    with pytest.raises(BackendUnavailableError, match=r"registered for Glu, MlGru\."):
        backend.open_chip(tiny_net)


@pytest.mark.parametrize("names", [[], ["mine", "yours"]])
def test_there_has_to_be_one_runner(tiny_net: Net, register: Register, names: list[str]) -> None:
    register(roles(tiny_net), dict.fromkeys(names, StandInRunner))
    with pytest.raises(BackendUnavailableError, match=", ".join(names) or "found none"):
        backend.open_chip(tiny_net)


def test_the_runner_gets_the_network_and_the_models_of_its_roles(tiny_net: Net, register: Register) -> None:
    register({**roles(tiny_net), "Unused": "no model"}, {"mine": StandInRunner})
    runner = backend.open_chip(tiny_net)
    assert isinstance(runner, StandInRunner)
    assert runner.models == roles(tiny_net)
    runner.close()
    assert runner.probes is None


def test_run_reads_and_generates_on_the_chip(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    found = api.run(tiny_net, [1, 2, 3], 4, backend="loihi2")
    assert found.logits_sha256 == api.run(tiny_net, [1, 2, 3], 4).logits_sha256


def test_profile_measures_a_run(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    result, profile = api.profile(tiny_net, [1, 2, 3], 4, stop_at_end_of_text=False)
    assert len(result.new_ids) == 4
    document = profile.to_dict()
    assert document["measurement_method"] == "lava-loihi profiler"
    assert document["tokens"] == document["steps"] == 6  # The engine counts one step a token.
    assert document["tokens_per_s"] == {**document["tokens_per_s"], "value": 10.0, "source": "measured"}
    assert document["dynamic_energy_joules"]["value"] == pytest.approx(0.6)
    assert document["activity"]["per_token"]["synaptic_operations"]["value"] == 100


def test_the_activity_recorded_for_a_network_is_put_beside_that_of_the_chip(
    net_copy: Path, register: Register
) -> None:
    net = api.load(net_copy)
    register(roles(net), {"mine": StandInRunner})
    activity = api.run(net, [1, 2, 3], 4, activity=True).activity
    assert activity is not None
    save_activity(net_copy, activity)
    _, profile = api.profile(net, [1, 2, 3], 4)
    assert profile.expected == expect_activity(net)
    assert profile.expected is not None


def test_the_command_prints_what_was_measured_beside_what_was_expected(net_copy: Path, register: Register) -> None:
    net = api.load(net_copy)
    register(roles(net), {"mine": StandInRunner})
    run = ["run", str(net_copy), "--ids", "1,2,3", "-n", "4", "--ignore-eos"]
    chip = [*run, "--backend", "loihi2", "--profile"]
    unrecorded = CliRunner().invoke(app, chip).output
    assert "energy of vdd" in unrecorded
    assert "run --activity" in unrecorded
    CliRunner().invoke(app, [*run, "--backend", "engine", "--activity"])
    recorded = CliRunner().invoke(app, chip).output
    assert "expected: as recorded for 6 tokens (engine, compiled kernels)" in recorded
    (row,) = (line.split() for line in recorded.splitlines() if "synaptic operations" in line)
    expected = expect_activity(net)
    assert expected is not None
    assert row[2:4] == ["100.0", f"{expected.per_token['synaptic_operations']:,.1f}"]
