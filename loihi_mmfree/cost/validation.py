"""The model held against networks of others, measured by them on boards: nothing here takes part in the fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from loihi_mmfree.cost.fit import published_target
from loihi_mmfree.cost.model import barrier_seconds, core_seconds, event_joules, predict
from loihi_mmfree.cost.parameters import ModelParameters, read_toml
from loihi_mmfree.cost.workload import CoreLoad, Events, StepLoad, Workload
from loihi_mmfree.units import MICROJOULES, MICROSECONDS

MEASURED_FILE = "loihi2_measured.toml"
# Of a leaky integrate-and-fire neuron's program, a step. Not public; the parameters assume the same.
LIF_INSTRUCTIONS = 20


@dataclass(frozen=True)
class MeasuredNetwork:
    """What was measured of a network on a board.

    Parameters
    ----------
    title, source : str
    chips : int
        In use.
    step_seconds : float
        Mean time of a step.
    total_watts, static_watts : float
        While it runs and at rest, of the chips in use.
    """

    title: str
    source: str
    chips: int
    step_seconds: float
    total_watts: float
    static_watts: float

    @property
    def dynamic_watts(self) -> float:
        """What running adds."""
        return self.total_watts - self.static_watts

    @property
    def dynamic_joules(self) -> float:
        """The same, of a step."""
        return self.dynamic_watts * self.step_seconds


@dataclass(frozen=True)
class ValidatedQuantity:
    """A quantity as measured and as modelled."""

    quantity: str
    unit: str
    measured: float
    modelled: float

    @property
    def residual(self) -> float:
        """Relative error of the model."""
        return self.modelled / self.measured - 1


@cache
def measured_data() -> dict[str, Any]:
    """Read the package's file of measurements."""
    return read_toml(MEASURED_FILE)


def measured_network(name: str) -> MeasuredNetwork:
    """Return what was measured of a network of the file."""
    data = measured_data()[name]
    return MeasuredNetwork(
        title=data["title"],
        source=data["source"],
        chips=data["chips"],
        step_seconds=1 / (data["frames_per_s"] * data["steps_per_frame"]),
        total_watts=data["total_watts"],
        static_watts=data["static_watts"],
    )


def pilotnet_workload(instructions: float = LIF_INSTRUCTIONS) -> Workload:
    """Return the workload of a step of PilotNet LIF.

    Parameters
    ----------
    instructions : float
        Of the neuron program, a neuron and step: an assumption.

    Notes
    -----
    Messages out are taken to be as many as deliveries, which is too many; hops, not known, are left out.
    """
    cores: Mapping[str, list[int]] = measured_data()["pilotnet_lif"]["cores"]
    columns = (cores[name] for name in ("synaptic_operations", "neurons", "messages_in", "deliveries"))
    loads = tuple(
        CoreLoad(operations, instructions * neurons, messages, out, out)
        for operations, neurons, messages, out in zip(*columns, strict=True)
    )
    return _workload(1, len(loads), StepLoad(loads, chip_messages=0.0), sum(loads, CoreLoad()))


def yolo_workload() -> Workload:
    """Return the workload of a step of YOLO-KP: the loads that are known, all others are zero."""
    data = measured_data()["yolo_kp"]
    loads = data["loads"]
    fullest = CoreLoad(synaptic_operations=loads["fullest_core_operations"])
    step = StepLoad((fullest,), chip_messages=loads["fullest_chip_messages"])
    return _workload(data["chips"], loads["cores"], step, CoreLoad(loads["synaptic_operations"]))


@dataclass(frozen=True)
class Validation:
    """A network of others, as measured and as modelled."""

    network: MeasuredNetwork
    quantities: tuple[ValidatedQuantity, ...]


def validations(parameters: ModelParameters) -> tuple[Validation, ...]:
    """Hold the model against every network of the file."""
    workloads = {"pilotnet_lif": pilotnet_workload(), "yolo_kp": yolo_workload()}
    networks = {name: measured_network(name) for name in workloads}
    return tuple(
        Validation(networks[name], validate(networks[name], workload, parameters))
        for name, workload in workloads.items()
    )


def _workload(chips: int, cores: int, step: StepLoad, total: CoreLoad) -> Workload:
    """One step is all there is: what the model calls a token is a step of all cores."""
    events = Events(total.synaptic_operations, total.instructions, total.messages_out, hops=0.0, chip_hops=0.0)
    return Workload(chips, cores, None, step, (step,), events, origin="measured")


def validate(
    network: MeasuredNetwork, workload: Workload, parameters: ModelParameters
) -> tuple[ValidatedQuantity, ...]:
    """Return time, power and energy of a step, as measured and as modelled."""
    phase = predict(workload, parameters).prefill
    static = phase.static_joules / phase.seconds_per_token
    dynamic = phase.dynamic_joules / phase.seconds_per_token
    return (
        ValidatedQuantity(
            "time of a step", MICROSECONDS, 1e6 * network.step_seconds, 1e6 * phase.seconds_per_token
        ),
        ValidatedQuantity("power", "W", network.total_watts, phase.watts),
        ValidatedQuantity("static power", "W", network.static_watts, static),
        ValidatedQuantity("dynamic power", "W", network.dynamic_watts, dynamic),
        ValidatedQuantity(
            "dynamic energy of a step", MICROJOULES, 1e6 * network.dynamic_joules, 1e6 * phase.dynamic_joules
        ),
    )


def validate_cycle(parameters: ModelParameters) -> tuple[ValidatedQuantity, ...]:
    """Return the four recurring steps of PilotNet LIF, as measured and from the operations of the fullest core."""
    cycle = measured_data()["pilotnet_lif"]["cycle"]
    rows = zip(cycle["step_microseconds"], cycle["fullest_core_operations"], strict=True)
    barrier = barrier_seconds(1, parameters)
    return tuple(
        ValidatedQuantity(
            "time of a step",
            MICROSECONDS,
            measured,
            1e6 * (core_seconds(CoreLoad(operations), parameters) + barrier),
        )
        for measured, operations in rows
    )


def needed_scale(joules: float, workload: Workload, parameters: ModelParameters) -> float:
    """Return the scale of dynamic energy with which the events of a workload take so many joules."""
    return joules / event_joules(workload.events, parameters.with_values(dynamic_energy_scale=1.0))


def measured_energies(parameters: ModelParameters) -> ModelParameters:
    """Return the parameters with energies as measured of PilotNet LIF: at rest, and for what its events take.

    Another calibration than the package's, fitted to the published totals of the 370M; times are the same.
    """
    network = measured_network("pilotnet_lif")
    scale = needed_scale(network.dynamic_joules, pilotnet_workload(), parameters)
    return parameters.with_values(static_power=network.static_watts, dynamic_energy_scale=scale)


@dataclass(frozen=True)
class EnergyTrial:
    """The published system with a static power of a chip that is given.

    Parameters
    ----------
    static_watts : float
    scale : float
        Of dynamic energy, so that prefill takes what was published; below zero if static power alone takes more.
    generate_millijoules : float
        A token, with both.
    missing_watts : float
        Of a chip while it generates: what the published energy has on top.
    """

    static_watts: float
    scale: float
    generate_millijoules: float
    missing_watts: float


def energy_trial(static_watts: float, reference: Workload, parameters: ModelParameters) -> EnergyTrial:
    """Return what a static power means for the energies of the published system."""
    target, found = published_target(), predict(reference, parameters)
    watts = reference.chips * static_watts
    dynamic = 1e-3 * target.prefill_millijoules - watts * found.prefill.seconds_per_token
    seconds = found.generate.seconds_per_token
    generate = watts * seconds + dynamic
    missing = (1e-3 * target.generate_millijoules - generate) / seconds / reference.chips
    return EnergyTrial(static_watts, needed_scale(dynamic, reference, parameters), 1e3 * generate, missing)
