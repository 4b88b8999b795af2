"""The fit: three published numbers in, three parameters out, and a fourth number to be judged by."""

from __future__ import annotations

import dataclasses
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.checkpoint import expected_shapes
from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS
from loihi_mmfree.cost.fit import FITTED, fit, published_target, reference_workload
from loihi_mmfree.cost.model import predict
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.sensitivity import fitted_ranges, sensitivity
from loihi_mmfree.loihi2.hardware import SYSTEMS

ROOT = Path(__file__).parent.parent.parent


def test_the_shipped_workload_is_a_fresh_count_of_what_the_placer_makes_of_the_370m(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = expected_shapes(PUBLISHED_CONFIGS["370M"])
    # The script's weights are ones; so are their codes, and there is no need to quantize 370 million of them.
    monkeypatch.setattr(
        "loihi_mmfree.compiler.passes.lower.ternary_projection",
        lambda _, name: (np.broadcast_to(np.int8(1), shapes[name]), 1.0),
    )
    script = runpy.run_path(str(ROOT / "benchmarks" / "fit_loihi2_model.py"))
    counted, shipped = script["count_reference"](), reference_workload()
    assert dataclasses.asdict(counted.events) == pytest.approx(dataclasses.asdict(shipped.events))
    assert replace(counted, events=shipped.events) == shipped


def test_the_placer_weighs_a_message_as_the_model_does() -> None:
    model = load_parameters()
    ratio = model.message_in_time.si / model.synaptic_operation_time.si
    assert {spec.message_operations.value for spec in SYSTEMS.values()} == {round(ratio)}


def test_the_shipped_parameters_are_those_of_the_fit() -> None:
    shipped = load_parameters()
    fitted = fit(reference_workload(), shipped)
    for name in FITTED:
        assert shipped.named()[name].confidence == "fitted"
        assert shipped.named()[name].value == pytest.approx(fitted.named()[name].value, rel=1e-5)


def test_the_shipped_ranges_of_fitted_parameters_are_those_of_the_sensitivity() -> None:
    shipped = load_parameters()
    for name, (low, high) in fitted_ranges(reference_workload(), shipped).items():
        assert (shipped.named()[name].low, shipped.named()[name].high) == pytest.approx((low, high), rel=1e-3)


def test_only_the_named_parameters_are_fitted() -> None:
    found = {name for name, each in load_parameters().named().items() if each.confidence == "fitted"}
    assert found == set(FITTED)


def test_the_fitted_model_meets_the_three_published_numbers() -> None:
    workload = reference_workload()
    found = predict(workload, fit(workload, load_parameters()))
    assert found.prefill.tokens_per_s == pytest.approx(6632)
    assert found.prefill.millijoules_per_token == pytest.approx(3.7)
    assert found.generate.millijoules_per_token == pytest.approx(405)


def test_the_throughput_that_was_not_fitted_is_predicted_within_15_percent() -> None:
    found = predict(reference_workload(), load_parameters()).generate.tokens_per_s
    assert found == pytest.approx(published_target().generate_tokens_per_s, rel=0.15)


def test_the_fit_does_not_look_at_the_throughput_it_predicts() -> None:
    workload, shipped = reference_workload(), load_parameters()
    other = replace(published_target(), generate_tokens_per_s=1000.0)
    assert fit(workload, shipped, other) == fit(workload, shipped)


def test_the_fit_starts_from_anywhere() -> None:
    workload, shipped = reference_workload(), load_parameters()
    elsewhere = shipped.with_values(core_time_scale=7.0, dynamic_energy_scale=5.0, static_power=3.0)
    for name, each in fit(workload, elsewhere).named().items():
        assert each.value == pytest.approx(fit(workload, shipped).named()[name].value)


def test_a_barrier_longer_than_the_published_step_is_refused() -> None:
    slow = load_parameters().with_values(barrier_multi_chip=151.0)
    with pytest.raises(ValueError, match="longer than the published step"):
        fit(reference_workload(), slow)


def test_every_end_of_the_sensitivity_still_meets_the_published_prefill() -> None:
    workload = reference_workload()
    for row in sensitivity(workload, load_parameters(), workload):
        for end in (row.low, row.high):
            if end is not None:
                assert end.prefill.tokens_per_s == pytest.approx(6632)


def test_energies_of_events_move_no_time() -> None:
    workload, shipped = reference_workload(), load_parameters()
    expected = predict(workload, fit(workload, shipped)).generate.tokens_per_s
    for row in sensitivity(workload, shipped, workload):
        if row.name.endswith("_energy") and row.high is not None:
            assert row.high.generate.tokens_per_s == pytest.approx(expected)
