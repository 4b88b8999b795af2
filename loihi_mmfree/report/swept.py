"""Networks of one checkpoint under several settings: what each was measured to lose, and is modelled to save."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.activity.counts import Activity, input_zeros, synaptic_operations
from loihi_mmfree.cost.model import predict
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.quantity import format_number
from loihi_mmfree.cost.sweep import pareto
from loihi_mmfree.cost.workload import count_workload
from loihi_mmfree.evaluate.evaluation import Evaluation
from loihi_mmfree.evaluate.measures import PairedPerplexity, Perplexity
from loihi_mmfree.evaluate.statistics import CONFIDENCE, Interval
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.tables import TerminalTable
from loihi_mmfree.text import counted

_COLUMNS = (
    "setting",
    "perplexity",
    "against float",
    f"{CONFIDENCE:.0%} interval",
    "same likeliest token",
    "zeros at inputs of projections",
    "synaptic operations a token",
    "modelled tokens/s",
    "modelled mJ a token",
    "",
)
MEASURED = "measured: the network's own integers beside the float model"
COUNTED = "counted: messages of the network's integers"
MODELLED = "modelled for Loihi 2; nothing was measured on a chip"


@dataclass(frozen=True)
class SweptNetwork:
    """A network that was compiled, evaluated and counted.

    Parameters
    ----------
    setting : str
    perplexity : float
        Of its integers.
    relative, relative_interval : float, pair of float
        Against the float model, less 1.
    top1_agreement, kl_divergence : float
        See `evaluate.measures.PairedPerplexity`.
    zeros : float
        Share of the inputs of projections that are zero and not sent.
    synaptic_operations : float
        A token.
    tokens_per_s, millijoules : float
        Generating, modelled.
    chips, cores : int
    best : bool
        Whether no other network loses no more perplexity and also takes no more energy.
    """

    setting: str
    perplexity: float
    relative: float
    relative_interval: Interval
    top1_agreement: float
    kl_divergence: float
    zeros: float
    synaptic_operations: float
    tokens_per_s: float
    millijoules: float
    chips: int
    cores: int
    best: bool = False

    @classmethod
    def of(cls, setting: str, net: Net, found: Evaluation, activity: Activity) -> SweptNetwork:
        """Put together what an evaluation and a count found of a network, and model what follows from them."""
        graph, placed = net.graph, net.placed
        workload = count_workload(graph, placed.placement, activity, placed.chip)
        generating = predict(workload, load_parameters()).generate
        own, paired = found.measure, found.paired
        assert isinstance(own, Perplexity)
        assert isinstance(paired, PairedPerplexity)
        return cls(
            setting=setting,
            perplexity=own.perplexity,
            relative=paired.relative,
            relative_interval=paired.relative_interval,
            top1_agreement=paired.top1_agreement,
            kl_divergence=paired.kl_divergence,
            zeros=input_zeros(graph, activity),
            synaptic_operations=sum(synaptic_operations(graph, activity.rates).values()),
            tokens_per_s=generating.tokens_per_s,
            millijoules=generating.millijoules_per_token,
            chips=workload.chips,
            cores=workload.cores,
        )

    @property
    def row(self) -> tuple[str, ...]:
        """The network as text."""
        low, high = self.relative_interval
        return (
            self.setting,
            f"{self.perplexity:.3f}",
            f"{self.relative:+.2%}",
            f"{low:+.2%} to {high:+.2%}",
            f"{self.top1_agreement:.1%}",
            f"{self.zeros:.1%}",
            f"{self.synaptic_operations:,.0f}",
            format_number(self.tokens_per_s),
            format_number(self.millijoules),
            "*" if self.best else "",
        )


@dataclass(frozen=True, repr=False)
class SweepReport:
    """Networks of one checkpoint under several settings, as text and as data.

    Parameters
    ----------
    checkpoint, text : str
    windows, tokens : int
        That perplexity was measured on; predicted tokens.
    counted_tokens : int
        From the beginning of the text, on which messages were counted.
    networks : tuple of SweptNetwork
    """

    checkpoint: str
    text: str
    windows: int
    tokens: int
    counted_tokens: int
    networks: tuple[SweptNetwork, ...]

    @property
    def tables(self) -> tuple[TerminalTable, ...]:
        """A row for each network."""
        on = f"{self.text}: {counted(self.windows, 'window')}, {counted(self.tokens, 'predicted token')}"
        title = f"{self.checkpoint} on {on} (* no other loses no more for no more energy)"
        return (TerminalTable(title, _COLUMNS, tuple(each.row for each in self.networks)),)

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers has to know."""
        return [
            "Every row is a network that was compiled. Perplexity is measured, of its integers; zeros and "
            f"synaptic operations are counted over {counted(self.counted_tokens, 'token')} of the text; time and "
            "energy of generating are modelled for Loihi 2 from these counts, and nothing was measured on a chip."
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        sources = {
            "perplexity": MEASURED, "relative": MEASURED, "top1_agreement": MEASURED, "kl_divergence": MEASURED,
            "zeros": COUNTED, "synaptic_operations": COUNTED, "tokens_per_s": MODELLED, "millijoules": MODELLED,
        }  # fmt: skip
        return {**dataclasses.asdict(self), "sources": sources}

    def __repr__(self) -> str:
        (table,) = self.tables
        lines = ("  ".join(row) for row in (table.columns, *table.rows))
        return "\n".join([f"<SweepReport: {table.title}>", *lines])


def with_best(networks: Sequence[SweptNetwork]) -> tuple[SweptNetwork, ...]:
    """Mark the networks than which no other loses less for less energy."""
    front = pareto([(-each.relative, each.millijoules) for each in networks])
    return tuple(dataclasses.replace(each, best=best) for each, best in zip(networks, front, strict=True))
