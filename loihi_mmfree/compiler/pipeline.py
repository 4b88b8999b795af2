"""compile: from a checkpoint to net/, pass by pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint, expected_shapes, open_checkpoint
from loihi_mmfree.checkpoint.tensors import is_projection
from loihi_mmfree.compiler.advice import Advisor
from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.debugging import Debugging, PassObserver
from loihi_mmfree.compiler.golden import golden_messages
from loihi_mmfree.compiler.layers import activation_sites, layer_graph, sites
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.compiler.passes.drop_gate_norm import drop_gate_norm
from loihi_mmfree.compiler.passes.lower import lower
from loihi_mmfree.compiler.passes.merge_norms import merge_norms
from loihi_mmfree.compiler.passes.narrow_registers import narrow_registers
from loihi_mmfree.compiler.passes.share_statistics import share_statistics
from loihi_mmfree.compiler.trained import with_trained_formats
from loihi_mmfree.errors import DoesNotFitError, MismatchError
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import logits_output
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.loihi2.hardware import ChipSpec, load_system
from loihi_mmfree.memory import out_of_memory, require_memory, require_torch
from loihi_mmfree.net.artifact import Net, Placed, load_net, versions, write_net
from loihi_mmfree.net.folder import atomic_folder
from loihi_mmfree.place.layout import Request
from loihi_mmfree.place.lower_bound import require_room
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.place.placer import place
from loihi_mmfree.quantize.calibration import Calibration, calibrate
from loihi_mmfree.quantize.calibration_ids import calibration_ids
from loihi_mmfree.quantize.parameters import TernaryMatrix
from loihi_mmfree.text import tokenizer_json

Pass = Callable[[Graph], Graph]
Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it, and its total."""

LAYER_PASSES: tuple[Pass, ...] = (merge_norms, drop_gate_norm, share_statistics)
"""Rewrite the layer graph; none changes what it computes but for epsilons."""
MEMORY_ADVICE = "end other programs, or compile on a machine with more; running the network takes far less"
LEAST_COPIES = 3
"""Of the largest tensor, in float32, at the same time. Six were measured; a refusal must be certain."""


@dataclass(frozen=True)
class Compiled:
    """A compiled network in memory.

    Parameters
    ----------
    config : CompileConfig
        As it was carried out.
    graph : Graph
        Lowered, scheduled and proved to keep its bounds.
    placed : Placed
    calibration : Calibration
    golden_ids : int64 array [T]
    notices : tuple of str
        What the user should know.
    """

    config: CompileConfig
    graph: Graph
    placed: Placed
    calibration: Calibration
    golden_ids: NDArray[np.int64]
    notices: tuple[str, ...]


def compile_graph(
    checkpoint: Checkpoint,
    config: CompileConfig,
    calibration: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
    debugging: Debugging | None = None,
    device: str = "cpu",
) -> Compiled:
    """Calibrate, rewrite, lower and schedule, without touching the disk.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : CompileConfig
    calibration : int64 array [windows, tokens] or [tokens], optional
        Token ids to calibrate on; the default is the text that the package carries.
    progress : callable, optional
    debugging : Debugging, optional
    device : str
        Where the calibration computes.

    Raises
    ------
    UsageError
        The checkpoint was trained for other formats than those asked for.
    DoesNotFitError
        A bound of the arithmetic cannot be guaranteed, or the system is too small. Where the shape of the model
        says so already, nothing is calibrated.
    """
    chip = load_system(config.chip)
    require_room(checkpoint.config, chip, _request(config))
    report = progress or (lambda stage, done, total: None)
    notices = (*checkpoint.notices, *_ternary_notice(checkpoint))
    config, trained = with_trained_formats(config, checkpoint, calibration is not None)
    if calibration is None:
        default = calibration_ids(
            checkpoint.tokenizer_path, checkpoint.config.vocab_size, config.calibration_tokens
        )
        calibration = default.ids
        notices += (default.warning,) if default.warning else ()
    golden_ids = np.asarray(calibration, dtype=np.int64).reshape(-1)[: config.golden_tokens]
    observer = PassObserver(checkpoint, golden_ids, debugging or Debugging())
    step = partial(report, "calibrate")
    calibrated = trained or calibrate(checkpoint, calibration, config.quantization, step, device)
    formats = calibrated.formats
    lowered = partial(run_passes, checkpoint, thresholds=calibrated.thresholds, projections=calibrated.projections)
    graph = lowered(formats, chip, observer.see, partial(report, "passes"))
    advisor = Advisor(lowered, formats, chip, activation_sites(layer_graph(checkpoint.config)))
    placement = _fit(graph, config, advisor)
    return Compiled(config, graph, Placed(chip, placement), calibrated, golden_ids, notices)


def _ternary_notice(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What is to be said of weights that are ternary already: their scale is not what upstream would compute."""
    density = checkpoint.ternary_density()
    if not density or checkpoint.ternary_scale == "stored":
        return ()
    mean = sum(density.values()) / len(density)
    return (
        f"{len(density)} projections are stored ternary already. Their scale is taken as upstream computes it, "
        f"the mean magnitude, which is the stored one times the share of weights that are not zero (here "
        f"{mean:.2f}); `ternary_scale='stored'` keeps the stored one",
    )


def _request(config: CompileConfig) -> Request:
    """What is asked of the placement."""
    return Request(
        weight_bits=config.weight_bits,
        head=config.head,
        objective=config.objective,
        chips=config.chips or None,
        straddle=config.straddle,
    )


def _fit(graph: Graph, config: CompileConfig, advisor: Advisor) -> Placement:
    """Prove the bounds and place the neurons; what does not fit is said of both together."""
    refusals = []
    violations = bound_violations(graph)
    if violations:
        lines = "\n".join(f"  {violation}" for violation in violations)
        refusals.append(
            f"{len(violations)} bounds of the fixed-point arithmetic cannot be guaranteed:\n{lines}\n"
            f"{advisor.advise(violations)}"
        )
    try:
        placement = place(graph, graph.chip, _request(config))
    except DoesNotFitError as error:
        refusals.append(str(error))
    if refusals:
        raise DoesNotFitError("\n".join(refusals))
    return placement


def run_passes(
    checkpoint: Checkpoint,
    formats: Mapping[str, QFormat],
    chip: ChipSpec,
    observe: Callable[[str, Graph], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    thresholds: Mapping[str, int] | None = None,
    projections: Mapping[str, TernaryMatrix] | None = None,
) -> Graph:
    """Rewrite, lower and schedule a checkpoint under given formats.

    Parameters
    ----------
    checkpoint : Checkpoint
    formats : mapping site -> QFormat
        Of every quantizer that `compiler.layers.sites` names.
    chip : ChipSpec
        Its limits decide where rows of weights are split, registers declared narrower and long delays relayed.
    observe : callable, optional
        Called with the name of each pass and the graph it returned.
    progress : callable, optional
        Called with the number of passes done, and of all.
    thresholds : mapping site -> int, optional
        Inputs of projections that are smaller, in units of their format, are not sent.
    projections : mapping name -> TernaryMatrix, optional
        Weights that a calibration has quantized already.

    Raises
    ------
    MismatchError
        The formats are those of other sites.
    DoesNotFitError
        The chip is too narrow for any network of this shape.
    """
    lowering = partial(
        lower, checkpoint=checkpoint, formats=formats, chip=chip, thresholds=thresholds, projections=projections
    )
    passes: tuple[Pass, ...] = (*LAYER_PASSES, lowering, narrow_registers, balance_delays)
    graph = layer_graph(checkpoint.config)
    _check_sites(sites(graph), formats)
    if observe is not None:
        observe("layers", graph)
    for number, each in enumerate(passes, start=1):
        graph = each(graph)
        graph.check()
        if observe is not None:
            observe(_name(each), graph)
        if progress is not None:
            progress(number, len(passes))
    return graph


def _check_sites(expected: frozenset[str], formats: Mapping[str, QFormat]) -> None:
    """Raise MismatchError unless every quantizer has a format, and every format a quantizer."""
    missing, surplus = sorted(expected - formats.keys()), sorted(formats.keys() - expected)
    if missing or surplus:
        raise MismatchError(
            "the formats are not those of this network's quantizers: "
            f"missing {', '.join(missing) or 'none'}; surplus {', '.join(surplus) or 'none'}"
        )


def compile_checkpoint(
    source: str | Path,
    output: str | Path,
    config: CompileConfig | None = None,
    *,
    calibration: NDArray[np.int64] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    debugging: Debugging | None = None,
    device: str = "cpu",
) -> tuple[Net, tuple[str, ...]]:
    """Compile a checkpoint into a folder that appears whole or not at all.

    Parameters
    ----------
    source : str or Path
        Hugging Face folder, .safetensors, .pt, .ckpt or .bin file, or the id of a model on the hub.
    output : str or Path
        The folder to write.
    config : CompileConfig, optional
    calibration : int64 array, optional
        Token ids to calibrate on instead of the text that the package carries.
    force : bool
        Replace an existing network.
    progress : callable, optional
    debugging : Debugging, optional
    device : str
        Where the calibration computes.

    Returns
    -------
    net : Net
    notices : tuple of str
        What the user should know.
    """
    config = config or CompileConfig()
    target = Path(output)
    require_torch()
    with atomic_folder(target, force) as folder, out_of_memory(f"compile {source}", MEMORY_ADVICE):
        checkpoint = open_checkpoint(source, config.ternary_scale)
        require_memory(_memory_at_least(checkpoint), f"compile {source}", MEMORY_ADVICE)
        compiled = compile_graph(checkpoint, config, calibration, progress, debugging, device)
        manifest = _manifest(checkpoint, compiled)
        golden = golden_messages(compiled.graph, compiled.golden_ids)
        write_net(
            folder,
            compiled.graph,
            manifest,
            compiled.placed,
            compiled.config.to_toml(),
            golden,
            None if checkpoint.tokenizer_path is None else tokenizer_json(checkpoint.tokenizer_path),
        )
    return load_net(target, verify=False), compiled.notices


def _memory_at_least(checkpoint: Checkpoint) -> int:
    """Bytes that a compilation certainly holds at once: copies of a tensor, or the packed weights of all."""
    shapes = expected_shapes(checkpoint.config)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    packed = sum(size for name, size in sizes.items() if is_projection(name)) // 4
    return max(LEAST_COPIES * 4 * max(sizes.values()), packed)


def _manifest(checkpoint: Checkpoint, compiled: Compiled) -> dict[str, Any]:
    graph = compiled.graph
    formats = compiled.calibration.formats
    return {
        "versions": versions(),
        "checkpoint_sha256": checkpoint.sha256(),
        "model": asdict(checkpoint.config),
        "config": compiled.config.to_dict(),
        "formats": {site: each.to_list() for site, each in formats.items()},
        "thresholds": dict(compiled.calibration.thresholds),
        "logit_scale": logits_output(graph).scale,
        "depth_steps": depth(graph),
        "notices": list(compiled.notices),
    }


def _name(each: Pass) -> str:
    function = each.func if isinstance(each, partial) else each
    return function.__name__
