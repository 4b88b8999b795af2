"""Fit the time and energy model to the published system; print the parameters, the residual and the sensitivity.

    python benchmarks/fit_loihi2_model.py            # from the workload the package carries, a second
    python benchmarks/fit_loihi2_model.py --count    # count that workload anew first, a minute

The workload is that of the published system as this package would place it: the 370M with 8-bit weights and
activations, a block on each of 24 chips, the head on the host, zeros at the inputs of projections as published.
It needs no checkpoint: what is counted depends on shapes and programs, so the weights are all ones.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

import loihi_mmfree
from loihi_mmfree.activity.counts import with_zeros
from loihi_mmfree.checkpoint import Checkpoint, ModelConfig
from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS
from loihi_mmfree.checkpoint.tensors import expected_shapes
from loihi_mmfree.compiler.layers import activation_sites, layer_graph, sites
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.cost.fit import FITTED, REFERENCE_FILE, fit, published_target, reference_workload
from loihi_mmfree.cost.model import barrier_seconds, core_seconds, predict, stage_seconds
from loihi_mmfree.cost.parameters import ModelParameters, load_parameters
from loihi_mmfree.cost.published import load_published
from loihi_mmfree.cost.sensitivity import fitted_ranges, sensitivity
from loihi_mmfree.cost.workload import CoreLoad, StepLoad, Workload, count_workload
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.place.placer import Request, place

PUBLISHED_CHIPS = 24
REFERENCE = Path(loihi_mmfree.__file__).parent / "data" / REFERENCE_FILE


@dataclass(frozen=True)
class OnesCheckpoint:
    """A checkpoint of a model's shape that holds ones and takes no memory."""

    config: ModelConfig

    def tensor(self, name: str) -> torch.Tensor:
        """Return the tensor of a name."""
        return torch.ones(1).expand(expected_shapes(self.config)[name])


def plain_formats(layers: Graph) -> dict[str, QFormat]:
    """Return 8 bits at the inputs of projections, 16 elsewhere; binary points that suit ones."""
    narrow = activation_sites(layers)
    return {site: QFormat(8, 5) if site in narrow else QFormat(16, 10) for site in sites(layers)}


def shape_graph(config: ModelConfig) -> Graph:
    """Return the lowered graph of a model's shape."""
    formats = plain_formats(layer_graph(config))
    return run_passes(cast(Checkpoint, OnesCheckpoint(config)), formats, LOIHI2)


def count_reference() -> Workload:
    graph = shape_graph(PUBLISHED_CONFIGS["370M"])
    placement = place(graph, LOIHI2, Request(weight_bits=8))
    if placement.chips_used != PUBLISHED_CHIPS:
        raise SystemExit(
            f"the published system has {PUBLISHED_CHIPS} chips, this placement {placement.chips_used}"
        )
    activity = replace(
        with_zeros(graph, load_published().zeros), origin="published shares of zeros, 370M at 8 bit"
    )
    return count_workload(graph, placement, activity, LOIHI2)


def in_sequence(workload: Workload, parameters: ModelParameters) -> Workload:
    """Return a workload whose cores take the sum of their stages: all of it as time in the synapses."""
    scale = parameters.core_time_scale.si * parameters.synaptic_operation_time.si

    def step(each: StepLoad) -> StepLoad:
        longest = max((sum(stage_seconds(core, parameters).values()) for core in each.cores), default=0.0)
        return replace(each, cores=(CoreLoad(synaptic_operations=longest / scale),))

    return replace(
        workload, pipelined=step(workload.pipelined), steps=tuple(step(each) for each in workload.steps)
    )


def residual(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.1f} tokens/s, {tokens_per_s / published_target().generate_tokens_per_s - 1:+.1%}"


def fitted_generate(workload: Workload, parameters: ModelParameters) -> float:
    return predict(workload, fit(workload, parameters)).generate.tokens_per_s


def slowest_seconds(step: StepLoad, parameters: ModelParameters) -> float:
    return max((core_seconds(core, parameters) for core in step.cores), default=0.0)


def with_barrier_in_maximum(workload: Workload, parameters: ModelParameters) -> float:
    """Return tokens/s if a step lasts as long as its slowest core or the barrier, whichever is longer."""
    scale = 1 / (published_target().prefill_tokens_per_s * slowest_seconds(workload.pipelined, parameters))
    barrier = barrier_seconds(workload.chips, parameters)
    return 1 / sum(max(scale * slowest_seconds(step, parameters), barrier) for step in workload.steps)


def with_loss_in_messages(workload: Workload, parameters: ModelParameters) -> float:
    """Return tokens/s if what several chips cost is a time for each message between chips, added to its step."""
    single, whole = barrier_seconds(1, parameters), 1 / published_target().prefill_tokens_per_s
    loss = barrier_seconds(workload.chips, parameters) - single
    scale = (whole - loss - single) / slowest_seconds(workload.pipelined, parameters)
    message = loss / workload.pipelined.chip_messages
    cores = scale * sum(slowest_seconds(step, parameters) for step in workload.steps)
    return 1 / (
        cores + message * sum(step.chip_messages for step in workload.steps) + single * len(workload.steps)
    )


def print_residuals(workload: Workload, parameters: ModelParameters) -> None:
    """Print the prediction that is not fitted, of the model and of other forms of it."""
    forms = {
        "the model": fitted_generate(workload, parameters),
        "the barrier one of the stages, not on top of them": with_barrier_in_maximum(workload, parameters),
        "stages of a core one after another": fitted_generate(in_sequence(workload, parameters), parameters),
        "the cost of several chips a factor": fitted_generate(
            workload, parameters.with_values(barrier_multi_chip=0.0)
        ),
        "the cost of several chips a time for each message between them": with_loss_in_messages(
            workload, parameters
        ),
    }
    print(f"\ngenerate, predicted, not fitted; published {published_target().generate_tokens_per_s} tokens/s")
    print("| form | predicted, residual |\n|---|---|")
    for form, tokens_per_s in forms.items():
        print(f"| {form} | {residual(tokens_per_s)} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the time and energy model to the published system.")
    parser.add_argument("--count", action="store_true", help="count the workload anew and replace the package's")
    if parser.parse_args().count:
        REFERENCE.write_text(json.dumps(count_reference().to_dict(), indent=1) + "\n")
    workload, shipped = reference_workload(), load_parameters()
    parameters = fit(workload, shipped)
    ranges = fitted_ranges(workload, shipped)
    print("| fitted parameter | value | low | high | unit | shipped |\n|---|---|---|---|---|---|")
    for name in FITTED:
        each, (low, high) = parameters.named()[name], ranges[name]
        was = shipped.named()[name].value
        print(f"| {name} | {each.value:.6g} | {low:.4g} | {high:.4g} | {each.unit} | {was:.6g} |")
    print_residuals(workload, shipped)
    print("| parameter | low | high | generate tokens/s at low | at high |\n|---|---|---|---|---|")
    for row in sensitivity(workload, shipped, workload):
        ends = " | ".join(
            "no fit" if end is None else f"{end.generate.tokens_per_s:.1f}" for end in (row.low, row.high)
        )
        print(f"| {row.name} | {row.low_value:g} {row.unit} | {row.high_value:g} {row.unit} | {ends} |")


if __name__ == "__main__":
    main()
