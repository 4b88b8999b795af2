"""Float parameters become integers: norm gains, lower bounds, the embedding table, ternary weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint, cumulative_lower_bounds
from loihi_mmfree.fixedpoint.qformat import QFormat

# Lower bounds and forget gates lie in 0 to 1; one is 2**15.
GATE_FRACTION_BITS = 15


@dataclass(frozen=True)
class EmbeddingTable:
    """The embedding in fixed point.

    Parameters
    ----------
    values : int32 array [V, H]
    saturated : int
        Number of entries that the format could not hold and that were clamped to its ends.
    """

    values: NDArray[np.int32]
    saturated: int


@dataclass(frozen=True)
class TernaryMatrix:
    """A projection's weight.

    Parameters
    ----------
    packed : uint8 array [out, ceil(in / 4)]
        The codes, as `fixedpoint.ternary.pack_ternary` lays them.
    scale : float
    """

    packed: NDArray[np.uint8]
    scale: float


def lower_bounds(checkpoint: Checkpoint) -> NDArray[np.int32]:
    """Return the lower bounds of the forget gates in units of 2**-15: int32 [L, H'], 0 to 32768.

    The first layer's are zero, and all are where the model has no lower bounds.
    """
    bounds = _round_half_up(gate_lower_bounds(checkpoint), GATE_FRACTION_BITS)
    # The cumulated sum may end a rounding error outside 0 to 1.
    return np.clip(bounds, 0, 1 << GATE_FRACTION_BITS).astype(np.int32)


def gate_lower_bounds(checkpoint: Checkpoint) -> NDArray[np.float64]:
    """Return the lower bounds of the forget gates as float64 [L, H'], zero where the model has none."""
    config = checkpoint.config
    if not config.use_lower_bound:
        return np.zeros((config.num_hidden_layers, config.input_dim))
    return cumulative_lower_bounds(checkpoint.tensor("model.lower_bounds").double()).numpy()


def embedding_table(checkpoint: Checkpoint, qformat: QFormat) -> EmbeddingTable:
    """Return the embedding rounded half up to a format, clamped where the format is too small.

    A calibration chooses a format that holds the whole table, so that nothing saturates.
    """
    # float32 to the nearest integer of at most 24 bits is exact in float64, a row at a time in memory.
    rows = checkpoint.tensor("model.embeddings.weight").numpy()
    values = np.empty(rows.shape, dtype=np.int32)
    saturated = 0
    for row, result in zip(rows, values, strict=True):
        integers = _round_half_up(row.astype(np.float64), qformat.frac)
        saturated += int(np.count_nonzero(np.abs(integers) > qformat.max_int))
        result[:] = np.clip(integers, -qformat.max_int, qformat.max_int)
    return EmbeddingTable(values, saturated)


def ternary_projection(checkpoint: Checkpoint, name: str) -> tuple[NDArray[np.int8], float]:
    """Return a projection's codes, int8 [out, in] of -1, 0 and 1, and its scale.

    Parameters
    ----------
    checkpoint : Checkpoint
    name : str
        Upstream's name of the weight, e.g. `model.layers.0.attn.i_proj.weight`.
    """
    from loihi_mmfree.quantize.quantizers import ternary_codes, ternary_linear

    codes, scale = ternary_codes(ternary_linear(checkpoint.tensor(name)))
    return codes.numpy(), scale


def _round_half_up(values: NDArray[np.float64], frac: int) -> NDArray[np.float64]:
    """Return floor(values * 2**frac + 1/2), exactly: adding 1/2 in floating point would itself round."""
    scaled = np.ldexp(values, frac)
    floor = np.floor(scaled)
    return floor + (scaled - floor >= 0.5)
