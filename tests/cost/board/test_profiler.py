"""Measurements through Lava's profiler, against a stand-in of its public interface: no board is here.

The interface is that of lava-dl, tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb and
pilotnet_sdnn/benchmark.ipynb (commit b9e3691), which print what a board with one Loihi 2 gave.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.counts import synaptic_operations
from loihi_mmfree.activity.file import load_activity, save_activity
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.board.profiler import Probes, Profile, Span, attach_probes, read_profile
from loihi_mmfree.cost.expectation import Expectation, expect
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.workload import CoreLoad, Events, StepLoad, Workload
from loihi_mmfree.errors import BackendUnavailableError, MeasurementError
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.report.document import build_report
from loihi_mmfree.sim.engine.specification import Engine


@dataclass
class StandInPower:
    """`Loihi2Power` as the notebooks read it: watts, of the whole board."""

    num_steps: int = 100
    total_power: Any = 1.5
    static_total_power: Any = 1.0
    vdd_power: Any = None
    vddm_power: Any = None
    vddio_power: Any = None


@dataclass
class StandInTime:
    """`Loihi2ExecutionTime` as the notebooks read it: microseconds."""

    avg_time_per_step: Any = 200.0


@dataclass
class StandInActivity:
    """`Loihi2Activity` as the notebooks read it: an element a core, summed over the run; numbers made up."""

    core_idx: Any = field(default_factory=lambda: np.array([0, 1, 5]))
    syn_ops: Any = field(default_factory=lambda: np.array([1000, 0, 3000]))
    dendrite_updates: Any = field(default_factory=lambda: np.array([200, 400, 0]))
    spikes_in: Any = field(default_factory=lambda: np.array([10, 20, 30]))
    axon_out: Any = field(default_factory=lambda: np.array([5, 6, 7]))


def expectation(chips: int = 1, cores: int = 3, board: int | None = None, **per_token: float) -> Expectation:
    """A network of four steps a token, in each of which one core does 1000 synaptic operations."""
    step = StepLoad((CoreLoad(synaptic_operations=1000.0),), chip_messages=0.0)
    workload = Workload(chips, cores, board, step, (step,) * 4, Events(4000.0, 0, 0, 0, 0), "made up")
    return Expectation(workload, load_parameters(), per_token, {"activity": "made up", "activity_tokens": 1})


TEN_TOKENS = Span(prompt_tokens=7, new_tokens_read=3, steps=100)


def profile(
    power: StandInPower | None = None,
    time: StandInTime | None = None,
    activity: Any = None,
    expected: Expectation | None = None,
    span: Span = TEN_TOKENS,
) -> Profile:
    """Ten tokens in a hundred steps: 20 ms, by default 30 mJ, 20 mJ of them static."""
    probes = Probes(power or StandInPower(), time or StandInTime(), activity or StandInActivity())
    return read_profile(probes, span, expected or expectation())


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the module of Intel's extension."""
    pytest.importorskip("lava.magma")
    module = ModuleType("lava.utils.loihi2_profiler")
    vars(module).update(Loihi2Power=StandInPower, Loihi2ExecutionTime=StandInTime, Loihi2Activity=StandInActivity)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_probes_are_handed_to_lavas_run_configuration_after_those_of_the_user(extension: None) -> None:
    from lava.magma.core.run_configs import Loihi2HwCfg

    run_config = Loihi2HwCfg(callback_fxs=["the user's"])
    probes = attach_probes(run_config, steps=300)
    assert run_config.callback_fxs == ["the user's", probes.power, probes.time, probes.activity]


def test_power_is_sampled_over_all_steps(extension: None) -> None:
    attached = attach_probes(SimpleNamespace(callback_fxs=[]), steps=300)
    assert isinstance(attached.power, StandInPower)
    assert attached.power.num_steps == 300


def test_without_intels_extension_it_says_how_to_get_it() -> None:
    with pytest.raises(BackendUnavailableError, match=r"loihi2_profiler.*INRC"):
        attach_probes(SimpleNamespace(callback_fxs=[]), steps=300)


def test_a_run_is_read_into_the_reports_form() -> None:
    document = profile().to_dict()
    assert document["measurement_method"] == "lava-loihi profiler"
    assert document["latency_seconds"]["value"] == pytest.approx(0.020)
    assert document["tokens_per_s"]["value"] == pytest.approx(500)
    assert document["total_energy_joules"]["value"] == pytest.approx(0.030)
    assert document["millijoules_per_token"]["value"] == pytest.approx(3)
    assert document["dynamic_energy_joules"]["value"] == pytest.approx(0.010)
    assert document["static_power_baseline_watts"]["value"] == pytest.approx(1)
    assert document["flags"] == []


def test_lavas_own_benchmark_of_a_spiking_pilotnet_gives_what_it_printed() -> None:
    # 408.91 images a second of 16 steps each, 10,000 steps; the images take the place of tokens.
    power = StandInPower(10_000, 0.679234, 0.232078, 0.252728, 0.422127, 0.004379)
    probes = Probes(power, StandInTime(1e6 / 408.91 / 16), StandInActivity())
    document = read_profile(probes, Span(625, 0, 10_000), expectation()).to_dict()
    assert document["tokens_per_s"]["value"] == pytest.approx(408.91)
    assert document["millijoules_per_token"]["value"] == pytest.approx(1.661103, rel=1e-4)
    assert document["dynamic_energy_joules"]["value"] / 625 == pytest.approx(1.093544e-3, rel=1e-4)
    rails = [each["value"] for each in document["energy_by_rail_joules"].values()]
    assert sum(rails) == pytest.approx(document["total_energy_joules"]["value"], rel=1e-5)


def test_the_negative_dynamic_power_that_lavas_own_benchmark_of_a_sigma_delta_pilotnet_printed_is_flagged() -> (
    None
):
    probes = Probes(StandInPower(2000, 0.275709, 0.281775), StandInTime(1e6 / 16.87), StandInActivity())
    document = read_profile(probes, Span(2000, 0, 2000), expectation()).to_dict()
    assert document["millijoules_per_token"]["value"] == pytest.approx(16.343833, rel=1e-4)
    assert "negative" in document["flags"][0]
    assert "dynamic_energy_joules" not in document


def test_power_is_the_mean_of_its_samples() -> None:
    document = profile(StandInPower(total_power=np.array([1.0, 2.0, 3.0]))).to_dict()
    assert document["total_energy_joules"]["value"] == pytest.approx(0.040)


def test_energy_of_a_rail_is_its_mean_power_for_the_time_of_the_run() -> None:
    rails = profile(StandInPower(vdd_power=np.array([0.5, 1.5]), vddm_power=0.4)).to_dict()[
        "energy_by_rail_joules"
    ]
    assert {rail: each["value"] for rail, each in rails.items()} == pytest.approx({"vdd": 0.020, "vddm": 0.008})


def test_every_number_of_the_board_is_measured_and_says_how() -> None:
    document = profile().to_dict()
    quantities = [each for each in document.values() if isinstance(each, dict) and "value" in each]
    quantities += document["activity"]["per_token"].values()
    assert len(quantities) == 11
    for each in quantities:
        assert each["source"] == "measured"
        assert each["inputs"]["measurement_method"] == "lava-loihi profiler"


def test_it_says_that_it_is_of_the_whole_board_and_of_prompt_and_generation_together() -> None:
    document = profile().to_dict()
    assert "whole board" in document["scope"]
    assert "prompt and generating together" in document["scope"]
    assert [document[name] for name in ("tokens", "prompt_tokens", "new_tokens_read")] == [10, 7, 3]


def test_the_document_names_its_schema() -> None:
    assert profile().to_dict()["schema_version"] == 1


def test_every_field_of_the_document_is_described() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reports.md").read_text()
    rows = re.findall(r"^\|([^|]*)\|", text.partition("## On a board")[2], flags=re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    document = profile().to_dict()
    activity = {f"activity.{name}" for name in document.pop("activity")}
    assert document.keys() | activity <= described


def test_the_model_is_asked_for_the_very_tokens_that_were_read() -> None:
    expected = expectation()
    # 7 tokens through 4 steps take 10 steps, 3 alone 4 each; every one waits for 1000 operations and the barrier.
    of = expected.parameters
    step = 1000 * of.synaptic_operation_time.si * of.core_time_scale.si + of.barrier_single_chip.si
    modelled = profile(expected=expected).to_dict()["modelled"]
    assert modelled["latency_seconds"]["value"] == pytest.approx(22 * step)
    assert modelled["tokens_per_s"]["value"] == pytest.approx(10 / (22 * step))
    events = 10 * 4000 * of.synaptic_operation_energy.si * of.dynamic_energy_scale.si
    assert modelled["total_energy_joules"]["value"] == pytest.approx(of.static_power.si * 22 * step + events)
    assert modelled["dynamic_energy_joules"]["value"] == pytest.approx(events)


def test_every_measured_quantity_has_a_modelled_one_that_names_what_it_was_made_from() -> None:
    document = profile().to_dict()
    measured = {name for name, each in document.items() if isinstance(each, dict) and "value" in each}
    assert document["modelled"].keys() == measured
    for each in document["modelled"].values():
        assert each["source"] == "modelled"
        assert each["inputs"]["activity"] == "made up"
        assert (each["inputs"]["prompt_tokens"], each["inputs"]["new_tokens_read"]) == (7, 3)


def test_modelled_energy_is_of_the_whole_board_where_one_is_known() -> None:
    watts = "static_power_baseline_watts"
    board = profile(expected=expectation(chips=2, board=8)).to_dict()["modelled"][watts]
    used = profile(expected=expectation(chips=2)).to_dict()["modelled"][watts]
    assert board["value"] == pytest.approx(4 * used["value"])
    assert board["inputs"]["scope"] == "whole board (8 chips, 2 in use)"
    assert "chips in use (2)" in used["inputs"]["scope"]


def test_a_prompt_alone_is_modelled_too() -> None:
    modelled = profile(span=Span(7, 0, 100)).to_dict()["modelled"]
    ten, four = modelled["latency_seconds"]["value"], profile(span=Span(1, 0, 4)).to_dict()["modelled"]
    assert ten / four["latency_seconds"]["value"] == pytest.approx(10 / 4)


def test_a_run_that_ended_early_is_flagged() -> None:
    (flag,) = profile(span=Span(7, 3, 100, ended_early=True)).to_dict()["flags"]
    assert "`stop_at_end_of_text=False`" in flag


def test_a_runner_without_probes_is_told_what_to_do() -> None:
    with pytest.raises(MeasurementError, match="attach_probes"):
        read_profile(None, TEN_TOKENS, expectation())


def test_dynamic_energy_within_noise_is_flagged_and_not_reported() -> None:
    document = profile(StandInPower(total_power=1.01)).to_dict()
    assert "within noise" in document["flags"][0]
    assert "dynamic_energy_joules" not in document


def test_a_probe_that_recorded_no_time_is_refused() -> None:
    with pytest.raises(MeasurementError, match="recorded nothing"):
        profile(time=StandInTime(0.0))


@pytest.mark.parametrize("name", ["total_power", "static_total_power", "vdd_power", "vddm_power", "vddio_power"])
def test_a_power_that_is_no_number_is_refused(name: str) -> None:
    power = StandInPower()
    setattr(power, name, np.array([0.5, np.nan]))
    with pytest.raises(MeasurementError, match=f"^{name}"):
        profile(power)


@pytest.mark.parametrize("reading", [None, np.zeros(0), float("nan")])
def test_a_time_that_is_not_there_or_no_number_is_refused(reading: Any) -> None:
    with pytest.raises(MeasurementError, match="avg_time_per_step"):
        profile(time=StandInTime(reading))


def test_activity_of_all_cores_is_given_by_token() -> None:
    per_token = profile().to_dict()["activity"]["per_token"]
    assert {name: each["value"] for name, each in per_token.items()} == pytest.approx(
        {"synaptic_operations": 400, "neuron_updates": 60, "messages_in": 6, "messages_out": 1.8}
    )
    assert per_token["synaptic_operations"]["unit"] == "synaptic operations"


def test_activity_is_given_by_core() -> None:
    assert profile().to_dict()["activity"]["by_core"] == {
        "core": [0, 1, 5],
        "synaptic_operations": [1000, 0, 3000],
        "neuron_updates": [200, 400, 0],
        "messages_in": [10, 20, 30],
        "messages_out": [5, 6, 7],
    }


def test_a_profiler_that_tells_chips_apart_gives_them_too() -> None:
    activity = StandInActivity()
    vars(activity)["chip_idx"] = np.array([0, 0, 2])
    assert profile(activity=activity).to_dict()["activity"]["by_core"]["chip"] == [0, 0, 2]


def test_what_the_profiler_does_not_count_is_flagged_and_the_rest_is_given() -> None:
    activity = StandInActivity()
    del activity.axon_out
    document = profile(activity=activity).to_dict()
    assert document["flags"] == ["activity: Lava's profiler offers no axon_out, so these were not measured"]
    assert list(document["activity"]["per_token"]) == ["synaptic_operations", "neuron_updates", "messages_in"]
    assert "dynamic_energy_joules" in document


def test_several_chips_that_the_profiler_does_not_tell_apart_are_flagged() -> None:
    document = profile(expected=expectation(chips=2)).to_dict()
    assert "no chip_idx, and the placement uses 2 chips" in document["flags"][0]
    assert document["activity"]["per_token"]["synaptic_operations"]["value"] == 400


def test_several_chips_that_the_profiler_tells_apart_are_not_flagged() -> None:
    activity = StandInActivity(core_idx=np.array([0, 1, 0]))
    vars(activity)["chip_idx"] = np.array([0, 0, 1])
    assert profile(activity=activity, expected=expectation(chips=2)).flags == ()


def test_a_core_that_occurs_twice_is_flagged() -> None:
    (flag,) = profile(activity=StandInActivity(core_idx=np.array([0, 1, 1]))).flags
    assert "more than once" in flag


def test_fewer_cores_than_the_placement_uses_are_flagged() -> None:
    (flag,) = profile(expected=expectation(cores=4)).flags
    assert "recorded 3 of the 4 cores" in flag


@pytest.mark.parametrize(("expected", "flags"), [(400.0, 0), (403.0, 0), (500.0, 1), (0.0, 0)])
def test_synaptic_operations_that_are_not_those_expected_are_flagged_with_the_reasons_they_may_have(
    expected: float, flags: int
) -> None:
    found = profile(expected=expectation(synaptic_operations=expected)).flags
    assert len(found) == flags
    assert all("0.8 times" in flag and "zero weights" in flag for flag in found)


@pytest.mark.parametrize(
    ("read", "same", "reason"),
    [("a", True, "leave out"), ("b", False, "other tokens"), ("", None, "may have been")],
)
def test_whether_the_activity_was_recorded_of_the_ids_read_is_said(
    read: str, same: bool | None, reason: str
) -> None:
    expected = replace(expectation(synaptic_operations=500.0), ids_sha256="a")
    found = profile(expected=expected, span=replace(TEN_TOKENS, ids_sha256=read))
    assert found.to_dict()["activity"]["same_ids"] is same
    assert reason in found.flags[0]
    assert ("recorded" in found.flags[0]) == (same is not True)


def test_a_profiler_that_recorded_no_core_is_flagged() -> None:
    document = profile(activity=StandInActivity(*[np.zeros(0, dtype=int)] * 5)).to_dict()
    assert document["flags"] == ["activity: Lava's profiler recorded no core"]
    assert document["activity"]["per_token"] == {}


@pytest.mark.parametrize("name", ["core_idx", "syn_ops", "dendrite_updates", "spikes_in", "axon_out", "chip_idx"])
@pytest.mark.parametrize("wrong", [[1, -1, 0], [1, 0.5, 0], [1, np.nan, 0], [1, np.inf, 0], ["a", 1, 2], 7])
def test_activity_that_is_no_count_of_every_core_is_refused(name: str, wrong: Any) -> None:
    activity = StandInActivity()
    vars(activity)[name] = wrong
    with pytest.raises(MeasurementError, match=f"^{name}: expected"):
        profile(activity=activity)


def test_activity_of_different_numbers_of_cores_is_refused() -> None:
    with pytest.raises(MeasurementError, match="core_idx 3, syn_ops 2"):
        profile(activity=StandInActivity(syn_ops=np.array([1, 2])))


@pytest.fixture
def recorded(net_copy: Path) -> Net:
    """A network with the activity of its golden ids."""
    net = load_net(net_copy)
    recorder = ActivityRecorder(net.graph)
    Engine(net.graph, observer=recorder.observer).read(net.golden()["ids"].astype(np.int64))
    save_activity(net_copy, recorder.activity("golden ids"))
    return net


def test_without_recorded_activity_no_events_are_expected_and_the_worst_case_is_modelled(tiny_net: Net) -> None:
    document = profile(expected=expect(tiny_net)).to_dict()
    assert document["activity"]["expected_per_token"] == {}
    assert document["modelled"]["latency_seconds"]["inputs"]["activity"].startswith("not recorded: worst case")


def test_the_recorded_activity_is_put_beside_what_the_board_counted(recorded: Net) -> None:
    moved = build_report(recorded).traffic
    given = profile(expected=expect(recorded)).to_dict()["activity"]["expected_per_token"]
    assert given["messages_out"]["value"] == pytest.approx(sum(core.sent for core in moved.cores))
    for each in given.values():
        assert each["source"] == "modelled"
        assert each["inputs"] == {
            "activity": "recorded: golden ids",
            "activity_tokens": len(recorded.golden()["ids"]),
            "placement": f"{recorded.placed.placement.cores_used} cores on 1 chips of loihi2",
        }


def test_what_is_modelled_of_a_run_is_a_session_of_the_report(recorded: Net) -> None:
    session = build_report(recorded).sessions[0]
    found = expect(recorded).run(session.prompt_tokens, session.new_tokens)
    assert found["latency_seconds"].value == pytest.approx(session.seconds)
    assert found["total_energy_joules"].value == pytest.approx(session.joules)


def test_the_synaptic_operations_expected_are_those_that_end_on_the_chip(recorded: Net) -> None:
    activity = load_activity(recorded.path, recorded.graph)
    assert activity is not None
    assert recorded.placed.placement.head == "host"
    operations = synaptic_operations(recorded.graph, activity.rates)
    on_chip = [each for name, each in operations.items() if not name.startswith(("norm.", "lm_head"))]
    assert len(on_chip) < len(operations)
    assert expect(recorded).per_token["synaptic_operations"] == pytest.approx(sum(on_chip))


def test_every_message_that_is_expected_in_was_expected_out_or_came_from_the_host(recorded: Net) -> None:
    per_token, moved = expect(recorded).per_token, build_report(recorded).traffic
    inside = per_token["message_copies_out"] - moved.host_received
    assert per_token["messages_in"] == pytest.approx(inside + moved.host_sent)
