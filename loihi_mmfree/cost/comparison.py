"""This network, as modelled, beside the published systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.cost.model import predict, prompt_joules, prompt_tokens_per_s
from loihi_mmfree.cost.parameters import ModelParameters
from loihi_mmfree.cost.published import Published
from loihi_mmfree.cost.quantity import Quantity
from loihi_mmfree.cost.workload import Workload

THIS_NETWORK = "this network"


@dataclass(frozen=True)
class ComparisonRow:
    """One system at one sequence length; energies are a token.

    Parameters
    ----------
    hardware, model, kind : str
    tokens : int, optional
        None where no length is published, and nothing of reading prompts.
    generate_tokens_per_s, generate_millijoules : Quantity
    prefill_tokens_per_s, prefill_millijoules : Quantity, optional
    lanes : int, optional
        How many work side by side, where that is published; their throughput is given together.
    leaves_out : str, optional
        What the figures do not count, where that is known to matter.
    """

    hardware: str
    model: str
    kind: str
    tokens: int | None
    generate_tokens_per_s: Quantity
    generate_millijoules: Quantity
    prefill_tokens_per_s: Quantity | None = None
    prefill_millijoules: Quantity | None = None
    lanes: int | None = None
    leaves_out: str | None = None

    @property
    def system(self) -> str:
        """The hardware, with what works side by side."""
        return self.hardware if self.lanes is None else f"{self.hardware}, {self.lanes} lanes together"

    @property
    def origin(self) -> str:
        """Where the numbers come from: modelled, a published measurement, figure or estimate."""
        source = self.generate_tokens_per_s.source
        if source != "published":
            return source
        kinds = {"measured": "published measurement", "reported": "published figure"}
        return kinds.get(self.kind.split()[0], "published estimate")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {
            name: value.to_dict() if isinstance(value, Quantity) else value for name, value in vars(self).items()
        }


def comparison(
    workload: Workload, parameters: ModelParameters, published: Published, inputs: Mapping[str, Any]
) -> tuple[ComparisonRow, ...]:
    """Return the rows of all systems at every published sequence length, this network's first, then accelerators.

    The prompt of this network includes the steps in which the pipeline fills and empties; the published figures of
    Loihi 2 are the same at every length and seem to leave them out.
    """
    generate = predict(workload, parameters).generate
    rows = [
        ComparisonRow(
            hardware=f"Loihi 2, {workload.chips} chip{'s' if workload.chips > 1 else ''}",
            model=THIS_NETWORK,
            kind="modelled",
            tokens=tokens,
            generate_tokens_per_s=Quantity(generate.tokens_per_s, "tokens/s", "modelled", inputs),
            generate_millijoules=Quantity(generate.millijoules_per_token, "mJ", "modelled", inputs),
            prefill_tokens_per_s=Quantity(
                prompt_tokens_per_s(workload, parameters, tokens), "tokens/s", "modelled", inputs
            ),
            prefill_millijoules=Quantity(
                1e3 * prompt_joules(workload, parameters, tokens) / tokens, "mJ", "modelled", inputs
            ),
        )
        for tokens in published.tokens
    ]
    cited = {"citation": published.citation}
    for system in published.systems:
        for position, tokens in enumerate(published.tokens):
            rows.append(
                ComparisonRow(
                    system.hardware,
                    system.model,
                    system.kind,
                    tokens,
                    Quantity(system.generate_tokens_per_s[position], "tokens/s", "published", cited),
                    Quantity(system.generate_millijoules[position], "mJ", "published", cited),
                    Quantity(system.prefill_tokens_per_s[position], "tokens/s", "published", cited),
                    Quantity(system.prefill_millijoules[position], "mJ", "published", cited),
                )
            )
    for each in published.accelerators:
        theirs = {"citation": each.citation}
        rows.append(
            ComparisonRow(
                each.hardware,
                each.model,
                each.kind,
                None,
                Quantity(each.generate_tokens_per_s, "tokens/s", "published", theirs),
                Quantity(each.generate_millijoules, "mJ", "published", theirs),
                lanes=each.lanes,
                leaves_out=each.leaves_out,
            )
        )
    return tuple(rows)
