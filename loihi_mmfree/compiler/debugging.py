"""What a developer of passes asks of a compilation: the graph after each, written and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.golden import golden_messages
from loihi_mmfree.compiler.reference import evaluate_layers
from loihi_mmfree.errors import MismatchError, UsageError
from loihi_mmfree.files import require_writable, write_whole
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import TokenIn, logits_output
from loihi_mmfree.ir.serialize import graph_to_data

LARGEST_LAYER_CHANGE = 1e-2
"""Relative change of the logits that dropping epsilons may make when a compilation verifies its passes."""


@dataclass(frozen=True)
class Debugging:
    """What a developer may ask of a compilation.

    Parameters
    ----------
    dump_ir : Path, optional
        Folder that receives the graph after every pass.
    verify : bool
        Run the golden input after every pass and compare.
    """

    dump_ir: Path | None = None
    verify: bool = False


class PassObserver:
    """Writes and checks the graph after every pass, as a developer asked.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : int64 array [T]
        The golden input.
    debugging : Debugging

    Raises
    ------
    UsageError
        The folder cannot be written.
    """

    def __init__(self, checkpoint: Checkpoint, ids: NDArray[np.int64], debugging: Debugging) -> None:
        self.checkpoint, self.ids, self.debugging = checkpoint, ids, debugging
        self.seen = 0
        self.real_logits: NDArray[np.float64] | None = None
        self.integer_logits: NDArray[np.int32] | None = None
        if debugging.dump_ir is not None:
            try:
                debugging.dump_ir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"`dump_ir` {debugging.dump_ir}: cannot write there: {error.strerror}") from error
            require_writable(debugging.dump_ir, "`dump_ir`")

    def see(self, name: str, graph: Graph) -> None:
        """Take note of the graph that a pass returned."""
        if self.debugging.dump_ir is not None:
            path = self.debugging.dump_ir / f"{self.seen:02d}_{name}.json"
            write_whole(path, (json.dumps(graph_to_data(graph), indent=1) + "\n").encode(), "`dump_ir`")
        self.seen += 1
        if not self.debugging.verify:
            return
        if any(isinstance(node, TokenIn) for node in graph):
            self._compare_integers(name, graph)
        else:
            self._compare_reals(name, graph)

    def _compare_reals(self, name: str, graph: Graph) -> None:
        logits = evaluate_layers(graph, self.checkpoint, self.ids)["logits"]
        if self.real_logits is None:
            self.real_logits = logits
        change = float(np.linalg.norm(logits - self.real_logits) / np.linalg.norm(self.real_logits))
        if change > LARGEST_LAYER_CHANGE:
            raise MismatchError(
                f"pass {name}: the logits of the golden input changed by {change:.2e} (relative norm), "
                f"allowed {LARGEST_LAYER_CHANGE:.0e}"
            )

    def _compare_integers(self, name: str, graph: Graph) -> None:
        (source,) = logits_output(graph).inputs
        logits = golden_messages(graph, self.ids)[str(source)]
        if self.integer_logits is None:
            self.integer_logits = logits
        differing = int(np.count_nonzero(logits != self.integer_logits))
        if differing:
            raise MismatchError(f"pass {name}: {differing} integer logits of the golden input changed")
