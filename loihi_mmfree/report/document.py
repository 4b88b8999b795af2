"""The report as data: every number with unit and provenance. docs/reports.md describes the JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import Activity, projection_zeros, worst_case
from loihi_mmfree.activity.file import HISTOGRAM_RECORDING, load_activity
from loihi_mmfree.cost.comparison import ComparisonRow, comparison
from loihi_mmfree.cost.core_cycles import CoreCycles, core_cycles
from loihi_mmfree.cost.expectation import placed_on, provenance
from loihi_mmfree.cost.fit import fit, published_target, reference_workload
from loihi_mmfree.cost.model import PHASES, Phase, Prediction, Session, predict, session
from loihi_mmfree.cost.on_chip import on_chip_activity
from loihi_mmfree.cost.parameters import PARAMETERS_FILE, ModelParameters, load_parameters
from loihi_mmfree.cost.published import Published, load_published
from loihi_mmfree.cost.quantity import Quantity
from loihi_mmfree.cost.sensitivity import Sensitivity, sensitivity
from loihi_mmfree.cost.sweep import SweepRow, sweep
from loihi_mmfree.cost.validation import Validation, measured_energies, validations
from loihi_mmfree.cost.workload import Workload, count_workload
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.net.folder import ACTIVITY, REPORT
from loihi_mmfree.place.traffic import Traffic, traffic

SCHEMA_VERSION = 1
MEASUREMENT_METHOD = "modelled"
NOT_MODELLED = (
    "the host: embedding, sampling, the head where it is not on chip, and the way between host and chips",
    "congestion in the mesh beyond the busiest link, and links between chips, whose speed is not public",
    "measured costs of Loihi 2's operations: those of Loihi 1 were scaled, and the scale fitted to one system",
    "how energy divides into static and dynamic: totals are tied to published ones, the division to nothing",
    "placement, program length and number of steps of the published system, which are not public",
    "supply losses, temperature, voltage and the spread between chips",
)


@dataclass(frozen=True)
class Report:
    """What a network is expected to do on Loihi 2.

    Parameters
    ----------
    about : mapping
        What the network is and where it is placed.
    activity : Activity
    recorded : bool
        Whether the activity was recorded by a run; otherwise it is the worst case.
    zeros : mapping kind of projection -> share of zeros at its input
    per_token : mapping {"messages", "synaptic_operations", "saturations"} -> array [T]
        How many each token caused on the chip; empty if no activity was recorded.
    traffic : Traffic
        Of the placement and this activity, over links and chips.
    workload : Workload
    parameters : ModelParameters
    prediction : Prediction
    other_prediction : Prediction
        With energies as they were measured of another network, see `validation.measured_energies`.
    sessions : tuple of Session
    comparison : tuple of ComparisonRow
    sensitivity : tuple of Sensitivity
    sweep : tuple of SweepRow
        Empty unless asked for.
    cores : tuple of CoreCycles
        The same network as hardware in RTL.
    published : Published
    residual : Quantity
        Of the throughput that the model predicts for the published system, relative to the published one.
    validations : tuple of Validation
        The model held against networks of others.
    """

    about: Mapping[str, Any]
    activity: Activity
    recorded: bool
    zeros: Mapping[str, float]
    per_token: Mapping[str, NDArray[Any]]
    traffic: Traffic
    workload: Workload
    parameters: ModelParameters
    prediction: Prediction
    other_prediction: Prediction
    sessions: tuple[Session, ...]
    comparison: tuple[ComparisonRow, ...]
    sensitivity: tuple[Sensitivity, ...]
    sweep: tuple[SweepRow, ...]
    cores: tuple[CoreCycles, ...]
    published: Published
    residual: Quantity
    validations: tuple[Validation, ...]

    @property
    def inputs(self) -> dict[str, Any]:
        """What every modelled number of this report was made from."""
        return _inputs(self.about, self.activity, self.recorded)

    @property
    def sweep_left_out(self) -> list[str]:
        """What a sweep could not show of this network, and what would let it; empty without a sweep."""
        if not self.sweep or self.activity.histograms:
            return []
        return [
            "Left out of the variations: narrower activations, which are counted from how large the recorded "
            f"values are. {HISTOGRAM_RECORDING} records that too."
        ]

    def quantity(self, phase: str, attribute: str, unit: str) -> Quantity:
        """Return a result of a phase, with its range among its inputs.

        The range is over the uncertain parameters, and of an energy also over both calibrations.
        """
        value = getattr(getattr(self.prediction, phase), attribute)
        ends = [end for row in self.sensitivity for end in (row.low, row.high) if end is not None]
        values = [value, *(getattr(getattr(end, phase), attribute) for end in (*ends, self.other_prediction))]
        return Quantity(value, unit, "modelled", {**self.inputs, "range": [min(values), max(values)]})

    def other_energy(self, phase: str) -> Quantity:
        """Return the millijoules a token takes in a phase with energies as measured of another network."""
        value = getattr(self.other_prediction, phase).millijoules_per_token
        return Quantity(value, "mJ", "modelled", {**self.inputs, "energies": "as measured of PilotNet LIF"})

    def board_energy(self, phase: str) -> Quantity | None:
        """Return the millijoules a token takes in a phase with all chips of the board; None if none is meant."""
        if self.workload.board_chips is None:
            return None
        result: Phase = getattr(self.prediction, phase)
        static = self.parameters.static_power.si * self.workload.board_chips * result.seconds_per_token
        return self._modelled(1e3 * (static + result.dynamic_joules), "mJ")

    def spread(self, what: str) -> dict[str, Quantity]:
        """Return the least, the median and the greatest number of `per_token`, in that order."""
        values = self.per_token[what]
        inputs = {**self._counted, "counted": "in simulation, without what the host computes"}
        ends = {"least": values.min(), "median": np.median(values), "greatest": values.max()}
        unit = what.replace("_", " ")
        return {name: Quantity(float(each), unit, "measured", inputs) for name, each in ends.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "measurement_method": MEASUREMENT_METHOD,
            **self.about,
            "activity": self._activity(),
            **{phase: self._phase(phase) for phase in PHASES},
            "static_power_baseline_watts": self._modelled(
                self.parameters.static_power.si * self.workload.chips, "W"
            ).to_dict(),
            "sessions": [self._session(each) for each in self.sessions],
            "comparison": [row.to_dict() for row in self.comparison],
            "sensitivity": [row.to_dict(self.inputs) for row in self.sensitivity],
            "sweep": {
                "source": "modelled",
                "rows": [self._sweep_row(row) for row in self.sweep],
                "left_out": self.sweep_left_out,
            },
            "rtl": [row.to_dict() for row in self.cores],
            "model": {
                "parameters": {name: dataclasses.asdict(p) for name, p in self.parameters.named().items()},
                "residual_generate_tokens_per_s": self.residual.to_dict(),
                "validation": [row for each in self.validations for row in _validation_rows(each)],
                "not_modelled": list(NOT_MODELLED),
            },
        }

    def _modelled(self, value: float, unit: str) -> Quantity:
        return Quantity(value, unit, "modelled", self.inputs)

    def _sweep_row(self, row: SweepRow) -> dict[str, Any]:
        placed = placed_on(row.cores, row.chips, self.about["system_name"])
        return row.to_dict({**self.inputs, "placement": placed})

    @property
    def _counted(self) -> dict[str, Any]:
        return {"activity": self.activity.origin, "tokens": self.activity.tokens}

    def _activity(self) -> dict[str, Any]:
        cited = {"citation": self.published.zeros_citation}
        source = "measured" if self.recorded else "modelled"
        return {
            "source": "recorded" if self.recorded else "worst case",
            "origin": self.activity.origin,
            "ids_sha256": self.activity.ids_sha256 or None,
            "tokens": self.activity.tokens,
            "saturations": sum(self.activity.saturations.values()),
            "overflows": sum(self.activity.overflows.values()),
            "by_token": f"{REPORT}/{ACTIVITY}" if self.recorded else None,
            "per_token": {
                what: {name: each.to_dict() for name, each in self.spread(what).items()} for what in self.per_token
            },
            "zeros": {
                kind: {
                    "this_network": Quantity(share, "1", source, self._counted).to_dict(),
                    "published_370m": Quantity(self.published.zeros[kind], "1", "published", cited).to_dict()
                    if kind in self.published.zeros
                    else None,
                }
                for kind, share in self.zeros.items()
            },
        }

    def _phase(self, phase: str) -> dict[str, Any]:
        result: Phase = getattr(self.prediction, phase)
        found = {
            "tokens_per_s": self.quantity(phase, "tokens_per_s", "tokens/s"),
            "millijoules_per_token": self.quantity(phase, "millijoules_per_token", "mJ"),
            "other_millijoules_per_token": self.other_energy(phase),
            "watts": self.quantity(phase, "watts", "W"),
            "latency_seconds_per_token": self._modelled(result.seconds_per_token, "s"),
            "static_joules_per_token": self._modelled(result.static_joules, "J"),
            "dynamic_joules_per_token": self._modelled(result.dynamic_joules, "J"),
        }
        if (board := self.board_energy(phase)) is not None:
            found["board_millijoules_per_token"] = board
        shares = {what: self._modelled(share, "1").to_dict() for what, share in result.shares.items()}
        return {**{name: each.to_dict() for name, each in found.items()}, "time_shares": shares}

    def _session(self, each: Session) -> dict[str, Any]:
        named = {
            "latency_seconds": (each.seconds, "s"),
            "total_energy_joules": (each.joules, "J"),
            "static_energy_joules": (each.static_joules, "J"),
            "dynamic_energy_joules": (each.dynamic_joules, "J"),
            "energy_per_token_joules": (each.joules_per_token, "J"),
            "energy_per_output_token_joules": (each.joules_per_output_token, "J"),
            "board_total_energy_joules": (each.board_joules, "J"),
        }
        quantities = {
            name: self._modelled(value, unit).to_dict()
            for name, (value, unit) in named.items()
            if value is not None
        }
        return {"prompt_tokens": each.prompt_tokens, "new_tokens": each.new_tokens, **quantities}


def build_report(net: Net, *, with_sweep: bool = False) -> Report:
    """Make the report of a compiled network, from its placement and the activity recorded for it.

    Parameters
    ----------
    net : Net
    with_sweep : bool
        Also place and count its variations; takes some times as long.
    """
    placed, graph = net.placed, net.graph
    system, placement = placed.chip, placed.placement
    recorded = load_activity(net.path, graph)
    activity = recorded or worst_case(graph)
    moved = traffic(graph, system, placement, activity.rates)
    workload = count_workload(graph, placement, activity, system, moved)
    parameters, published, reference = load_parameters(), load_published(), reference_workload()
    about = _about(net, workload)
    inputs = _inputs(about, activity, recorded is not None)
    predicted = predict(reference, fit(reference, parameters)).generate.tokens_per_s
    stated = published_target().generate_tokens_per_s
    return Report(
        about=about,
        activity=activity,
        recorded=recorded is not None,
        zeros=projection_zeros(graph, activity),
        per_token=on_chip_activity(graph, placement, activity),
        traffic=moved,
        workload=workload,
        parameters=parameters,
        prediction=predict(workload, parameters),
        other_prediction=predict(workload, measured_energies(parameters)),
        sessions=tuple(session(workload, parameters, tokens, tokens) for tokens in published.tokens),
        comparison=comparison(workload, parameters, published, inputs),
        sensitivity=sensitivity(workload, parameters, reference),
        sweep=sweep(graph, placement, system, activity, parameters) if with_sweep else (),
        cores=core_cycles(graph),
        published=published,
        residual=_residual(predicted, stated, published.citation),
        validations=validations(parameters),
    )


def _residual(predicted: float, published: float, citation: str) -> Quantity:
    inputs = {
        "predicted": predicted,
        "published": published,
        "unit": "tokens/s",
        "parameters": f"{PARAMETERS_FILE}, fitted anew",
        "citation": citation,
    }
    return Quantity(predicted / published - 1, "1", "modelled", inputs)


def _about(net: Net, workload: Workload) -> dict[str, Any]:
    placed, config = net.placed, net.manifest["config"]
    return {
        "net": net.path.resolve().name,
        "checkpoint_sha256": net.manifest["checkpoint_sha256"],
        "system_name": placed.chip.name,
        "chips_used": workload.chips,
        "board_chips": workload.board_chips,
        "cores_used": workload.cores,
        "steps_per_token": len(workload.steps),
        "weight_bits": placed.placement.weight_bits,
        "activation_bits": config["quantization"]["activation_bits"],
        "head": placed.placement.head,
    }


def _inputs(about: Mapping[str, Any], activity: Activity, recorded: bool) -> dict[str, Any]:
    placed = placed_on(about["cores_used"], about["chips_used"], about["system_name"])
    return {**provenance(activity, recorded, placed), "parameters": PARAMETERS_FILE}


def _validation_rows(validation: Validation) -> list[dict[str, Any]]:
    cited = {"citation": validation.network.source}
    modelled = {**cited, "parameters": PARAMETERS_FILE, "workload": "counts of events of the same citation"}
    return [
        {
            "network": validation.network.title,
            "quantity": each.quantity,
            "measured": Quantity(each.measured, each.unit, "published", cited).to_dict(),
            "modelled": Quantity(each.modelled, each.unit, "modelled", modelled).to_dict(),
            "residual": Quantity(each.residual, "1", "modelled", modelled).to_dict(),
        }
        for each in validation.quantities
    ]
