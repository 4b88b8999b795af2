"""The layer graph: the model as upstream defines it, before anything is quantized or lowered.

Nodes refer to the checkpoint's tensors by name; a gain is a tuple of names whose elementwise product is
meant. So the norm algebra is a rewriting of names, and no tensor is touched before the lowering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, ModelConfig
from loihi_mmfree.ir.graph import Graph, Node, Source


@dataclass(frozen=True)
class LayerNode(Node):
    """A node of the layer graph with one output of `size` elements.

    `site` names the quantizer of the output; None where the lowering gives it no format of its own.
    """

    size: int
    site: str | None = field(default=None, kw_only=True)

    @property
    def outputs(self) -> Mapping[str, int]:
        """One port, `out`."""
        return {"out": self.size}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """As many elements as it sends, on every input."""
        return (self.size,) * len(self.inputs)

    @property
    def sites(self) -> tuple[str, ...]:
        """The quantizers it needs a format of."""
        return (self.site,) if self.site else ()


@dataclass(frozen=True)
class Embedding(LayerNode):
    """Row of the embedding that belongs to the token."""

    weight: str


@dataclass(frozen=True)
class Normalise(LayerNode):
    """x * s / sqrt(mean((x * s)**2) + epsilon) * g, with s the statistic gains and g the gains.

    `statistic` names the norm whose statistic it is: its own name, until norms are merged. `squared` is the site
    of x * s; without it, x is squared in its own format. `port` is what the group of all scalings by one statistic
    calls this one.
    """

    statistic_gains: tuple[str, ...]
    gains: tuple[str, ...]
    epsilon: float
    statistic: str
    squared: str | None = field(default=None, kw_only=True)
    port: str = field(default="", kw_only=True)

    @property
    def sites(self) -> tuple[str, ...]:
        """Those of what it sends and of what it squares."""
        return tuple(site for site in (self.squared, self.site) if site)


@dataclass(frozen=True)
class Statistic(LayerNode):
    """1 / sqrt(mean((x * s)**2) + epsilon): one number for a token.

    `columns` is the width of x, `norm` the name of the norm, `squared` the site of x * s as for `Normalise`.
    """

    gains: tuple[str, ...]
    epsilon: float
    columns: int
    norm: str
    squared: str | None = field(default=None, kw_only=True)

    @property
    def sites(self) -> tuple[str, ...]:
        """That of what it squares."""
        return (self.squared,) if self.squared else ()

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The whole vector x."""
        return (self.columns,)


@dataclass(frozen=True)
class Scale(LayerNode):
    """x * statistic * g; inputs x and the statistic. `port` as for `Normalise`."""

    gains: tuple[str, ...]
    port: str = field(default="", kw_only=True)

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The vector x and one number."""
        return (self.size, 1)


@dataclass(frozen=True)
class Gain(LayerNode):
    """x * g."""

    gains: tuple[str, ...]


@dataclass(frozen=True)
class Projection(LayerNode):
    """Ternary projection: rows first_row .. first_row + size of a weight, times its absmean scale."""

    weight: str
    columns: int
    first_row: int = 0

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The row length."""
        return (self.columns,)


@dataclass(frozen=True)
class MlGru(LayerNode):
    """h' = f h + (1 - f) silu(i), with f = sigmoid(f) lifted to the layer's lower bound; inputs i and f."""

    layer: int
    bounded: bool


@dataclass(frozen=True)
class SwishGate(LayerNode):
    """g * silu(h); inputs h and g. `group` is the name of the neurons that compute it, and the MLGRU with it."""

    group: str


@dataclass(frozen=True)
class Glu(LayerNode):
    """silu(gate) * up; inputs gate and up. `group` is the name of the neurons that compute it."""

    group: str


@dataclass(frozen=True)
class Add(LayerNode):
    """x + delta: the residual stream; inputs x and delta."""


@dataclass(frozen=True)
class Logits(LayerNode):
    """What the host reads."""


def sites(graph: Graph) -> frozenset[str]:
    """Return every quantizer that a layer graph needs a format of; no pass changes them."""
    return frozenset(site for node in graph if isinstance(node, LayerNode) for site in node.sites)


def activation_sites(graph: Graph) -> frozenset[str]:
    """Return the quantizers at the inputs of projections, whose width `activation_bits` sets."""
    norms = {source.node for node in graph if isinstance(node, Projection) for source in node.inputs}
    return frozenset(
        node.site for node in graph if isinstance(node, LayerNode) and node.name in norms and node.site
    )


def layer_graph(config: ModelConfig) -> Graph:
    """Return the model as upstream computes it (mmfreelm/models/hgrn_bit, mmfreelm/layers/hgrn_bit.py).

    A BitLinear is spelt out as its norm and its ternary projection; the per-token int8 quantization between
    the two is left to the formats that calibration gives.
    """
    hidden = config.hidden_size
    nodes: list[Node] = [Embedding("embeddings", (), hidden, "model.embeddings.weight", site="embeddings")]
    stream = nodes[0].out()
    for layer in range(config.num_hidden_layers):
        block = _token_mixer(config, layer, stream)
        block += _channel_mixer(config, layer, block[-1].out())
        nodes += block
        stream = block[-1].out()
    final = _norm("norm", stream, hidden, "model.norm.weight", config.rms_norm_eps, squared="norm.statistic")
    head_weight = "model.embeddings.weight" if config.tie_word_embeddings else "lm_head.weight"
    head = _bit_linear("lm_head", final.out(), hidden, config.vocab_size, "lm_head", weight=head_weight)
    logits = Logits("logits", (head[-1].out(),), config.vocab_size)
    return Graph((*nodes, final, *head, logits), {})


def _norm(
    name: str,
    source: Source,
    size: int,
    gain: str,
    epsilon: float,
    squared: str | None = None,
    site: str | None = None,
    port: str = "",
) -> Normalise:
    return Normalise(
        name, (source,), size, (), (gain,), epsilon, statistic=name, squared=squared, site=site, port=port
    )


def _bit_linear(
    name: str,
    source: Source,
    columns: int,
    rows: int,
    tensor: str,
    weight: str | None = None,
    parts: tuple[str, ...] = ("",),
    sites: tuple[str | None, ...] = (None,),
) -> list[Node]:
    """Norm and projection of one BitLinear; `parts` splits the rows evenly into named projections."""
    norm = _norm(
        f"{name}.norm",
        source,
        columns,
        f"{tensor}.norm.weight",
        BIT_LINEAR_EPSILON,
        site=f"{name}.input",
        port=name.split(".")[-1],
    )
    size = rows // len(parts)
    projections = [
        Projection(
            f"{name}{part}",
            (norm.out(),),
            size,
            weight or f"{tensor}.weight",
            columns,
            first_row=number * size,
            site=site,
        )
        for number, (part, site) in enumerate(zip(parts, sites, strict=True))
    ]
    return [norm, *projections]


def _token_mixer(config: ModelConfig, layer: int, stream: Source) -> list[Node]:
    name, tensor = f"layers.{layer}", f"model.layers.{layer}"
    hidden, inner = config.hidden_size, config.input_dim
    norm = _norm(
        f"{name}.attn_norm",
        stream,
        hidden,
        f"{tensor}.attn_norm.weight",
        config.rms_norm_eps,
        squared=f"{name}.attn.statistic",
    )
    outputs = {part: f"{name}.attn.{part}_proj.output" for part in "ifg"}
    projections = {
        part: _bit_linear(
            f"{name}.attn.{part}_proj",
            norm.out(),
            hidden,
            inner,
            f"{tensor}.attn.{part}_proj",
            # That of g follows the gain behind it.
            sites=(None if part == "g" else outputs[part],),
        )
        for part in "ifg"
    }
    i, f, g = (projections[part][-1].out() for part in "ifg")
    bounded = config.use_lower_bound and layer > 0
    cell = MlGru(f"{name}.attn.state", (i, f), inner, layer, bounded, site=f"{name}.attn.state")
    gate_norm = _norm(
        f"{name}.attn.g_norm",
        g,
        inner,
        f"{tensor}.attn.g_norm.weight",
        config.rms_norm_eps,
        site=outputs["g"],
    )
    output = SwishGate(
        f"{name}.attn.output",
        (cell.out(), gate_norm.out()),
        inner,
        f"{name}.attn.mlgru",
        site=f"{name}.attn.output",
    )
    o_proj = _bit_linear(f"{name}.attn.o_proj", output.out(), inner, hidden, f"{tensor}.attn.o_proj")
    residual = Add(f"{name}.attn.residual", (stream, o_proj[-1].out()), hidden, site=f"{name}.attn.residual")
    inputs = [node for part in "ifg" for node in projections[part]]
    return [norm, *inputs, cell, gate_norm, output, *o_proj, residual]


def _channel_mixer(config: ModelConfig, layer: int, stream: Source) -> list[Node]:
    name, tensor = f"layers.{layer}", f"model.layers.{layer}"
    hidden, intermediate = config.hidden_size, config.intermediate_size
    norm = _norm(
        f"{name}.mlp_norm",
        stream,
        hidden,
        f"{tensor}.mlp_norm.weight",
        config.rms_norm_eps,
        squared=f"{name}.mlp.statistic",
    )
    gate_proj = _bit_linear(
        f"{name}.mlp.gate_proj",
        norm.out(),
        hidden,
        2 * intermediate,
        f"{tensor}.mlp.gate_proj",
        parts=(".gate", ".up"),
        sites=(f"{name}.mlp.gate_proj.gate", f"{name}.mlp.gate_proj.up"),
    )
    output = Glu(
        f"{name}.mlp.output",
        (gate_proj[1].out(), gate_proj[2].out()),
        intermediate,
        f"{name}.mlp.glu",
        site=f"{name}.mlp.output",
    )
    down_proj = _bit_linear(f"{name}.mlp.down_proj", output.out(), intermediate, hidden, f"{tensor}.mlp.down_proj")
    residual = Add(f"{name}.mlp.residual", (stream, down_proj[-1].out()), hidden, site=f"{name}.mlp.residual")
    return [norm, *gate_proj, output, *down_proj, residual]
