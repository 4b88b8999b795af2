"""docs/fixed-point.md is enough: the arithmetic written from that page alone gives the logits of the engine.

`Page` is the third way to read the specification, beside the neuron programs over NumPy and the compiled kernels:
one token after the other in plain integers, in the order of the page, whose sections the comments name. It imports
nothing of the package. What it is given is a checkpoint and the formats that calibration chose.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

import loihi_mmfree
from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


# Section 1: primitives.


def rsh(n: Integers, k: int) -> Integers:
    return (n + (1 << k - 1)) >> k if k else n


def shift(n: Integers, k: int) -> Integers:
    return rsh(n, k) if k >= 0 else n << -k


def lerp(w: Integers | int, a: Integers | int, c: Integers | int, k: int) -> Integers:
    return rsh(w * a + ((1 << k) - w) * c, k)


def exponent(n: int) -> int:
    e = n.bit_length() - 16
    return e + e % 2


def mantissa(n: int) -> int:
    e = exponent(n)
    return n << -e if e <= 0 else min((n + (1 << e - 1)) >> e, 2**16 - 1)


# Section 2: real parameters.


def half_up(values: Reals) -> Integers:
    floor = np.floor(values)
    return (floor + (values - floor >= 0.5)).astype(np.int64)


def multipliers(scales: Reals) -> tuple[Integers, int]:
    """M_n and the k that they share."""
    largest = float(np.abs(scales).max())
    assert 0 < largest < 2**15 - 0.5
    k = next(k for k in range(62, -1, -1) if math.floor(largest * 2.0**k + 0.5) < 2**15)
    return half_up(scales * 2.0**k), k


def ternary(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Codes and s."""
    mean = np.float32(np.abs(weight).sum(dtype=np.float64) / weight.size)
    c = np.float32(1) / max(mean, np.float32(1e-5))
    return np.clip(np.round(weight * c), -1, 1).astype(np.int8), float(np.float32(1) / c)


# Section 4: tables.

SIGMOID = half_up(2**15 / (1 + np.exp(-np.arange(257) / 16)))
ROOT = half_up(2**14 / np.sqrt((32 + np.arange(97)) / 128))


def sigmoid(x: Integers, frac: int) -> Integers:
    if frac < 4:
        x, frac = x << 4 - frac, 4
    m, segment = np.minimum(np.abs(x), 2 ** (frac + 4) - 1), frac - 4
    j, r = m >> segment, m & (1 << segment) - 1
    y = lerp(r, SIGMOID[j + 1], SIGMOID[j], segment)
    return np.where(x >= 0, y, 2**15 - y)


def swish(x: Integers, frac: int) -> Integers:
    """With frac + 4 fractional bits."""
    return rsh(x * sigmoid(x, frac), 11)


class Accumulators(NamedTuple):
    """What a ternary projection delivers, and the real value of one unit."""

    sums: Integers
    unit: float

    def requantized(self, frac: int, gain: Reals | float = 1.0) -> Integers:
        m, k = multipliers(np.atleast_1d(gain * (self.unit * 2.0**frac)))
        return rsh(self.sums * m, k)


class Page:
    """A model of a checkpoint in integers, with empty states at first."""

    def __init__(self, checkpoint: Path, formats: Mapping[str, list[int]], thresholds: Mapping[str, int]) -> None:
        config = json.loads((checkpoint / "config.json").read_text())
        stored = load_file(checkpoint / "model.safetensors")
        self.tensors = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
        self.layers, self.bounded = config["num_hidden_layers"], config.get("use_lower_bound", True)
        self.head = "model.embeddings.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
        self.formats = {site: (bits, frac) for site, (bits, frac, *_) in formats.items()}
        self.units = {site: m / 16 for site, (_, _, *given) in formats.items() for m in given or [16]}
        self.thresholds = thresholds
        self.codes = {
            name: ternary(self.tensors[name])
            for name in {self.head, *(name for name in self.tensors if name.endswith("_proj.weight"))}
        }
        table = self.tensors["model.embeddings.weight"].astype(np.float64)
        self.table = half_up(table * 2.0 ** formats["embeddings"][1])
        self.states: dict[int, Integers | int] = dict.fromkeys(range(self.layers), 0)
        self.saturations = 0

    def sat(self, n: Integers, bits: int) -> Integers:
        limit = 2 ** (bits - 1) - 1
        self.saturations += int(np.count_nonzero(np.abs(n) > limit))
        return np.clip(n, -limit, limit)

    def gain(self, name: str) -> Reals:
        return self.tensors[f"{name}.weight"].astype(np.float64)

    def logits(self, token: int) -> Integers:
        """Accumulators of the head for one more token."""
        x, site = self.table[token], "embeddings"
        for layer in range(self.layers):
            x, site = self.token_mixer(layer, x, site)
            x, site = self.channel_mixer(layer, x, site)
        (a,) = self.norm(x, site, ("lm_head",), merged="model.norm", statistic="norm.statistic")
        return self.projection(a, "lm_head", self.head).sums

    # Section 6.

    def norm(
        self,
        x: Integers,
        site: str,
        readers: tuple[str, ...],
        merged: str | None = None,
        statistic: str = "",
        epsilon: float = 0.0,
    ) -> list[Integers]:
        """The inputs of the projections that read a norm of x; `merged` is the norm in front of theirs, if any."""
        n, (b, frac) = len(x), self.formats[site]
        half = min(15, math.floor(math.log2((2**23 - 1) / n + 1)))
        bits, square_frac = self.formats[statistic if merged else site]
        square_frac -= max(bits - (half + 1), 0)
        outer = self.gain(merged) if merged else np.ones(n)
        if merged:
            m, k = multipliers(outer * 2.0 ** (square_frac - frac))
            u = rsh(x * m, k)
        else:
            u = rsh(x, max(b - 1 - half, 0))
        q = self.sat(u, half + 1) ** 2
        high, low = int((q >> half).sum()), int((q & (1 << half) - 1).sum())
        y, e = root((high << half) + low + math.floor(epsilon * n * 4.0**square_frac + 0.5))
        found = []
        for reader in readers:
            name = reader if reader == "lm_head" else f"model.{reader}"
            m, k = multipliers(outer * self.gain(f"{name}.norm") * (math.sqrt(n) / self.units[f"{reader}.input"]))
            bits, input_frac = self.formats[f"{reader}.input"]
            total = k + 22 + frac - input_frac - square_frac
            s = min(max(b + 15 - 21, 0), total - 7)
            a = self.sat(rsh(shift(x * m, s) * y, total - 7 - s + e), bits)
            found.append(np.where(np.abs(a) < self.thresholds.get(f"{reader}.input", 0), 0, a))
        return found

    # Section 5.

    def projection(self, a: Integers, site: str, weight: str, rows: slice = slice(None)) -> Accumulators:
        codes, s = self.codes[weight]
        unit = s * self.units[f"{site}.input"] * 2.0 ** -self.formats[f"{site}.input"][1]
        return Accumulators(codes[rows].astype(np.int64) @ a, unit)

    # Section 7.

    def token_mixer(self, layer: int, x: Integers, site: str) -> tuple[Integers, str]:
        name = f"layers.{layer}.attn"
        readers = tuple(f"{name}.{part}_proj" for part in "ifg")
        inputs = self.norm(x, site, readers, f"model.layers.{layer}.attn_norm", f"{name}.statistic")
        a_i, a_f, a_g = (
            self.projection(a, reader, f"model.{reader}.weight") for a, reader in zip(inputs, readers, strict=True)
        )
        (b_i, f_i), (b_f, f_f), (b_g, f_g) = (self.formats[f"{reader}.output"] for reader in readers)
        (b_h, f_h), (b_y, f_y) = self.formats[f"{name}.state"], self.formats[f"{name}.output"]
        i = self.sat(a_i.requantized(f_i), b_i)
        forget = sigmoid(self.sat(a_f.requantized(f_f), b_f), f_f)
        if self.bounded and layer > 0:
            forget = lerp(self.lower_bound(layer), 2**15, forget, 15)
        s = self.sat(shift(swish(i, f_i), f_i + 4 - f_h), b_h)
        h = self.states[layer] = lerp(forget, self.states[layer], s, 15)
        g = self.sat(a_g.requantized(f_g, self.gain(f"model.{name}.g_norm")), b_g)
        y = self.sat(shift(g * swish(h, f_h), f_g + f_h + 4 - f_y), b_y)
        (a,) = self.norm(y, f"{name}.output", (f"{name}.o_proj",))
        return self.residual(x, site, a, f"{name}.o_proj", f"{name}.residual")

    def lower_bound(self, layer: int) -> Integers:
        powers = np.exp(self.tensors["model.lower_bounds"].astype(np.float64))
        shares = powers / powers.sum(axis=0)
        return np.clip(half_up((shares.cumsum(axis=0)[layer] - shares[0]) * 2**15), 0, 2**15)

    # Section 8.

    def channel_mixer(self, layer: int, x: Integers, site: str) -> tuple[Integers, str]:
        name = f"layers.{layer}.mlp"
        reader = f"{name}.gate_proj"
        weight = f"model.{reader}.weight"
        (a,) = self.norm(x, site, (reader,), f"model.layers.{layer}.mlp_norm", f"{name}.statistic")
        width = len(self.tensors[weight]) // 2
        (b_gate, f_gate), (b_up, f_up) = self.formats[f"{reader}.gate"], self.formats[f"{reader}.up"]
        b_z, f_z = self.formats[f"{name}.output"]
        gate = self.sat(self.projection(a, reader, weight, slice(width)).requantized(f_gate), b_gate)
        up = self.sat(self.projection(a, reader, weight, slice(width, None)).requantized(f_up), b_up)
        z = self.sat(shift(up * swish(gate, f_gate), f_up + f_gate + 4 - f_z), b_z)
        (a,) = self.norm(z, f"{name}.output", (f"{name}.down_proj",), epsilon=1e-6)
        return self.residual(x, site, a, f"{name}.down_proj", f"{name}.residual")

    def residual(self, x: Integers, site: str, a: Integers, reader: str, after: str) -> tuple[Integers, str]:
        bits, frac = self.formats[after]
        change = self.projection(a, reader, f"model.{reader}.weight").requantized(frac)
        return self.sat(shift(x, self.formats[site][1] - frac) + change, bits), after


def root(total: int) -> tuple[int, int]:
    """1 / sqrt(total) as mantissa and exponent."""
    if total == 0:
        return 0, 0
    p = max(mantissa(total), 2**14)
    j, r = (p >> 9) - 32, p & 2**9 - 1
    return int(lerp(r, int(ROOT[j + 1]), int(ROOT[j]), 9)), exponent(total) // 2 + 7


# Below this line the package is imported: the page beside the engine.


def _assert_page_gives_the_logits_of(net: Net, checkpoint: Path, ids: Iterable[int]) -> Page:
    page = Page(checkpoint, net.manifest["formats"], net.manifest["thresholds"])
    logits = np.stack([page.logits(token) for token in ids])
    run = loihi_mmfree.run(net, list(ids), 0, backend="engine")
    assert hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest() == run.logits_sha256
    assert page.saturations == run.saturations
    return page


def test_the_page_gives_the_logits_of_mmf_tiny(tiny_net: Net, tiny_checkpoint: Path) -> None:
    _assert_page_gives_the_logits_of(tiny_net, tiny_checkpoint, range(100, 112))


def test_the_page_gives_the_logits_of_mmf_demo(demo_net: Net, demo_checkpoint: Path) -> None:
    _assert_page_gives_the_logits_of(demo_net, demo_checkpoint, range(100, 108))


def test_the_page_holds_for_other_widths_and_shapes(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    """Widths that all differ, thresholds, units between powers of two, a tied head, no lower bounds, and so on."""
    large = {f"model.layers.0.attn.{part}_proj.norm.weight": np.full(16, 40, np.float32) for part in "if"}
    checkpoint = make_checkpoint(
        large, expand_ratio=2, tie_word_embeddings=True, use_lower_bound=False, rms_norm_eps=1e-2
    )
    widths = QuantizationConfig(
        activation_bits=8,
        residual_bits=18,
        preactivation_bits=10,
        state_bits=16,
        product_bits=20,
        headroom_bits=0,
        sites=(
            SiteRule("layers.*.attn.*.input", zeros=0.3),
            SiteRule("layers.1.mlp.*.input", bits=7),
            SiteRule("*.input", method="fine_least_squares"),
        ),
    )
    net, _ = compile_checkpoint(
        checkpoint.path, tmp_path / "net", CompileConfig(quantization=widths), calibration=np.arange(4)
    )
    page = _assert_page_gives_the_logits_of(net, checkpoint.path, range(32))
    assert page.formats["layers.0.attn.f_proj.output"][1] < 4
    assert page.saturations > 0
    between = {site for site, unit in page.units.items() if unit != 1}
    assert between & {"layers.1.mlp.gate_proj.input", "lm_head.input"}
    assert all(site.endswith(".input") for site in between)
