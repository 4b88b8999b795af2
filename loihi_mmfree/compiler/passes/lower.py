"""From layers to synapses and neuron groups: every real parameter becomes an integer here."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler import layers, programs
from loihi_mmfree.compiler.passes.relay import relay
from loihi_mmfree.compiler.passes.split_rows import (
    largest_sum,
    longest_row,
    row_parts,
    slices,
    sums_are_relayed,
)
from loihi_mmfree.compiler.programs import Accumulator
from loihi_mmfree.errors import UnsupportedModelError
from loihi_mmfree.fixedpoint import tables
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import MULTIPLIER_BITS, Requantizer, fit_multipliers
from loihi_mmfree.fixedpoint.ternary import CODES_PER_BYTE, nonzero_counts, pack_ternary
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.synapses import Broadcast, SumSynapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.quantize.parameters import TernaryMatrix, embedding_table, lower_bounds, ternary_projection

TABLES = {programs.SIGMOID: "tables.sigmoid", programs.RSQRT: "tables.rsqrt"}


def lower(
    graph: Graph,
    checkpoint: Checkpoint,
    formats: Mapping[str, QFormat],
    chip: ChipSpec,
    thresholds: Mapping[str, int] | None = None,
    projections: Mapping[str, TernaryMatrix] | None = None,
) -> Graph:
    """Lower a layer graph whose norms share their statistics.

    Parameters
    ----------
    graph : Graph
        Of the nodes of `compiler.layers`, after the norm algebra.
    checkpoint : Checkpoint
        Tensors are read from it one at a time.
    formats : mapping site -> QFormat
    chip : ChipSpec
        Rows of weights that exceed its accumulators or axons are split.
    thresholds : mapping site -> int, optional
        Inputs of projections that are smaller, in units of their format, are not sent.
    projections : mapping name -> TernaryMatrix, optional
        Weights that are quantized already; all others are read from the checkpoint.

    Raises
    ------
    UnsupportedModelError
        A scale or gain cannot be written as M * 2**-k.
    """
    lowering = _Lowering(graph, checkpoint, formats, chip)
    lowering.thresholds, lowering.projections = thresholds or {}, dict(projections or {})
    for node in graph:
        lowering.add(node)
    return Graph(tuple(lowering.nodes), lowering.tensors, chip)


class _Lowering:
    """The lowered nodes and tensors so far, and where each layer node's value is to be found."""

    def __init__(
        self, graph: Graph, checkpoint: Checkpoint, formats: Mapping[str, QFormat], chip: ChipSpec
    ) -> None:
        self.graph, self.checkpoint, self.formats, self.chip = graph, checkpoint, formats, chip
        self.nodes: list[Node] = []
        self.tensors: dict[str, np.ndarray] = {
            TABLES[programs.SIGMOID]: tables.sigmoid_table(),
            TABLES[programs.RSQRT]: tables.rsqrt_table(),
        }
        self.values: dict[Source, Source] = {}
        self.scales: dict[str, float] = {}
        self.packed: dict[Source, NDArray[np.uint8]] = {}
        self.projections: dict[str, TernaryMatrix] = {}
        self.largest_sums: dict[Source, int] = {}
        self.lower_bounds: NDArray[np.int32] | None = None
        self.thresholds: Mapping[str, int] = {}

    def add(self, node: Node) -> None:
        """Lower one layer node."""
        match node:
            case layers.Embedding():
                self._embedding(node)
            case layers.Statistic():
                self._statistic(node)
            case layers.Scale():
                self._scale(node)
            case layers.Projection():
                self._projection(node)
            case layers.SwishGate():
                self._mlgru(node)
            case layers.Glu():
                self._glu(node)
            case layers.Add():
                self._residual(node)
            case layers.Logits():
                self._logits(node)
            case layers.MlGru() | layers.Gain():
                pass  # part of the group that the swish gate behind it becomes
            case _:
                raise TypeError(f"{node.name}: {type(node).__name__} must be rewritten before lowering")

    # -- the value stream ---------------------------------------------------------------------

    def _embedding(self, node: layers.Embedding) -> None:
        value = self._format(node)
        table = embedding_table(self.checkpoint, value).values
        self.tensors["tokens.table"] = table.astype(np.int16) if value.bits <= 16 else table
        self.nodes.append(TokenIn("tokens", (), node.size, "tokens.table"))
        squares, gain_shift, constants = self._gained_squares(node, value)
        program = programs.embedding_program(value, squares, gain_shift)
        self._group(node, node.name, Role.EMBEDDING, program, [Source("tokens")], constants, {"out": value})

    def _residual(self, node: layers.Add) -> None:
        stream, delta = node.inputs
        before, after = self._format_of(stream), self._format(node)
        requantizer = self._requantizer(delta, after)
        squares, gain_shift, constants = self._gained_squares(node, after)
        sources, (accumulator,) = self._accumulators(delta=delta)
        program = programs.residual_program(
            before, after, requantizer, squares, gain_shift, self.chip, accumulator
        )
        inputs = [self.values[stream], *sources]
        self._group(node, node.name, Role.RESIDUAL, program, inputs, constants, {"out": after})

    def _mlgru(self, node: layers.SwishGate) -> None:
        cell, gain = (self.graph.by_name[source.node] for source in node.inputs)
        if not isinstance(cell, layers.MlGru) or not isinstance(gain, layers.Gain):
            raise TypeError(f"{node.name}: a swish gate is lowered with an MLGRU and a plain gain before it")
        i, f, g = (*cell.inputs, gain.inputs[0])
        gate = self._format(gain)
        gate_scales = self._gains(gain.gains) * (self._accumulator_scale(g) / gate.scale)
        multipliers, gate_shift = self._multipliers(gain.name, gate_scales, self._multiplier_bits(g))
        constants = {"gate": multipliers}
        if cell.bounded:
            constants["lower_bound"] = self._lower_bound(cell.layer)
        input_format, forget_format = self._format_of(i), self._format_of(f)
        sources, (i_sum, f_sum, g_sum) = self._accumulators(i=i, f=f, g=g)
        formats = programs.MlGruFormats(
            input=input_format,
            forget=forget_format,
            gate=gate,
            state=self._format(cell),
            output=self._format(node),
            input_requantizer=self._requantizer(i, input_format),
            forget_requantizer=self._requantizer(f, forget_format),
            gate_shift=gate_shift,
            accumulators=(i_sum, f_sum, g_sum),
        )
        program = programs.mlgru_program(formats, cell.bounded, self._squares(node, formats.output), self.chip)
        kept = {"out": formats.output, "h": formats.state}
        self._group(node, node.group, Role.ML_GRU, program, sources, constants, kept)

    def _glu(self, node: layers.Glu) -> None:
        gate, up = node.inputs
        gate_format, up_format = self._format_of(gate), self._format_of(up)
        sources, (gate_sum, up_sum) = self._accumulators(gate=gate, up=up)
        formats = programs.GluFormats(
            gate=gate_format,
            up=up_format,
            output=self._format(node),
            gate_requantizer=self._requantizer(gate, gate_format),
            up_requantizer=self._requantizer(up, up_format),
            accumulators=(gate_sum, up_sum),
        )
        program = programs.glu_program(formats, self._squares(node, formats.output), self.chip)
        self._group(node, node.group, Role.GLU, program, sources, {}, {"out": formats.output})

    # -- norms ----------------------------------------------------------------------------------

    def _statistic(self, node: layers.Statistic) -> None:
        squares = programs.square_half_bits(node.columns, self.chip)
        frac = self._square_format(node.inputs[0]).frac
        epsilon = math.floor(node.epsilon * node.columns * 4.0**frac + 0.5)
        sums = [self._sums(node, part) for part in ("high", "low")]
        program = programs.rms_program(squares, epsilon, self.chip, parts=len(sums[0]))
        self._group(node, node.name, Role.RMS_NORM, program, [*sums[0], *sums[1]], {}, {}, size=1)
        for part in ("mantissa", "exponent"):
            source = Source(node.name, part)
            self.nodes.append(Broadcast(f"{node.name}.{part}", (source,), node.columns))

    def _sums(self, node: layers.Statistic, part: str) -> list[Source]:
        """The sum over the high or the low parts of all squares; in slices if both are too many for a neuron."""
        source = Source(self.values[node.inputs[0]].node, f"square_{part}")
        name, longest = f"{node.name}.sum_{part}", longest_row(self.chip)
        if not sums_are_relayed(node.columns, self.chip):
            self.nodes.append(SumSynapse(name, (source,), node.columns))
            return [Source(name)]
        whole = node.columns * ((1 << programs.square_half_bits(node.columns, self.chip)) - 1)
        parts = max(-(-node.columns // longest), -(-whole // largest_sum(self.chip, sent_on=True)))
        made = []
        for number, columns in enumerate(slices(node.columns, parts)):
            key = f"tables.ones_{len(columns)}"
            self.tensors[key] = pack_ternary(np.ones((1, len(columns)), dtype=np.int8))
            shape = 1, len(columns), key, columns.start, node.columns
            synapse = TernarySynapse(f"{name}.part_{number}", (source,), *shape)
            made.append(self._end(synapse, relayed=True))
        return made

    def _scale(self, node: layers.Scale) -> None:
        """One group for all scalings of one norm; the first one met makes it."""
        value, statistic = node.inputs
        norm = self.graph.by_name[statistic.node]
        if not isinstance(norm, layers.Statistic):
            raise TypeError(f"{node.name}: a scaling follows a statistic, found {type(norm).__name__}")
        name = f"{norm.norm}.scale"
        siblings = [each for each in self.graph.consumers[statistic] if isinstance(each, layers.Scale)]
        if node is not siblings[0]:
            return
        x, sum_frac = self._format_of(value), self._square_format(value).frac
        ports, constants, formats = [], {}, {}
        for sibling in siblings:
            port = sibling.port
            formats[port] = self._format(sibling)
            gains = self._gains(sibling.gains) * (math.sqrt(sibling.size) / formats[port].ratio)
            constants[f"gain_{port}"], gain_frac = self._multipliers(sibling.name, gains)
            least = self.thresholds.get(sibling.site or "", 0)
            ports.append(programs.ScaledPort(port, formats[port], gain_frac, sum_frac, least))
        program = programs.scale_program(x, tuple(ports), self.chip)
        root = (Source(f"{statistic.node}.{part}") for part in ("mantissa", "exponent"))
        self._group(node, name, Role.SCALE, program, [self.values[value], *root], constants, formats)
        for sibling, each in zip(siblings, ports, strict=True):
            self.values[sibling.out()] = Source(name, each.name)

    def _statistic_of(self, node: Node) -> layers.Statistic:
        for reader in self.graph.readers(node):
            if isinstance(reader, layers.Statistic):
                return reader
        raise TypeError(f"{node.name}: the norms that read it must be rewritten before lowering")

    def _gained_squares(
        self, node: layers.LayerNode, value: QFormat
    ) -> tuple[programs.Squares, int, dict[str, NDArray[np.int32]]]:
        """How a residual's squares are sent: times the gain of the norm that reads them."""
        statistic = self._statistic_of(node)
        half_bits = programs.square_half_bits(statistic.columns, self.chip)
        square = self._square_format(node.out())
        gains = self._gains(statistic.gains) * 2.0 ** (square.frac - value.frac)
        multipliers, shift = self._multipliers(statistic.name, gains)
        return programs.Squares(half_bits, 0), shift, {"statistic_gain": multipliers}

    def _squares(self, node: layers.LayerNode, value: QFormat) -> programs.Squares:
        half_bits = programs.square_half_bits(self._statistic_of(node).columns, self.chip)
        return programs.Squares(half_bits, max(0, value.bits - 1 - half_bits))

    def _square_format(self, source: Source) -> QFormat:
        """Format of what is squared: the value's, or the gained value's, cut to half_bits + 1 bits."""
        statistic = self._statistic_of(self.graph.by_name[source.node])
        full = self.formats[statistic.squared] if statistic.squared else self._format_of(source)
        bits = min(full.bits, programs.square_half_bits(statistic.columns, self.chip) + 1)
        return QFormat(bits, full.frac - (full.bits - bits))

    # -- synapses and parameters --------------------------------------------------------------

    def _projection(self, node: layers.Projection) -> None:
        """Take the packed weights; the group that reads the projection makes its synapses."""
        if node.weight not in self.projections:
            codes, scale = ternary_projection(self.checkpoint, node.weight)
            self.projections[node.weight] = TernaryMatrix(pack_ternary(codes), scale)
        weight = self.projections[node.weight]
        packed = self.packed[node.out()] = weight.packed[node.first_row : node.first_row + node.size]
        self.scales[node.name] = weight.scale
        longest = int(nonzero_counts(packed).sum(axis=1, dtype=np.int64).max())
        self.largest_sums[node.out()] = longest * self._input_format(node.out()).max_int

    def _accumulators(self, **projections: Source) -> tuple[list[Source], list[Accumulator]]:
        """Make the synapses that end at one group, in the order of its accumulators.

        If the rows of one are split, or are too long together, all go through relays, so that their sums
        still meet in one time step.
        """
        parts = {name: self._parts(source) for name, source in projections.items()}
        columns = {
            self.values[each.inputs[0]]: each.columns for each in map(self._projection_of, projections.values())
        }
        relayed = max(parts.values()) > 1 or sum(columns.values()) > longest_row(self.chip)
        if relayed:
            parts = {name: self._parts(source, sent_on=True) for name, source in projections.items()}
        sources = [
            part for name, source in projections.items() for part in self._synapses(source, parts[name], relayed)
        ]
        return sources, [Accumulator(name, each) for name, each in parts.items()]

    def _parts(self, source: Source, sent_on: bool = False) -> int:
        projection = self._projection_of(source)
        largest = self._input_format(source).max_int
        return row_parts(self.packed[source], projection.columns, largest, self.chip, sent_on)

    def _synapses(self, source: Source, parts: int, relayed: bool) -> list[Source]:
        """One synapse for each slice of a projection's columns."""
        projection, packed = self._projection_of(source), self.packed.pop(source)
        made = []
        for number, part in enumerate(slices(projection.columns, parts)):
            name = projection.name if parts == 1 else f"{projection.name}.part_{number}"
            key = f"{name}.codes"
            first, end = part.start // CODES_PER_BYTE, -(-part.stop // CODES_PER_BYTE)
            self.tensors[key] = np.ascontiguousarray(packed[:, first:end])
            inputs = (self.values[projection.inputs[0]],)
            shape = projection.size, len(part), key, part.start, projection.columns
            made.append(self._end(TernarySynapse(name, inputs, *shape), relayed))
        return made

    def _end(self, synapse: TernarySynapse, relayed: bool) -> Source:
        """Add a synapse, with a relay behind it if asked for, and return what its group reads."""
        self.nodes.append(synapse)
        if relayed:
            self.nodes.append(relay(synapse, self.chip.accumulator_bits.value))
        return self.nodes[-1].out()

    def _logits(self, node: layers.Logits) -> None:
        """The host reads the accumulators themselves, so the rows of the head are never split."""
        source = node.inputs[0]
        (accumulators,) = self._synapses(source, parts=1, relayed=False)
        self.nodes.append(LogitsOut(node.name, (accumulators,), node.size, self._accumulator_scale(source)))

    def _projection_of(self, source: Source) -> layers.Projection:
        projection = self.graph.by_name[source.node]
        if not isinstance(projection, layers.Projection):
            raise TypeError(f"{source}: a group accumulates projections, found {type(projection).__name__}")
        return projection

    def _input_format(self, source: Source) -> QFormat:
        """Format of the activations that a projection reads."""
        return self._format_of(self._projection_of(source).inputs[0])

    def _accumulator_scale(self, source: Source) -> float:
        """Real value of one unit of a projection's accumulator."""
        return self.scales[source.node] * self._input_format(source).scale

    def _requantizer(self, source: Source, target: QFormat) -> Requantizer:
        scale = self._accumulator_scale(source) / target.scale
        try:
            return Requantizer.from_scale(scale, self._multiplier_bits(source))
        except ValueError as error:
            raise UnsupportedModelError(f"{source.node}: {error}") from error

    def _multiplier_bits(self, source: Source) -> int:
        """Bits of what a projection's sums are multiplied by."""
        return programs.multiplier_bits(self.largest_sums[source], self.chip)

    def _multipliers(
        self, name: str, scales: NDArray[np.float64], bits: int = MULTIPLIER_BITS
    ) -> tuple[NDArray[np.int32], int]:
        try:
            return fit_multipliers(scales, bits)
        except ValueError as error:
            raise UnsupportedModelError(f"{name}: its gains cannot be written as M * 2**-k: {error}") from error

    def _gains(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Elementwise product of gain vectors, in float64."""
        tensors = [self.checkpoint.tensor(name).double().numpy() for name in names]
        return np.prod(np.stack(tensors), axis=0)

    def _lower_bound(self, layer: int) -> NDArray[np.int32]:
        if self.lower_bounds is None:
            self.lower_bounds = lower_bounds(self.checkpoint)
        return self.lower_bounds[layer]

    def _format_of(self, source: Source) -> QFormat:
        """Format of what a layer node sends."""
        return self._format(self.graph.by_name[source.node])

    def _format(self, node: Node) -> QFormat:
        if not isinstance(node, layers.LayerNode) or node.site is None:
            raise TypeError(f"{node.name}: a {type(node).__name__} without a quantizer's site has no format")
        return self.formats[node.site]

    def _group(
        self,
        node: layers.LayerNode,
        name: str,
        role: Role,
        program: Program,
        sources: list[Source],
        constants: Mapping[str, NDArray[np.int32]],
        formats: Mapping[str, QFormat],
        size: int | None = None,
    ) -> None:
        keys = {constant: f"{name}.{constant}" for constant in program.constants}
        self.tensors.update({key: constants[constant] for constant, key in keys.items()})
        used = tuple((table, TABLES[table]) for table in program.tables)
        data = tuple(keys.items()), used, tuple(formats.items())
        self.nodes.append(NeuronGroup(name, tuple(sources), role, size or node.size, program, *data))
        self.values[node.out()] = Source(name)
