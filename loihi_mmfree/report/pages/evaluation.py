"""What the page of `evaluate` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loihi_mmfree.evaluate.evaluation import Evaluation
from loihi_mmfree.evaluate.measures import Perplexity
from loihi_mmfree.report.evaluation import evaluation_notes, evaluation_tables
from loihi_mmfree.report.pages.tables import TEXT, Fact, table


def evaluation_context(found: Evaluation) -> dict[str, Any]:
    """Return what the template of the page is filled with."""
    return {
        "name": Path(found.model.path).resolve().name,
        "input": Path(found.path).name,
        "facts": list(_facts(found)),
        "tables": [
            table([(each.columns[0], TEXT), *each.columns[1:]], each.rows, each.title)
            for each in evaluation_tables(found)
        ],
        "notes": evaluation_notes(found),
        "footer": f"{found.model.kind} with SHA-256 {found.model.sha256[:16]}….",
    }


def _facts(found: Evaluation) -> list[Fact]:
    named = [(found.model, found.measure)]
    if found.reference is not None and found.reference_measure is not None:
        named.append((found.reference, found.reference_measure))
    facts = []
    for model, measure in named:
        if isinstance(measure, Perplexity):
            facts.append(Fact(f"perplexity, {model.kind}", f"{measure.perplexity:.3f}"))
        else:
            facts.append(Fact(f"accuracy, {model.kind}", f"{measure.accuracy:.2%}"))
    return facts
