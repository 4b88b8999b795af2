"""The Brevitas quantizers: ternary absmean weights and calibrated power-of-two activations."""

from __future__ import annotations

import math
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.function_wrapper import Identity, RoundSte
from brevitas.core.restrict_val import PowerOfTwoRestrictValue
from brevitas.core.scaling import SCALAR_SHAPE, ParameterScaling
from brevitas.function.ops import max_int, min_int
from brevitas.inject.enum import RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.quant.base import NarrowIntQuant
from brevitas.quant.solver.act import ActQuantSolver
from brevitas.quant.solver.weight import WeightQuantSolver
from torch import Tensor, nn

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.fixedpoint.qformat import SIXTEENTHS, QFormat
from loihi_mmfree.quantize.clipping import BINS, covered_magnitude, least_squares_format, magnitude_histogram
from loihi_mmfree.quantize.config import FINE, SiteSetting

# Upstream clamps the mean magnitude of a weight matrix to this (mmfreelm/ops/fusedbitnet.py, weight_quant).
SMALLEST_WEIGHT_SCALE = 1e-5
# Numbers of a weight matrix of which there are copies in float64 at the same time.
SUMMED_AT_ONCE = 1 << 22
# A site whose values all stay below this carries nothing; 2**-64 is far below every useful format.
SMALLEST_MAXIMUM = 2.0**-64
# Far above what any trained model sends; formats further apart have shifts that no register can do.
LARGEST_MAXIMUM = 2.0**32
# What two correct float models may differ by, as a share of a value, and of values that fall in another bin.
LAST_BITS = 1e-4
# A finer unit means nothing beside the epsilon of 1e-6 inside a norm, whose square root is 2**-10, and constants
# like that epsilon have to fit a register in units of its square.
FINEST_FRACTION = 22


def covering_format(bits: int, maximum: float, headroom_bits: int = 0) -> QFormat:
    """Return the finest format that holds a calibrated maximum with some bits to spare, within reason.

    A site which was zero throughout gets the format that holds 1.0: any format represents its zeros,
    and this one still represents values of ordinary size should they ever come.

    Parameters
    ----------
    bits : int
        Width in bits including the sign.
    maximum : float
        Largest magnitude seen, finite.
    headroom_bits : int
        The format holds 2**headroom_bits times the maximum.
    """
    if maximum < SMALLEST_MAXIMUM:
        maximum = 1.0
    covering = QFormat.covering(bits, math.ldexp(maximum, headroom_bits))
    return QFormat(bits, min(covering.frac, FINEST_FRACTION))


class AbsoluteMean(nn.Module):
    """Mean magnitude of a weight matrix, outside the graph of gradients: the ternary scale."""

    # Brevitas' injector needs a constructor with a plain argument list.
    def __init__(self) -> None:
        super().__init__()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the mean magnitude, a scalar; summed in float64, so that it depends on no thread count."""
        parts = weight.detach().flatten().split(SUMMED_AT_ONCE)
        sums = torch.stack([part.abs().sum(dtype=torch.float64) for part in parts])
        return (sums.sum() / weight.numel()).float()


class _StraightThrough(torch.autograd.Function):
    """Round and clamp a weight in units of 1 / steps; the gradient passes straight through both."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, steps: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
        return (weight * steps).round_().clamp_(smallest, largest).div_(steps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return gradients[0], None, None, None


class ReciprocalRounding(nn.Module):
    """Ternary weights as upstream makes them: round(w * (1 / scale)), clamped, divided by (1 / scale).

    Dividing by the scale instead gives another code or another last bit here and there.

    Source: matmulfreellm, mmfreelm/ops/fusedbitnet.py, `weight_quant`. It is called as Brevitas' `IntQuant` is.
    """

    def __init__(self, narrow_range: bool, signed: bool, input_view_impl: nn.Module) -> None:
        super().__init__()
        self.narrow_range = narrow_range
        self.signed = signed
        self.input_view_impl = input_view_impl

    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, weight: Tensor) -> Tensor:
        """Return the quantized weight: -s, 0 or s, with s = 1 / (1 / scale)."""
        smallest = min_int(self.signed, self.narrow_range, bit_width)
        largest = max_int(self.signed, self.narrow_range, bit_width)
        quantized: Tensor = _StraightThrough.apply(weight, 1.0 / scale, smallest, largest)
        return quantized


class TernaryWeight(NarrowIntQuant, WeightQuantSolver):
    """Ternary absmean weights: codes -1, 0, 1 and one scale, the mean magnitude of the matrix.

    A narrow 2-bit integer quantizer rather than Brevitas' ternary one, which masks gradients.
    """

    bit_width = 2
    int_quant = ReciprocalRounding
    scaling_impl_type = ScalingImplType.STATS
    scaling_stats_impl = AbsoluteMean
    scaling_stats_input_view_shape_impl = Identity
    scaling_min_val = SMALLEST_WEIGHT_SCALE
    scaling_per_output_type = ScalingPerOutputType.TENSOR
    restrict_scaling_type = RestrictValueType.FP


class _HalfUp(torch.autograd.Function):
    """Round half up, exact in floating point; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        # Adding 1/2 first would itself round: 0.49999997 + 0.5 is 1 in float32.
        floor = value.floor()
        return floor + (value - floor >= 0.5).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class RoundHalfUp(nn.Module):
    """Rule R4, round half up, as a Brevitas `float_to_int_impl`."""

    # Brevitas' injector needs a constructor with a plain argument list.
    def __init__(self) -> None:
        super().__init__()

    def forward(self, value: Tensor) -> Tensor:
        """Return floor(value + 1/2)."""
        return _HalfUp.apply(value)


class CalibratedScaling(ParameterScaling):
    """A learned power-of-two scale that starts from what calibration saw.

    It starts from the format that covers the largest magnitude, or a share of all, or from the one with the least
    squared error. Brevitas' own runtime statistics average the maxima of batches, clip a maximum at an exact power
    of two, and without calibration silently use 1. This one keeps the true maximum, covers it, and refuses.

    Parameters
    ----------
    site : str
        Name for messages.
    bit_width : int
        Width in bits including the sign.
    headroom_bits, method, percentile, zeros
        See `quantize.config.SiteSetting`.

    Attributes
    ----------
    threshold : int
        Values of smaller magnitude, in units of the format, become zero.
    """

    maximum: Tensor
    histogram: Tensor

    def __init__(
        self, site: str, bit_width: int, headroom_bits: int, method: str, percentile: float, zeros: float
    ) -> None:
        super().__init__(
            scaling_init=1.0,
            scaling_shape=SCALAR_SHAPE,
            restrict_scaling_impl=PowerOfTwoRestrictValue(RoundSte()),
        )
        self.site = site
        self.bits = bit_width
        self.headroom_bits = headroom_bits
        self.method, self.percentile, self.zeros = method, percentile, zeros
        self.threshold = 0
        self.register_buffer("maximum", torch.tensor(-math.inf))
        self.register_buffer("histogram", torch.zeros(BINS, dtype=torch.int64), persistent=False)
        self.calibrated = False
        # What a unit is more than the power of two that Brevitas quantizes to.
        self.sixteenths = SIXTEENTHS
        # Raised while it collects; `init_scale` is the end of that. Brevitas' calibration_mode knows both names.
        self.collect_stats_steps = 0

    def forward(self, value: Tensor, threshold: Tensor) -> Tensor:
        """Return the value of one unit."""
        if not self.calibrated:
            self._refuse()
        return super().forward(value, threshold)

    def init_scale(self) -> None:
        """End the calibration: take the format that suits what was seen. Nothing seen changes nothing."""
        self.collect_stats_steps = 0
        maximum = self.maximum.item()
        if -math.inf < maximum <= LARGEST_MAXIMUM:
            chosen = self.suiting_format(self.bits)
            self.set_format(chosen)
            self.threshold = self.suiting_threshold(chosen)

    def suiting_format(self, bits: int, off: float = 0.0) -> QFormat:
        """Return the format of a width, this one's or another, that suits what was seen; `off` by a share."""
        maximum = self.maximum.item() * (1 + off)
        if self.method == "percentile":
            maximum = min(maximum, covered_magnitude(self.histogram, self.percentile / 100 + off))
        covering = covering_format(bits, maximum, self.headroom_bits)
        if self.method in ("least_squares", FINE):
            return least_squares_format(self.histogram, covering, fine=self.method == FINE, lean=off)
        return covering

    def suiting_threshold(self, qformat: QFormat, off: float = 0.0) -> int:
        """Return the least integer of a format above what the share of zeros does not exceed; 0 without one."""
        if not self.zeros:
            return 0
        return 1 + math.floor(covered_magnitude(self.histogram, self.zeros + off) / qformat.scale)

    def is_close_call(self) -> bool:
        """Whether values that differ by `LAST_BITS` of themselves, or so many others, could choose otherwise."""
        chosen = self.suiting_format(self.bits)
        return any(
            self.suiting_format(self.bits, off) != chosen
            or self.suiting_threshold(chosen, off) != self.suiting_threshold(chosen)
            for off in (-LAST_BITS, LAST_BITS)
        )

    def set_format(self, qformat: QFormat) -> None:
        """Take a format of the same width instead of a calibration."""
        # The parameter is log2 of the value at which the range ends: 2**(bits - 1) units.
        nn.init.constant_(self.value, qformat.bits - 1 - qformat.frac)
        self.sixteenths = qformat.sixteenths
        self.calibrated = True

    def qformat(self) -> QFormat:
        """Return the format in use.

        Raises
        ------
        CheckpointError
            The calibration met values that are not finite or absurdly large.
        UsageError
            The quantizer was not calibrated.
        """
        if not self.calibrated:
            self._refuse()
        return QFormat(self.bits, self.bits - 1 - round(self.value.item()), self.sixteenths)

    def get_extra_state(self) -> Tensor:
        """Return what a state dict needs beyond the tensors."""
        return torch.tensor(self.sixteenths if self.calibrated else 0)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        self.calibrated, self.sixteenths = bool(state), int(state) or SIXTEENTHS

    def observe(self, value: Tensor) -> None:
        """Note the magnitudes of values."""
        lowest, highest = torch.aminmax(value)
        self.maximum = torch.maximum(self.maximum, torch.maximum(-lowest, highest).to(self.maximum.dtype))
        if self.method != "max" or self.zeros:
            self.histogram = self.histogram + magnitude_histogram(value)

    def _refuse(self) -> None:
        if self.maximum.item() == -math.inf:
            raise UsageError(f"{self.site}: the quantizer is not calibrated; run a calibration through it")
        raise CheckpointError(
            f"{self.site}: the calibration met a magnitude of {self.maximum.item():g}; only finite values "
            f"up to {LARGEST_MAXIMUM:g} can be quantized. Check the weights and norm gains that lead to this site"
        )


class PowerOfTwoActivation(NarrowIntQuant, ActQuantSolver):
    """Activations n * 2**-frac with |n| <= 2**(bits-1) - 1, rounded half up: exactly a `QFormat`."""

    float_to_int_impl = RoundHalfUp
    scaling_impl = CalibratedScaling
    scaling_per_output_type = ScalingPerOutputType.TENSOR
    restrict_scaling_type = RestrictValueType.POWER_OF_TWO


class ActivationQuantizer(qnn.QuantIdentity):
    """The quantizer of one named site.

    Parameters
    ----------
    site : str
        Name of the site, e.g. `layers.0.attn.state`.
    bits : int
        Width in bits including the sign.
    headroom_bits, method, percentile, zeros
        See `quantize.config.SiteSetting`.
    """

    def __init__(
        self,
        site: str,
        bits: int,
        headroom_bits: int = SiteSetting.headroom_bits,
        method: str = SiteSetting.method,
        percentile: float = SiteSetting.percentile,
        zeros: float = SiteSetting.zeros,
    ) -> None:
        super().__init__(
            act_quant=PowerOfTwoActivation,
            site=site,
            bit_width=bits,
            headroom_bits=headroom_bits,
            method=method,
            percentile=percentile,
            zeros=zeros,
        )
        self.site = site

    def forward(self, value: Tensor) -> Tensor:
        """Return the value on the grid of the format; what is below the threshold is zero, and has no gradient.

        While it is observing, note the value and return it as it is.
        """
        scaling = self.scaling
        if scaling.collect_stats_steps > 0:
            scaling.observe(value.detach())
            return value
        ratio = scaling.sixteenths / SIXTEENTHS
        result: Tensor = super().forward(value if ratio == 1 else value / ratio)
        if ratio != 1:
            result = result * ratio
        if not scaling.threshold:
            return result
        return torch.where(result.abs() >= scaling.threshold * scaling.qformat().scale, result, 0.0)

    @property
    def observing(self) -> bool:
        """Whether it notes what passes through it, and changes nothing."""
        return self.scaling.collect_stats_steps > 0

    @property
    def scaling(self) -> CalibratedScaling:
        """The module that holds the scale."""
        return self.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl


def ternary_linear(weight: Tensor) -> qnn.QuantLinear:
    """Return a Brevitas linear layer without bias with the given weight [out, in], quantized to ternary."""
    outputs, inputs = weight.shape
    layer = qnn.QuantLinear(inputs, outputs, bias=False, weight_quant=TernaryWeight)
    layer.weight.data = weight
    return layer


def ternary_codes(layer: qnn.QuantLinear) -> tuple[Tensor, float]:
    """Return the codes (int8 [out, in]) and the scale of a layer's quantized weight.

    Their product is the quantized weight, and upstream's, bit for bit.
    """
    codes, scale, _ = _quantized(layer)
    return codes, scale


def freeze_weight(layer: qnn.QuantLinear) -> tuple[Tensor, float]:
    """Put the quantized weight in the place of a layer's weight, which is not quantized again; for inference.

    Returns
    -------
    codes, scale
        As `ternary_codes`.
    """
    codes, scale, weight = _quantized(layer)
    layer.weight.data = weight
    layer.weight_quant.disable_quant = True
    return codes, scale


def _quantized(layer: qnn.QuantLinear) -> tuple[Tensor, float, Tensor]:
    """Codes, scale, and the quantized weight itself."""
    with torch.no_grad():
        weight = layer.quant_weight()
    value = weight.value
    return value.gt(0).to(torch.int8) - value.lt(0).to(torch.int8), (1.0 / (1.0 / weight.scale)).item(), value
