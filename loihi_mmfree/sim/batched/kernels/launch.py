"""Kernels with all they are given: a region's, and a product's."""

from __future__ import annotations

import hashlib
import linecache
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from loihi_mmfree.fixedpoint.interpreter import OVERFLOWS
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.fixedpoint.ternary import nonzero_counts
from loihi_mmfree.ir.nodes import NeuronGroup, token_input
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.sim.batched.kernels import functions
from loihi_mmfree.sim.batched.kernels.region import write_region
from loihi_mmfree.sim.batched.kernels.storage import Run, Storage
from loihi_mmfree.sim.batched.kernels.text import Argument, KernelText, What
from loihi_mmfree.sim.batched.paths import Rows
from loihi_mmfree.sim.batched.products import multiply
from loihi_mmfree.sim.batched.regions import Region
from loihi_mmfree.sim.engine.kernels.programs.assemble import assemble
from loihi_mmfree.sim.engine.kernels.programs.structure import Lane

WALK_BLOCK = 128
"""Neurons whose recurrence one program walks through."""
FEW_ROWS = 16
"""Up to so many tokens, packed weights are read once and unpacked in registers; more share unpacked ones."""
_ELEMENTS_PER_WARP = 256


class RegionLaunch:
    """A region's kernel and all it is given that does not change."""

    def __init__(self, storage: Storage, region: Region) -> None:
        self._region, self._storage = region, storage
        graph, root, device = storage.graph, storage.root, storage.weights.device
        own = {node.name for node in region.nodes}
        inputs = {
            source: graph.by_name[source.node].outputs[source.port]
            for node in region.nodes
            for source in map(root, node.inputs)
            if source.node not in own
        }
        self._sources = {str(source): source for source in inputs}
        tokens = token_input(graph)
        self._tokens, self._table = tokens.out(), tokens.table
        self.reads = [(source, "plain") for source in inputs if source != self._tokens]
        self._assembled = [
            assemble(node.program, *node.parameters(graph.tensors), True, node.size)
            if isinstance(node, NeuronGroup)
            else None
            for node in region.nodes
        ]
        bits = graph.chip.accumulator_bits.value
        text = write_region(region, self._assembled, inputs, root, storage.wanted, bits, self._tokens)
        self._kernel = make_kernel(text.source)
        self._numbers = self._make_numbers(text).to(device)
        self._arguments = text.arguments
        self._fixed_counts = torch.from_numpy(
            sum(
                (each.fixed_counts[0] for each in self._assembled if each is not None), np.zeros(2, dtype=np.int64)
            )
        ).to(device)
        self._counts_fixed = bool(self._fixed_counts.any())
        self._standing = {
            number: self._stand(argument)
            for number, argument in enumerate(text.arguments)
            if argument.what in (What.FIXED, What.TABLE)
        }
        size = WALK_BLOCK if region.walks else region.size
        self._block = min(1 << (size - 1).bit_length(), WALK_BLOCK if region.walks else 1 << 30)
        self._warps = min(16, max(1, self._block // _ELEMENTS_PER_WARP)) if not region.walks else 4

    def _make_numbers(self, text: KernelText) -> Tensor:
        """Immediate and bits of every instruction with a result, as `source` numbers them."""
        rows: list[list[int]] = []
        for node, assembled in zip(self._region.nodes, self._assembled, strict=True):
            if assembled is None:
                continue
            assert isinstance(node, NeuronGroup)
            tables = dict(node.tables)
            names = node.program.tables
            for (operation, _, *operands), (immediate, bits) in zip(
                assembled.instructions, assembled.numbers.tolist(), strict=True
            ):
                entry = OPERATIONS[operation]
                if entry.result is None:
                    continue
                if entry.named is Named.TABLE:
                    immediate = self._storage.graph.tensors[tables[names[operands[0]]]].size
                rows.append([immediate, bits])
        assert len(rows) == text.instructions
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)

    def _stand(self, argument: Argument) -> Tensor:
        node = self._region.nodes[argument.node]
        assert isinstance(node, NeuronGroup)
        if argument.what is What.TABLE:
            return self._storage.weights[dict(node.tables)[argument.name]]
        assembled = self._assembled[argument.node]
        assert assembled is not None
        number = int(argument.name)
        values = assembled.fixed[number][1]
        narrow = assembled.lanes and assembled.lanes[len(assembled.instructions) + number] is not Lane.WIDE
        kind = np.int32 if narrow else np.int64
        return torch.from_numpy(np.atleast_1d(values).astype(kind)).to(self._storage.weights.device)

    def run(self, run: Run) -> None:
        """Launch."""
        bound: list[Any] = []
        for number, argument in enumerate(self._arguments):
            bound.append(self._standing[number] if number in self._standing else self._bind(argument, run))
        sequences = len(run.starts) - 1
        blocks = -(-self._region.size // self._block)
        grid = (sequences, blocks) if self._region.walks else (run.rows, 1)
        self._kernel[grid](
            run.starts, run.sequences, run.progress.counted, run.progress.flag, self._numbers, *bound,
            SIZE=self._region.size, BLOCK=self._block, num_warps=self._warps,
        )  # fmt: skip
        if self._counts_fixed:
            run.progress.counted += self._fixed_counts * run.rows

    def _bind(self, argument: Argument, run: Run) -> Tensor:
        if argument.what is What.TOKENS:
            return run.ids
        if argument.what is What.INPUT:
            source = self._sources[argument.name]
            if source == self._tokens:
                return self._storage.weights[self._table]
            return run.values[source, "plain"]
        node = self._region.nodes[argument.node]
        if argument.what is What.STATE:
            return run.progress.states[node.name, argument.name]
        source = node.out(argument.name)
        size, device = node.outputs[argument.name], self._storage.weights.device
        if argument.what is What.PLAIN:
            kind = self._storage.integer_type(source)
            run.values[source, "plain"] = torch.empty((run.rows, size), dtype=kind, device=device)
            return run.values[source, "plain"]
        together = self._storage.together[source]
        key = together[0], "digits"
        if key not in run.values:
            digits = self._storage.wanted[source].digits
            assert digits is not None
            shape = len(together), digits.count, run.rows, size
            run.values[key] = torch.empty(shape, dtype=self._storage.weights.dtype, device=device)
        return run.values[key][together.index(source)]


class ProductLaunch:
    """Ternary products of one shape, which are computed together."""

    def __init__(self, storage: Storage, nodes: tuple[TernarySynapse, ...]) -> None:
        self._weights, self._nodes, self._first = storage.weights, nodes, nodes[0]
        read = [storage.root(node.inputs[0]) for node in nodes]
        together = storage.together[read[0]]
        digits = storage.wanted[read[0]].digits
        assert digits is not None
        self._digits = digits
        # All of what lies together, in its order, or the one message that all of them read.
        self._place = together.index(read[0]) if len(set(read)) == 1 else None
        self.reads = [(together[0], "digits")]
        graph, bits = storage.graph, max(map(storage.bits, read))
        most = max(
            int(nonzero_counts(graph.tensors[each.codes]).sum(axis=1, dtype=np.int64).max()) for each in nodes
        )
        largest = most << (bits - 1)
        limit = 1 << (graph.chip.accumulator_bits.value - 1)
        self._limit = limit if largest >= limit else None
        self._wide = torch.int32 if largest < 1 << 31 else torch.int64

    def run(self, run: Run) -> None:
        """Compute the sums of all rows."""
        for node, sums in zip(self._nodes, self.sums(run, slice(None)), strict=True):
            run.values[node.out(), "plain"] = sums

    def sums(self, run: Run, rows: Rows, counts: bool = False) -> Tensor:
        """Return the sums of some rows, [products, t, n]: float32 if one digit gives them, else integers.

        What is wider than an accumulator is counted, or raises the flag.
        """
        (key,), first = self.reads, self._first.first_column
        values = run.values[key] if self._place is None else run.values[key][self._place].unsqueeze(0)
        digits = values[:, :, rows, first : first + self._first.columns]
        sums = self._multiply(digits[:, 0])
        for place in range(1, self._digits.count):
            low = sums.to(self._wide)
            sums = low + (self._multiply(digits[:, place]).to(self._wide) << (self._digits.bits * place))
        if self._limit is not None:
            wide = (sums < -self._limit) | (sums >= self._limit)
            if counts:
                run.progress.counted[OVERFLOWS] += wide.sum()
            else:
                run.progress.flag |= wide.any().to(torch.int32)
        return sums

    def _multiply(self, digit: Tensor) -> Tensor:
        """Multiply [products or 1, t, columns]."""
        planes = self._weights.planes(*(node.codes for node in self._nodes))
        digit = digit.expand(len(planes), -1, -1)
        if digit.shape[1] <= FEW_ROWS:
            return functions.multiply_planes(digit, planes)
        weights = functions.unpack_planes(planes, self._first.columns, digit.dtype)
        sums = torch.empty((*digit.shape[:2], self._first.rows), dtype=torch.float32, device=digit.device)
        for number in range(len(planes)):
            multiply(digit[number], weights[number], out=sums[number])
        return sums


@lru_cache(maxsize=1024)
def make_kernel(source: str) -> Any:
    """Return the Triton kernel of a text."""
    # Triton reads a function's text through linecache, as a debugger would.
    name = f"<kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace = dict(vars(functions), __name__="loihi_mmfree.sim.batched.kernels.generated")
    exec(compile(source, name, "exec"), namespace)
    return triton.jit(namespace["kernel"])
