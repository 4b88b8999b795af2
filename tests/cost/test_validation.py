"""The model against networks measured by others: the residuals in the docs, and the file of measurements."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loihi_mmfree.cost.fit import reference_workload
from loihi_mmfree.cost.model import predict
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.validation import (
    ValidatedQuantity,
    energy_trial,
    measured_data,
    measured_energies,
    measured_network,
    needed_scale,
    pilotnet_workload,
    validate,
    validate_cycle,
    yolo_workload,
)

DOCS = (Path(__file__).parent.parent.parent / "docs" / "reports.md").read_text(encoding="utf-8")
SECTION = DOCS.split("### Networks measured by others")[1].split("### Ranges of a report")[0]


def documented_rows(quantity: str) -> list[str]:
    """The rows of the section's tables that begin with these words."""
    return re.findall(rf"^ *\| {re.escape(quantity)} \|.*$", SECTION, flags=re.MULTILINE)


def as_documented(quantity: ValidatedQuantity) -> str:
    return f"{100 * quantity.residual:+.1f} %"


def pilotnet() -> dict[str, ValidatedQuantity]:
    rows = validate(measured_network("pilotnet_lif"), pilotnet_workload(), load_parameters())
    return {row.quantity: row for row in rows}


def yolo() -> dict[str, ValidatedQuantity]:
    rows = validate(measured_network("yolo_kp"), yolo_workload(), load_parameters())
    return {row.quantity: row for row in rows}


@pytest.mark.parametrize(
    ("found", "position", "quantity"),
    [
        (pilotnet, 0, "time of a step"),
        (pilotnet, 0, "power"),
        (pilotnet, 0, "static power"),
        (pilotnet, 0, "dynamic power"),
        (yolo, -1, "time of a step"),
        (yolo, -1, "power"),
        (yolo, -1, "static power"),
        (yolo, -1, "dynamic energy of a step"),
    ],
)
def test_the_docs_have_the_residual_that_the_model_gives(
    found: Callable[[], dict[str, ValidatedQuantity]], position: int, quantity: str
) -> None:
    assert as_documented(found()[quantity]) in documented_rows(quantity)[position]


def test_the_docs_have_the_residuals_of_the_recurring_steps() -> None:
    for number, step in enumerate(validate_cycle(load_parameters()), start=1):
        (row,) = documented_rows(str(number))
        assert f"{step.measured} µs" in row
        assert f"{step.modelled:.1f} µs | {as_documented(step)}" in row


def test_the_docs_have_the_energies_that_other_static_powers_mean() -> None:
    for static in (0.142, 0.25, 0.46):
        trial = energy_trial(static, reference_workload(), load_parameters())
        (row,) = documented_rows(f"{static} W")
        assert f"{trial.scale:.3f} | {trial.generate_millijoules:.0f} mJ | {trial.missing_watts:.3f} W" in row


def test_the_docs_have_the_scales_that_the_measured_energies_need() -> None:
    pair = (("pilotnet_lif", pilotnet_workload()), ("yolo_kp", yolo_workload()))
    scales = [needed_scale(measured_network(name).dynamic_joules, load, load_parameters()) for name, load in pair]
    assert f"scales of {scales[0]:.2f} (PilotNet) and {scales[1]:.2f} (YOLO-KP" in SECTION


def test_the_bound_on_a_synaptic_operation_is_the_measured_step_over_the_fullest_core() -> None:
    fullest = max(load.synaptic_operations for load in pilotnet_workload().pipelined.cores)
    bound = 1e9 * measured_network("pilotnet_lif").step_seconds / fullest
    assert f"at most {bound:.3f} ns" in SECTION


def test_the_step_that_nothing_was_fitted_to_is_modelled_within_15_percent() -> None:
    assert abs(pilotnet()["time of a step"].residual) < 0.15
    phase = predict(pilotnet_workload(), load_parameters()).prefill
    assert max(phase.shares, key=lambda what: phase.shares[what]) == "synapses"


def test_the_split_of_power_is_not_supported() -> None:
    # If this fails, the energy model has become better than the docs say.
    assert pilotnet()["static power"].residual > 1
    assert pilotnet()["dynamic power"].residual < -0.5


def test_the_fitted_pair_of_the_energy_model_is_one_of_the_trials() -> None:
    parameters = load_parameters()
    trial = energy_trial(parameters.static_power.si, reference_workload(), parameters)
    assert trial.scale == pytest.approx(parameters.dynamic_energy_scale.si, rel=1e-4)
    assert trial.generate_millijoules == pytest.approx(405, rel=1e-4)
    assert trial.missing_watts == pytest.approx(0, abs=1e-4)


def test_the_energies_of_pilotnet_meet_its_measured_power_at_rest_and_energy_of_events() -> None:
    parameters = measured_energies(load_parameters())
    rows = validate(measured_network("pilotnet_lif"), pilotnet_workload(), parameters)
    found = {row.quantity: row.residual for row in rows}
    assert found["static power"] == pytest.approx(0)
    assert found["dynamic energy of a step"] == pytest.approx(0)
    assert found["time of a step"] == pilotnet()["time of a step"].residual


def test_the_docs_have_what_the_energies_of_pilotnet_give_for_other_systems() -> None:
    fitted = load_parameters()
    parameters = measured_energies(fitted)
    rows = validate(measured_network("yolo_kp"), yolo_workload(), parameters)
    events = {row.quantity: row for row in rows}["dynamic energy of a step"]
    assert f"{events.modelled:.0f} µJ, {100 * events.residual:.1f} % more than measured" in SECTION
    published = predict(reference_workload(), parameters)
    times = parameters.dynamic_energy_scale.value / fitted.dynamic_energy_scale.value
    ranges = " ".join(DOCS.split("### Ranges of a report")[1].split("##")[0].split())
    assert f"events {times:.1f} times as much as fitted" in ranges
    assert f"{published.prefill.millijoules_per_token:.1f} mJ a token in prefill" in ranges
    assert f"{published.generate.millijoules_per_token:.0f} mJ generating instead of 405" in ranges


def test_every_core_has_all_its_readings() -> None:
    columns = measured_data()["pilotnet_lif"]["cores"]
    assert {len(column) for column in columns.values()} == {74}
    assert all(value >= 0 for column in columns.values() for value in column)


def test_a_core_updates_its_neurons_twice_and_about_once_for_each_message_it_sends() -> None:
    cores = measured_data()["pilotnet_lif"]["cores"]
    whole = slice(20, 23), slice(24, 34), slice(36, 60), slice(61, 74)  # layers, less cores at their ends
    for part in whole:
        for neurons, updates in zip(cores["neurons"][part], cores["neuron_updates"][part], strict=True):
            assert 2 * neurons <= updates <= 2.4 * neurons
    assert cores["neuron_updates"][70] == pytest.approx(2 * 3168, rel=0.002)
    assert cores["neuron_updates"][25] == pytest.approx(2 * 2160 + cores["deliveries"][25], rel=0.002)


def test_printed_power_and_throughput_agree_with_the_printed_energy_of_a_frame() -> None:
    network, frame = measured_network("pilotnet_lif"), 16
    assert 1e3 * network.total_watts * network.step_seconds * frame == pytest.approx(1.661103, rel=1e-4)
    assert 1e3 * network.dynamic_joules * frame == pytest.approx(1.093544, rel=1e-4)
    assert 1e3 * measured_network("yolo_kp").dynamic_joules == pytest.approx(4.605241, rel=1e-4)


def test_the_recurring_steps_have_the_mean_that_was_printed() -> None:
    cycle = measured_data()["pilotnet_lif"]["cycle"]
    printed = 1e6 * measured_network("pilotnet_lif").step_seconds
    assert sum(cycle["step_microseconds"]) / 4 == pytest.approx(printed, rel=0.01)


def test_the_loads_of_yolo_are_those_behind_the_estimates_it_prints() -> None:
    loads = measured_data()["yolo_kp"]["loads"]
    assert loads["fullest_core_operations"] * 0.66e-3 == pytest.approx(1119.7045398, rel=1e-6)
    assert loads["fullest_chip_messages"] * 12 / 800 == pytest.approx(3130.8214, rel=1e-5)


def test_a_chip_at_rest_takes_less_than_the_fitted_static_power() -> None:
    idle = [each["watts_per_chip"] for each in measured_data()["idle"]]
    assert max(idle) < load_parameters().static_power.si
    assert measured_data()["yolo_kp"]["static_watts"] / 9 == pytest.approx(max(idle), rel=1e-4)
