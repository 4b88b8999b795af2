"""The quantized model in exact arithmetic gives, in float64, every integer that the compiled network sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.exact.model import ExactModel
from loihi_mmfree.compiler.pipeline import compile_graph
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import logits_output, token_input
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.blocks import load_model, quantizers, set_formats
from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule

IDS = np.random.default_rng(0).integers(0, 32, 40)


def exact_model(
    checkpoint: Checkpoint,
    formats: Mapping[str, QFormat],
    config: QuantizationConfig,
    thresholds: Mapping[str, int] | None = None,
) -> ExactModel:
    model = load_model(checkpoint, config)
    set_formats(model, formats, thresholds)
    return ExactModel(model).eval()


def sites_of(model: ExactModel, ids: np.ndarray) -> tuple[dict[str, np.ndarray], Tensor]:
    """The integers that leave each site's quantizer, [T, n], and the logits."""
    found: dict[str, list[Tensor]] = {}
    hooks = [
        quantizer.register_forward_hook(
            lambda module, _, output: found.setdefault(module.site, []).append(
                output / module.scaling.qformat().scale
            )
        )
        for quantizer in quantizers(model)
    ]
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None])[0]
    for hook in hooks:
        hook.remove()
    # The state's quantizer sees the candidates of all tokens, then one state after the other.
    integers = {
        site: (torch.stack(values[1:], dim=1) if site.endswith(".state") else values[0])[0].numpy()
        for site, values in found.items()
    }
    return integers, logits


def messages_of(graph: Graph, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Everything that the network's nodes send, by source, and states by group."""
    tokens = token_input(graph)
    inner = tuple(node for node in graph if node is not tokens)
    sent: dict[str, np.ndarray] = {}
    executor = Executor(graph, inner, strict=True)
    rows = graph.tensors[tokens.table][ids]
    executor.run({tokens.out(): rows}, tap=lambda source, values: sent.update({str(source): values}))
    assert executor.counters.overflows == 0
    return sent


def source_of(site: str) -> str | None:
    """The message that a site's values are sent as; None where they stay within a neuron."""
    parts = site.split(".")
    if site == "embeddings":
        return "embeddings:out"
    if site == "lm_head.input":
        return "norm.scale:lm_head"
    if parts[-1] == "input":
        half, projection = ".".join(parts[:3]), parts[3]
        if projection in ("o_proj", "down_proj"):
            return f"{half}.{projection}.norm.scale:{projection}"
        norm = "attn_norm" if parts[2] == "attn" else "mlp_norm"
        return f"layers.{parts[1]}.{norm}.scale:{projection}"
    if parts[-1] == "residual":
        return f"{site}:out"
    if parts[-1] == "output" and len(parts) == 4:
        return ".".join(parts[:3]) + (".mlgru:out" if parts[2] == "attn" else ".glu:out")
    return None


def assert_every_site_is_the_engines(model: ExactModel, graph: Graph, ids: np.ndarray) -> set[str]:
    integers, logits = sites_of(model, ids)
    sent = messages_of(graph, ids)
    compared = set()
    for site, values in integers.items():
        source = source_of(site)
        if source is not None:
            np.testing.assert_array_equal(values, sent[source], err_msg=site)
            compared.add(site)
    end = logits_output(graph)
    np.testing.assert_array_equal(logits.numpy() / end.scale, sent[str(end.inputs[0])])
    return compared


def test_every_site_of_mmf_tiny(tiny_net: Net, tiny_checkpoint: object) -> None:
    formats = {site: QFormat(bits, frac) for site, (bits, frac) in tiny_net.manifest["formats"].items()}
    model = exact_model(open_checkpoint(tiny_checkpoint), formats, QuantizationConfig())
    compared = assert_every_site_is_the_engines(model, tiny_net.graph, np.arange(100, 148))
    # Embedding, head, and of each of four blocks six inputs, two residuals and two outputs.
    assert len(compared) == 2 + 4 * 10


@pytest.mark.parametrize("bits", [6, 8, 12, 16])
def test_any_width_of_activations(make_checkpoint: Callable[..., Checkpoint], bits: int) -> None:
    checkpoint = make_checkpoint()
    config = CompileConfig(quantization=QuantizationConfig(activation_bits=bits))
    compiled = compile_graph(checkpoint, config, np.arange(128) % 32)
    model = exact_model(checkpoint, compiled.calibration.formats, config.quantization)
    assert_every_site_is_the_engines(model, compiled.graph, IDS)


def test_units_between_powers_of_two(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    rule = SiteRule("*.input", method="fine_least_squares")
    config = CompileConfig(quantization=QuantizationConfig(activation_bits=6, sites=(rule,)))
    compiled = compile_graph(checkpoint, config, np.arange(128) % 32)
    assert {each.sixteenths for each in compiled.calibration.formats.values()} - {16}
    model = exact_model(checkpoint, compiled.calibration.formats, config.quantization)
    assert_every_site_is_the_engines(model, compiled.graph, IDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_lower_bound": False},
        {"tie_word_embeddings": True},
        {"num_heads": 2, "expand_ratio": 2},
        {"hidden_size": 300, "num_hidden_layers": 1},
    ],
    ids=str,
)
def test_any_shape(make_checkpoint: Callable[..., Checkpoint], changes: Mapping[str, object]) -> None:
    checkpoint = make_checkpoint(**changes)
    compiled = compile_graph(checkpoint, CompileConfig(), np.arange(128) % 32)
    model = exact_model(checkpoint, compiled.calibration.formats, QuantizationConfig())
    assert_every_site_is_the_engines(model, compiled.graph, IDS)


def test_what_is_below_a_threshold_is_zero(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    config = QuantizationConfig(sites=(SiteRule("*.input", zeros=0.4),))
    compiled = compile_graph(checkpoint, CompileConfig(quantization=config), np.arange(128) % 32)
    model = exact_model(checkpoint, compiled.calibration.formats, config, compiled.calibration.thresholds)
    assert_every_site_is_the_engines(model, compiled.graph, IDS)


def test_gradients_are_those_of_the_model_without_rounding(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    compiled = compile_graph(checkpoint, CompileConfig(), np.arange(128) % 32)
    model = exact_model(checkpoint, compiled.calibration.formats, QuantizationConfig())
    ids = torch.from_numpy(IDS[:12])[None]
    gradients: list[dict[str, Tensor]] = []
    for each in (model, model.model):
        model.zero_grad()
        torch.nn.functional.cross_entropy(each(ids)[0, :-1], ids[0, 1:]).backward()
        learned = {name: each for name, each in model.named_parameters() if "_quant." not in name}
        gradients.append({name: each.grad.clone() for name, each in learned.items()})
    exact, fake = gradients
    assert set(exact) == set(fake)
    for name, gradient in exact.items():
        assert gradient.abs().max() > 0, name
        alike = torch.nn.functional.cosine_similarity(gradient.flatten(), fake[name].flatten(), dim=0)
        assert alike > 0.95, (name, alike)
