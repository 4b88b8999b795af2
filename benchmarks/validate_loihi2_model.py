"""Hold the time and energy model against networks of others that were measured on boards; print every residual.

    python benchmarks/validate_loihi2_model.py       # a second

The measurements are in loihi_mmfree/data/loihi2_measured.toml, the parameters are those of the package: nothing is
fitted here. What is printed stands in docs/reports.md, "Networks measured by others".
"""

from __future__ import annotations

from collections.abc import Callable

from loihi_mmfree.cost.fit import published_target, reference_workload
from loihi_mmfree.cost.model import Phase, barrier_seconds, core_seconds, event_joules, predict, stage_seconds
from loihi_mmfree.cost.parameters import ModelParameters, load_parameters
from loihi_mmfree.cost.sensitivity import sensitivity
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
from loihi_mmfree.cost.workload import CoreLoad, Workload

STATIC_TRIALS = (0.142, 0.25, 0.46, 0.704)
INSTRUCTION_TRIALS = (10, 20, 34, 40)


def print_quantities(title: str, rows: tuple[ValidatedQuantity, ...]) -> None:
    print(f"\n{title}\n| | measured | modelled | residual |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.quantity} | {row.measured:.4g} {row.unit} | {row.modelled:.4g} | {row.residual:+.1%} |")


def limit(phase: Phase) -> str:
    """What most of the time goes to."""
    return max(phase.shares, key=lambda what: phase.shares[what])


def print_sensitivity(workload: Workload, parameters: ModelParameters, reference: Workload) -> None:
    """Print the ends of every range that move a step or its energy by more than half a percent."""
    base = predict(workload, parameters).prefill
    print("\nfitted anew at each end\n| parameter | end | µs a step | waits for | W |\n|---|---|---|---|---|")
    for row in sensitivity(workload, parameters, reference):
        for value, end in ((row.low_value, row.low), (row.high_value, row.high)):
            if end is None:
                continue
            phase = end.prefill
            seconds = phase.seconds_per_token
            if max(abs(seconds / base.seconds_per_token - 1), abs(phase.watts / base.watts - 1)) > 0.005:
                found = f"{1e6 * seconds:.1f} | {limit(phase)} | {phase.watts:.3f}"
                print(f"| {row.name} | {value:g} {row.unit} | {found} |")


def in_sequence(load: CoreLoad, parameters: ModelParameters) -> float:
    """Time of a core whose stages work one after another."""
    return sum(stage_seconds(load, parameters).values())


def print_forms(workload: Workload, parameters: ModelParameters, reference: Workload) -> None:
    """Print the step that other forms of the model give, each with its scale fitted to the published prefill."""
    published = 1 / published_target().prefill_tokens_per_s
    outside = barrier_seconds(reference.chips, parameters)
    forms: dict[str, tuple[Callable[[CoreLoad, ModelParameters], float], float]] = {
        "the model": (core_seconds, outside),
        "the barrier one of the stages, not on top of them": (core_seconds, 0.0),
        "the stages of a core one after another": (in_sequence, outside),
    }
    print("\n| form | µs a step | residual |\n|---|---|---|")
    for form, (seconds, barrier) in forms.items():
        fitted = max(seconds(load, parameters) for load in reference.pipelined.cores)
        slowest = max(seconds(load, parameters) for load in workload.pipelined.cores)
        step = slowest * (published - barrier) / fitted + (barrier_seconds(1, parameters) if barrier else 0.0)
        residual = step / measured_network("pilotnet_lif").step_seconds - 1
        print(f"| {form} | {1e6 * step:.1f} | {residual:+.1%} |")


def print_assumptions(parameters: ModelParameters) -> None:
    """Print what the length of the neuron program, which is not public, does."""
    print("\n| instructions of a neuron | µs a step | waits for | W |\n|---|---|---|---|")
    for instructions in INSTRUCTION_TRIALS:
        phase = predict(pilotnet_workload(instructions), parameters).prefill
        print(f"| {instructions} | {1e6 * phase.seconds_per_token:.1f} | {limit(phase)} | {phase.watts:.3f} |")


def print_energy(parameters: ModelParameters, reference: Workload) -> None:
    """Print which scales of dynamic energy the systems need, and whether one could hold them all."""
    print("\nscale of dynamic energy that meets what was measured; shipped ", end="")
    print(f"{parameters.dynamic_energy_scale.value:.3f}")
    for name, workload in (("pilotnet_lif", pilotnet_workload()), ("yolo_kp", yolo_workload())):
        network = measured_network(name)
        scale = needed_scale(network.dynamic_joules, workload, parameters)
        picojoules = 1e12 * network.dynamic_joules / workload.events.synaptic_operations
        prefill = 1e3 * scale / parameters.dynamic_energy_scale.si * event_joules(reference.events, parameters)
        print(
            f"  {network.title}: {scale:.3f}, {picojoules:.1f} pJ a synaptic operation with all else in it;"
            f" with it the published prefill would take {prefill:.2f} mJ without static power"
        )
    other = measured_energies(parameters)
    found = predict(reference, other)
    times = other.dynamic_energy_scale.value / parameters.dynamic_energy_scale.value
    print(
        f"by the energies of PilotNet ({other.static_power.value:.3f} W at rest, events {times:.1f} times) "
        f"the published system takes {found.prefill.millijoules_per_token:.2f} mJ in prefill and "
        f"{found.generate.millijoules_per_token:.0f} mJ generating"
    )
    print_quantities(
        "YOLO-KP by the energies of PilotNet", validate(measured_network("yolo_kp"), yolo_workload(), other)
    )
    print("\n| static W a chip | scale, from prefill | generate mJ | missing W a chip |\n|---|---|---|---|")
    for static in STATIC_TRIALS:
        trial = energy_trial(static, reference, parameters)
        print(f"| {static} | {trial.scale:.3f} | {trial.generate_millijoules:.0f} | {trial.missing_watts:.3f} |")
    for each in measured_data()["idle"]:
        print(f"at rest: {each['watts_per_chip']:.3f} W a chip, {each['what']}")


def main() -> None:
    parameters, reference = load_parameters(), reference_workload()
    pilotnet, yolo = measured_network("pilotnet_lif"), measured_network("yolo_kp")
    workload = pilotnet_workload()
    phase = predict(workload, parameters).prefill
    print_quantities(pilotnet.title, validate(pilotnet, workload, parameters))
    frames = 1 / (16 * phase.seconds_per_token)
    print(f"waits for: {limit(phase)}; {frames:.1f} frames/s, measured {1 / (16 * pilotnet.step_seconds):.2f}")
    fullest = max(core.synaptic_operations for core in workload.pipelined.cores)
    print(f"a synaptic operation takes at most {1e9 * pilotnet.step_seconds / fullest:.3f} ns, measured")
    print_quantities("its four recurring steps", validate_cycle(parameters))
    print_sensitivity(workload, parameters, reference)
    print_forms(workload, parameters, reference)
    print_assumptions(parameters)
    print_quantities(yolo.title, validate(yolo, yolo_workload(), parameters))
    print(f"waits for: {limit(predict(yolo_workload(), parameters).prefill)}")
    print_energy(parameters, reference)


if __name__ == "__main__":
    main()
