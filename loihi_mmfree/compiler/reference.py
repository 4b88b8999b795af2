"""The layer graph in real arithmetic: what passes must not change and integers approximate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler import layers
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.quantize.parameters import gate_lower_bounds, ternary_projection

Reals = NDArray[np.float64]


def evaluate_layers(graph: Graph, checkpoint: Checkpoint, ids: NDArray[np.int64]) -> dict[str, Reals]:
    """Evaluate a layer graph in float64, weights ternary, activations not quantized.

    Parameters
    ----------
    graph : Graph
        Of layer nodes, before or after any of the passes over layers.
    checkpoint : Checkpoint
    ids : int64 array [T]

    Returns
    -------
    dict node name -> float64 array [T, n]
        The value of every node; the node `logits` holds the logits.
    """
    bounds = gate_lower_bounds(checkpoint)
    values: dict[str, Reals] = {}
    for node in graph:
        arguments = [values[source.node] for source in node.inputs]
        values[node.name] = _evaluate(node, arguments, checkpoint, ids, bounds)
    return values


def _evaluate(
    node: Node, arguments: list[Reals], checkpoint: Checkpoint, ids: NDArray[np.int64], bounds: Reals
) -> Reals:
    match node:
        case layers.Embedding():
            return checkpoint.tensor(node.weight).double().numpy()[ids]
        case layers.Normalise():
            root = _inverse_rms(arguments[0] * _product(checkpoint, node.statistic_gains), node.epsilon)
            return arguments[0] * root * _product(checkpoint, node.gains)
        case layers.Statistic():
            return _inverse_rms(arguments[0] * _product(checkpoint, node.gains), node.epsilon)
        case layers.Scale():
            return arguments[0] * arguments[1] * _product(checkpoint, node.gains)
        case layers.Gain():
            return arguments[0] * _product(checkpoint, node.gains)
        case layers.Projection():
            codes, scale = ternary_projection(checkpoint, node.weight)
            rows = codes[node.first_row : node.first_row + node.size]
            return arguments[0] @ rows.T.astype(np.float64) * scale
        case layers.MlGru():
            bound = bounds[node.layer] if node.bounded else np.zeros(node.size)
            return _mlgru(arguments[0], arguments[1], bound)
        case layers.SwishGate():
            return arguments[1] * _silu(arguments[0])
        case layers.Glu():
            return _silu(arguments[0]) * arguments[1]
        case layers.Add():
            return arguments[0] + arguments[1]
        case layers.Logits():
            return arguments[0]
        case _:
            raise TypeError(f"{node.name}: {type(node).__name__} is not a layer node")


def _product(checkpoint: Checkpoint, names: tuple[str, ...]) -> Reals:
    product = np.ones(1)
    for name in names:
        product = product * checkpoint.tensor(name).double().numpy()
    return product


def _inverse_rms(x: Reals, epsilon: float) -> Reals:
    mean_square = np.mean(x * x, axis=1, keepdims=True) + epsilon
    # A token that is zero throughout stays zero.
    return 1.0 / np.sqrt(np.where(mean_square > 0, mean_square, 1.0))


def _sigmoid(x: Reals) -> Reals:
    return 1.0 / (1.0 + np.exp(-x))


def _silu(x: Reals) -> Reals:
    return x * _sigmoid(x)


def _mlgru(i: Reals, f: Reals, bound: Reals) -> Reals:
    forget = bound + (1.0 - bound) * _sigmoid(f)
    candidates = (1.0 - forget) * _silu(i)
    state, states = np.zeros(i.shape[1]), np.empty_like(i)
    for step, (keep, new) in enumerate(zip(forget, candidates, strict=True)):
        state = keep * state + new
        states[step] = state
    return states
