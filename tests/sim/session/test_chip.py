"""The way to a chip, as far as it is public; behind it stand-ins of what only Intel's community has."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from loihi_mmfree import api
from loihi_mmfree.activity.file import save_activity
from loihi_mmfree.cli.app import app
from loihi_mmfree.cost.board.profiler import Probes
from loihi_mmfree.cost.expectation import expect
from loihi_mmfree.errors import (
    ArtifactError,
    BackendUnavailableError,
    MeasurementError,
    SimulationError,
    UsageError,
)
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import TakeLogits
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.session import chip as backend
from loihi_mmfree.sim.session import plug_ins

Register = Callable[..., None]


@dataclass(frozen=True)
class StandInEntryPoint:
    """What importlib finds of a registered object."""

    name: str
    registered: Any
    dist: None = None

    def load(self) -> Any:
        return self.registered


@dataclass(frozen=True)
class StandInEntryPoints:
    """All that importlib finds."""

    by_group: Mapping[str, Mapping[str, Any]]

    @property
    def groups(self) -> set[str]:
        return set(self.by_group)

    def select(self, group: str) -> list[StandInEntryPoint]:
        return [StandInEntryPoint(*each) for each in self.by_group[group].items()]


@dataclass(frozen=True)
class StandInModel:
    """A neurocore model that takes every group, unless it is to refuse one."""

    role: str
    refused: str = ""

    def refusal(self, graph: Graph, group: NeuronGroup) -> str:
        return "too large" if group.name == self.refused else ""

    def build(self, graph: Graph, group: NeuronGroup) -> str:
        return self.role


def stand_in_probes() -> Probes:
    """What a run was measured with: made-up numbers, read as Lava's profiler is."""
    return Probes(
        power=SimpleNamespace(total_power=4.0, static_total_power=3.0, vdd_power=1.0),
        time=SimpleNamespace(avg_time_per_step=1e5),
        activity=SimpleNamespace(core_idx=[3], syn_ops=[600], dendrite_updates=[60], spikes_in=[6], axon_out=[12]),
    )


class StandInRunner(plug_ins.ChipRunner):
    """A chip that the engine plays."""

    logit_scale = 1.0

    def __init__(self, net: Net, models: Mapping[str, Any], profile_steps: int | None) -> None:
        self.models, self.running, self.profile_steps = models, True, profile_steps
        self._engine = Engine(net.graph)
        self.logit_scale = self._engine.logit_scale

    @property
    def steps(self) -> int:
        return self._engine.steps

    @property
    def counters(self) -> Any:
        return self._engine.counters

    @property
    def probes(self) -> Probes | None:
        assert not self.running, "probes are read after the network has stopped"
        return None if self.profile_steps is None else stand_in_probes()

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        return self._engine.read(ids, take)

    def reset(self) -> None:
        self._engine.reset()

    def close(self) -> None:
        self.running = False


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """A function that makes objects look registered, and the extension installed."""

    def entry(models: Mapping[str, Any], runners: Mapping[str, Any]) -> None:
        groups = {plug_ins.MODELS_GROUP: models, plug_ins.RUNNERS_GROUP: runners}
        monkeypatch.setattr(backend, "extension_installed", lambda: True)
        monkeypatch.setattr(plug_ins, "entry_points", lambda: StandInEntryPoints(groups))

    return entry


def roles(net: Net) -> dict[str, Any]:
    return {node.role.value: StandInModel(node.role.value) for node in net.graph if isinstance(node, NeuronGroup)}


def test_without_the_extension_it_says_how_to_get_it(tiny_net: Net) -> None:
    with pytest.raises(BackendUnavailableError, match="INRC"):
        backend.open_chip(tiny_net)


@pytest.mark.parametrize("run", [partial(api.run, backend="loihi2"), api.profile])
def test_that_is_said_before_a_network_is_read(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="INRC"):
        run(tmp_path / "no network", [1], 1)


def test_models_that_are_missing_are_named(tiny_net: Net, register: Register) -> None:
    models = roles(tiny_net)
    del models["MlGru"], models["Glu"]
    register(models, {"mine": StandInRunner})
    with pytest.raises(
        BackendUnavailableError,
        match="no neurocore model for Glu is registered; no neurocore model for MlGru is registered",
    ):
        backend.open_chip(tiny_net)


@pytest.mark.parametrize("names", [[], ["mine", "yours"]])
def test_there_has_to_be_one_runner(tiny_net: Net, register: Register, names: list[str]) -> None:
    register(roles(tiny_net), dict.fromkeys(names, StandInRunner))
    with pytest.raises(BackendUnavailableError, match=", ".join(names) or "no runner .* is registered"):
        backend.open_chip(tiny_net)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("a name", "no NeurocoreModel: str has no method refusal, build"),
        (SimpleNamespace(refusal=print), "no NeurocoreModel: SimpleNamespace has no method build"),
        (int("5"), "no NeurocoreModel: int has no method refusal, build"),
        (StandInModel, "does not load: .*missing 1 required positional argument: 'role'"),
    ],
)
def test_what_is_no_model_is_refused_by_name(
    tiny_net: Net, register: Register, model: object, problem: str
) -> None:
    register({**roles(tiny_net), "Glu": model}, {"mine": StandInRunner})
    with pytest.raises(BackendUnavailableError, match=f"neurocore model for Glu: Glu: {problem}"):
        backend.open_chip(tiny_net)


def test_a_class_that_takes_no_arguments_is_made_a_model(tiny_net: Net, register: Register) -> None:
    class GluModel(StandInModel):
        def __init__(self) -> None:
            super().__init__("Glu")

    register({**roles(tiny_net), "Glu": GluModel}, {"mine": StandInRunner})
    assert backend.dry_run(tiny_net).ready


def test_a_model_that_refuses_or_fails_is_named_with_the_group(tiny_net: Net, register: Register) -> None:
    failing = SimpleNamespace(refusal=raising(ZeroDivisionError), build=print)
    refusing = StandInModel("Glu", "layers.2.mlp.glu")
    register({**roles(tiny_net), "Glu": refusing, "MlGru": failing}, {"mine": StandInRunner})
    with pytest.raises(BackendUnavailableError) as raised:
        backend.open_chip(tiny_net)
    assert "Glu: refuses layers.2.mlp.glu: too large" in str(raised.value)
    assert "MlGru: fails on layers.0.attn.mlgru: TypeError: " in str(raised.value)


def test_what_a_runner_returns_has_to_inherit_and_is_let_go_of_otherwise(
    tiny_net: Net, register: Register
) -> None:
    closed: list[bool] = []
    other = SimpleNamespace(read=print, close=lambda: closed.append(True))
    register(roles(tiny_net), {"mine": lambda *_: other})
    with pytest.raises(BackendUnavailableError, match="mine returned a SimpleNamespace, which does not inherit"):
        backend.open_chip(tiny_net)
    assert closed == [True]


def test_a_dry_run_without_anything_names_all_that_is_missing(tiny_net: Net) -> None:
    found = backend.dry_run(tiny_net)
    assert not found.ready
    assert [(each.role, each.groups, each.model) for each in found.roles] == [
        ("Embedding", 1, ""), ("Glu", 4, ""), ("MlGru", 4, ""), ("Residual", 8, ""), ("RmsNorm", 17, ""),
        ("Scale", 17, ""),
    ]  # fmt: skip
    assert "INRC" in found.extension
    assert "no runner under the entry point group loihi_mmfree.chip_runners" in found.runner_problem
    assert len(found.problems) == 8
    assert (found.chips, found.cores, found.depth_steps) == (1, 120, 51)


def test_the_command_prints_the_listing_and_the_vectors_to_write_a_model_from(tiny_net: Net) -> None:
    done = CliRunner().invoke(app, ["run", str(tiny_net.path), "--backend", "loihi2", "--dry-run", "--json"])
    assert done.exit_code != 0
    assert isinstance(done.exception, BackendUnavailableError)
    assert done.exception.exit_code == 7
    assert f"loihi-mmfree inspect {tiny_net.path} --program layers.0.attn.mlgru`" in done.output
    assert f"vectors {tiny_net.path} -o vectors-MlGru --node layers.0.attn.mlgru`" in done.output
    assert json.loads(done.stdout.splitlines()[-1])["ready"] is False


def test_a_dry_run_is_of_the_chip_alone(tiny_net: Net) -> None:
    done = CliRunner().invoke(app, ["run", str(tiny_net.path), "--backend", "engine", "--dry-run"])
    assert isinstance(done.exception, UsageError)


class FailingRunner(StandInRunner):
    """A board that fails, hangs, or is interrupted in the middle of a read."""

    opened: FailingRunner

    def __init__(self, *arguments: Any, fault: Callable[[], None]) -> None:
        super().__init__(*arguments)
        self.fault, self.closed = fault, 0
        FailingRunner.opened = self

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        self.fault()
        return super().read(ids, take)

    def close(self) -> None:
        self.closed += 1


def raising(error: type[BaseException]) -> Callable[[], None]:
    def fault() -> None:
        raise error("the cable was pulled")

    return fault


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (raising(ValueError), ValueError),
        (lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
        (lambda: time.sleep(60), SimulationError),
    ],
    ids=["exception", "Ctrl-C", "timeout"],
)
def test_a_board_is_let_go_of_once_whatever_ends_the_run(
    tiny_net: Net,
    register: Register,
    fault: Callable[[], None],
    expected: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FailingRunner, "answer_seconds", 0.2)
    register(roles(tiny_net), {"mine": partial(FailingRunner, fault=fault)})
    with pytest.raises(expected):
        api.run(tiny_net, [1, 2], 4, backend="loihi2")
    assert FailingRunner.opened.closed == 1
    with pytest.raises(expected):
        api.profile(tiny_net, [1, 2], 4)
    assert FailingRunner.opened.closed == 1


def test_a_board_is_let_go_of_after_success(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": partial(FailingRunner, fault=lambda: None)})
    api.run(tiny_net, [1, 2], 4, backend="loihi2")
    assert FailingRunner.opened.closed == 1


def test_a_second_interrupt_waits_until_a_board_has_been_let_go_of(tiny_net: Net, register: Register) -> None:
    class Slow(FailingRunner):
        def close(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().close()

    register(roles(tiny_net), {"mine": partial(Slow, fault=lambda: signal.raise_signal(signal.SIGINT))})
    with pytest.raises(KeyboardInterrupt):
        api.run(tiny_net, [1, 2], 4, backend="loihi2")
    assert FailingRunner.opened.closed == 1


def test_the_runner_gets_the_network_and_the_models_of_its_roles(tiny_net: Net, register: Register) -> None:
    opened: list[StandInRunner] = []

    def remember(*arguments: Any) -> StandInRunner:
        opened.append(StandInRunner(*arguments))
        return opened[0]

    register({**roles(tiny_net), "Unused": "no model"}, {"mine": remember})
    with backend.open_chip(tiny_net) as runner:
        assert opened[0].models == roles(tiny_net)
        assert opened[0].profile_steps is None
    assert runner.probes is None
    assert not opened[0].running


def test_run_reads_and_generates_on_the_chip(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    found = api.run(tiny_net, [1, 2, 3], 4, backend="loihi2")
    assert found.logits_sha256 == api.run(tiny_net, [1, 2, 3], 4, backend="engine").logits_sha256


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


def test_the_runner_is_told_how_many_steps_there_are_to_profile(tiny_net: Net, register: Register) -> None:
    opened: list[StandInRunner] = []

    def remember(*arguments: Any) -> StandInRunner:
        opened.append(StandInRunner(*arguments))
        return opened[0]

    register(roles(tiny_net), {"mine": remember})
    api.profile(tiny_net, [1, 2, 3], 4)
    assert opened[0].profile_steps == backend.most_steps(tiny_net.graph, 3, 4)


@pytest.mark.parametrize(("prompt", "new_tokens"), [([1], 0), ([1, 2, 3], 1), ([1, 2], 3)])
def test_the_most_steps_are_those_of_lavas_simulation(tiny_net: Net, prompt: list[int], new_tokens: int) -> None:
    pytest.importorskip("lava.magma")
    run = api.run(tiny_net, prompt, new_tokens, backend="sim", stop_at_end_of_text=False)
    assert backend.most_steps(tiny_net.graph, len(prompt), new_tokens) == run.steps


def test_prompt_and_generated_tokens_that_were_read_are_told_apart(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    run = api.profile(tiny_net, [1, 2, 3], 4, stop_at_end_of_text=False)[1].run
    assert (run.prompt_tokens, run.new_tokens_read, run.ended_early) == (3, 3, False)


def test_a_generation_that_ended_early_is_noticed(
    tiny_net: Net, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = api.run(tiny_net, [1, 2, 3], 1, backend="engine").new_ids[0]
    monkeypatch.setitem(tiny_net.manifest["model"], "eos_token_id", first)
    register(roles(tiny_net), {"mine": StandInRunner})
    assert api.profile(tiny_net, [1, 2, 3], 4)[1].run.ended_early


def test_a_damaged_activity_is_refused_before_a_board_is_held(net_copy: Path, register: Register) -> None:
    def hold(*_: Any) -> StandInRunner:
        raise AssertionError("a board was opened")

    (net_copy / "report").mkdir()
    (net_copy / "report" / "activity.npz").write_text("{")
    net = api.load(net_copy)
    register(roles(net), {"mine": hold})
    with pytest.raises(ArtifactError, match=r"activity\.npz"):
        api.profile(net, [1, 2, 3], 4)


def test_a_runner_that_did_not_profile_is_told_what_to_do(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": lambda net, models, steps: StandInRunner(net, models, None)})
    with pytest.raises(MeasurementError, match="attach_probes"):
        api.profile(tiny_net, [1, 2, 3], 4)


def test_the_activity_recorded_for_a_network_is_put_beside_that_of_the_chip(
    net_copy: Path, register: Register
) -> None:
    net = api.load(net_copy)
    register(roles(net), {"mine": StandInRunner})
    activity = api.run(net, [1, 2, 3], 4, backend="engine", activity=True).activity
    assert activity is not None
    save_activity(net_copy, activity)
    _, profile = api.profile(net, [1, 2, 3], 4)
    assert profile.expected == expect(net)
    assert profile.expected.per_token
    assert profile.same_ids
    assert api.profile(net, [1, 2, 4], 4)[1].same_ids is False


def chip_command(net: Path) -> list[str]:
    run = ["run", str(net), "--ids", "1,2,3", "-n", "4", "--ignore-eos"]
    return [*run, "--backend", "loihi2", "--profile"]


def test_the_command_prints_what_was_measured_beside_what_was_modelled(tiny_net: Net, register: Register) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    printed = CliRunner().invoke(app, chip_command(tiny_net.path)).output
    assert "3 prompt tokens and 3 new ones read, on the whole board" in printed
    assert "energy of vdd" in printed
    assert "--activity` records it" in printed
    rows = [line.split() for line in printed.splitlines()]
    modelled = expect(tiny_net).run(3, 3)["total_energy_joules"].value
    assert ["energy", "2.4", "J", f"{modelled:,.4g}", "J"] in rows
    names = printed.split("Activity of a token")[0]
    assert not re.search("seconds|joules|watts|tokens per s", names), "a row has its unit in its cells only"


def test_the_command_prints_what_was_counted_beside_what_was_expected(net_copy: Path, register: Register) -> None:
    net = api.load(net_copy)
    register(roles(net), {"mine": StandInRunner})
    CliRunner().invoke(
        app, ["run", str(net_copy), "--backend", "engine", "--ids", "1,2,3", "-n", "4", "--activity"]
    )
    printed = CliRunner().invoke(app, chip_command(net_copy)).output
    expected = expect(net).per_token
    rows = {" ".join(words[:-3]): words[-3:] for words in map(str.split, printed.splitlines())}
    # What the board counts as messages out may be either, so it is held against both.
    counted = {"synaptic_operations": 100.0, "messages_out": 2.0, "message_copies_out": 2.0}
    for name, count in counted.items():
        ratio = f"{count / expected[name]:.4f}"
        assert rows[name.replace("_", " ")] == [f"{count:.1f}", f"{expected[name]:,.1f}", ratio]
    assert "times the synaptic operations expected" in printed


def test_a_profiled_run_ends_as_any_other_and_adds_the_profile(
    tiny_net: Net, register: Register, tmp_path: Path
) -> None:
    register(roles(tiny_net), {"mine": StandInRunner})
    command = [*chip_command(tiny_net.path), "--json", "--logits-out", str(tmp_path / "logits.npz")]
    profiled = json.loads(CliRunner().invoke(app, command).stdout.splitlines()[-1])
    plain = [each for each in command if each != "--profile"]
    plain[-1] = str(tmp_path / "plain.npz")
    other = json.loads(CliRunner().invoke(app, plain).stdout.splitlines()[-1])
    assert profiled.pop("profile")["schema_version"] == 1
    assert profiled.keys() == other.keys()
    for name in ("text", "new_ids", "logits_sha256"):
        assert profiled[name] == other[name]
    with np.load(tmp_path / "logits.npz") as one, np.load(tmp_path / "plain.npz") as two:
        np.testing.assert_array_equal(one["logits"], two["logits"])
