"""One small core for all networks of these tests: building it takes most of their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.rtl.build import CoreImage, build
from loihi_mmfree.rtl.parameters import CoreParameters, Size

SMALL = Size(weights_per_cycle=32, lanes=4)


def common(images: Sequence[CoreImage]) -> CoreParameters:
    """The least core that runs several networks."""
    first = images[0].parameters
    largest = {
        part: {
            name: max(asdict(getattr(each.parameters, part))[name] for each in images)
            for name in asdict(getattr(first, part))
        }
        for part in ("widths", "depths")
    }
    return replace(
        first,
        widths=type(first.widths)(**largest["widths"]),
        depths=type(first.depths)(**largest["depths"]),
    )


@dataclass(frozen=True)
class Networks:
    """Random networks, lowered, as images for one core; and how that is simulated.

    Parameters
    ----------
    images : dict
        By name: `small` fits a strip, `uneven` fills neither strips nor words, `split` has rows cut over relays.
    simulated : callable
        Opens a simulation of one of them.
    """

    images: dict[str, CoreImage]
    simulated: Callable[..., Any]

    def graph(self, name: str) -> Graph:
        return self.images[name].schedule.graph


@pytest.fixture(scope="session")
def networks(
    lowered: Any, make_checkpoint: Callable[..., Checkpoint], lower_checkpoint: Callable[..., Any]
) -> Networks:
    pytest.importorskip("amaranth")
    from loihi_mmfree.rtl.hardware.verilog import generate
    from loihi_mmfree.rtl.simulator.process import SimulatedCore
    from loihi_mmfree.rtl.simulator.toolchain import simulator

    uneven = make_checkpoint(vocab_size=41, hidden_size=44, num_hidden_layers=1, intermediate_size=72)
    cut = replace(LOIHI2, input_axons=replace(LOIHI2.input_axons, value=6))
    graphs = {
        "small": lowered.graph,
        "uneven": lower_checkpoint(uneven).graph,
        "split": run_passes(lowered.checkpoint, lowered.formats, cut),
    }
    images = {name: build(graph, SMALL) for name, graph in graphs.items()}
    parameters = common(list(images.values()))
    images = {name: replace(image, parameters=parameters) for name, image in images.items()}
    program = simulator(parameters, generate(parameters).text)

    @contextmanager
    def simulated(name: str, *rest: Any) -> Iterator[SimulatedCore]:
        core = SimulatedCore(program, images[name], *rest)
        try:
            yield core
        finally:
            core.close()

    return Networks(images, simulated)


@pytest.fixture
def ids() -> np.ndarray:
    """A prompt that every network here can read."""
    return np.random.default_rng(7).integers(32, size=6)
