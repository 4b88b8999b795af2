"""Time and energy: arithmetic that can be done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loihi_mmfree.cost.model import predict, prompt_joules, prompt_seconds, session
from loihi_mmfree.cost.parameters import ModelParameters, Parameter, load_parameters, read_toml
from loihi_mmfree.cost.workload import CoreLoad, Events, StepLoad, Workload

BUSY = CoreLoad(synaptic_operations=1000, instructions=100, messages_in=10, messages_out=5, deliveries=20)
LIGHT = CoreLoad(messages_in=100)
WORK = Workload(
    chips=2,
    cores=2,
    board_chips=8,
    pipelined=StepLoad((BUSY, LIGHT), chip_messages=30, link_messages=10),
    steps=(StepLoad((BUSY,), 30), StepLoad((LIGHT,), 0), StepLoad((), 0)),
    events=Events(synaptic_operations=1000, instructions=100, messages=5, hops=40, chip_hops=2),
    origin="made up",
)


@pytest.fixture
def parameters() -> ModelParameters:
    """Round numbers."""
    return load_parameters().with_values(
        synaptic_operation_time=2.0,
        instruction_time=3.0,
        message_in_time=10.0,
        message_out_time=4.0,
        delivery_time=1.0,
        link_message_time=5.0,
        chip_message_time=7.0,
        barrier_single_chip=1.0,
        barrier_multi_chip=9.0,
        core_time_scale=1.0,
        synaptic_operation_energy=10.0,
        instruction_energy=20.0,
        message_energy=100.0,
        hop_energy=3.0,
        chip_hop_energy=500.0,
        dynamic_energy_scale=2.0,
        static_power=0.5,
    )


def test_a_step_lasts_as_long_as_the_slowest_stage_of_its_slowest_core_and_the_barrier(
    parameters: ModelParameters,
) -> None:
    # 1000 operations of 2 ns are longer than 100 x 3, 100 x 10, 5 x 4 + 20; the barrier of two chips takes 10 µs.
    assert predict(WORK, parameters).prefill.seconds_per_token == pytest.approx(2e-6 + 10e-6)


def test_a_lone_token_takes_all_its_steps(parameters: ModelParameters) -> None:
    assert predict(WORK, parameters).generate.seconds_per_token == pytest.approx(2e-6 + 1e-6 + 0 + 3 * 10e-6)


def test_one_chip_has_the_shorter_barrier(parameters: ModelParameters) -> None:
    alone = replace(WORK, chips=1)
    assert predict(alone, parameters).prefill.seconds_per_token == pytest.approx(2e-6 + 1e-6)


def test_a_link_can_be_what_a_step_waits_for(parameters: ModelParameters) -> None:
    slow = parameters.with_values(chip_message_time=100.0)
    phase = predict(WORK, slow).prefill
    assert phase.seconds_per_token == pytest.approx(3e-6 + 10e-6)
    assert phase.shares["links"] == pytest.approx(3 / 13)


def test_energy_is_static_power_for_the_time_and_a_price_for_each_event(parameters: ModelParameters) -> None:
    phase = predict(WORK, parameters).prefill
    assert phase.static_joules == pytest.approx(2 * 0.5 * 12e-6)
    assert phase.dynamic_joules == pytest.approx(2 * 1e-12 * (10_000 + 2_000 + 500 + 120 + 1_000))


def test_both_phases_cost_the_same_dynamic_energy(parameters: ModelParameters) -> None:
    prediction = predict(WORK, parameters)
    assert prediction.generate.dynamic_joules == prediction.prefill.dynamic_joules


def test_a_prompt_takes_a_step_a_token_and_the_way_of_the_last_one(parameters: ModelParameters) -> None:
    assert prompt_seconds(WORK, parameters, 10) == pytest.approx((10 + 2) * 12e-6)


def test_a_session_is_its_prompt_and_its_generated_tokens(parameters: ModelParameters) -> None:
    found = session(WORK, parameters, 10, 5)
    generate = predict(WORK, parameters).generate
    assert found.seconds == pytest.approx(12 * 12e-6 + 5 * generate.seconds_per_token)
    expected = prompt_joules(WORK, parameters, 10) + 5e-3 * generate.millijoules_per_token
    assert found.joules == pytest.approx(expected)
    assert found.joules_per_token == pytest.approx(expected / 15)
    assert found.joules_per_output_token == pytest.approx(expected / 5)


def test_the_board_draws_static_power_for_all_its_chips(parameters: ModelParameters) -> None:
    found = session(WORK, parameters, 10, 5)
    assert found.board_joules == pytest.approx(found.joules + (8 - 2) * 0.5 * found.seconds)


def test_without_a_particular_board_there_is_no_energy_of_one(parameters: ModelParameters) -> None:
    assert session(replace(WORK, board_chips=None), parameters, 10, 5).board_joules is None


def test_every_shipped_parameter_lies_in_its_range_and_names_its_source() -> None:
    for name, each in load_parameters().named().items():
        assert each.low <= each.value <= each.high, name
        assert len(each.source) > 20, name


def test_a_missing_or_unknown_parameter_is_refused() -> None:
    data = read_toml("loihi2_model.toml")
    data["speed_of_light"] = data.pop("hop_energy")
    with pytest.raises(ValueError, match="hop_energy, speed_of_light"):
        load_parameters(data)


def test_a_parameter_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="outside its range"):
        Parameter(3.0, 1.0, 2.0, "ns", "assumed", "none")
