"""The tables of docs/accuracy.md: what widths, thresholds and methods cost in accuracy, and what they save.

    uv run python benchmarks/accuracy_study.py CKPT [CKPT ...] --text wikitext-2/test.txt --device cuda
    uv run python benchmarks/accuracy_study.py CKPT --text wikitext-2/test.txt --rows "A12;A8" --energy
    uv run python benchmarks/accuracy_study.py CKPT --task arc_easy.jsonl piqa.jsonl --rows "A12;A8"

A row is a setting: it is compiled as `loihi-mmfree compile CKPT -o NET --config FILE` does it and evaluated as
`loihi-mmfree evaluate NET --ckpt CKPT --text FILE --limit N`, or with `--task FILE`. With `--energy` the network
also generates tokens on the engine while its messages are counted, from which time and energy on Loihi 2 are
modelled: none was measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import loihi_mmfree
from loihi_mmfree import CompileConfig
from loihi_mmfree.activity.counts import synaptic_operations
from loihi_mmfree.evaluate.measures import Accuracy, PairedAccuracy, PairedPerplexity, Perplexity
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.shown import EvaluationReport

INPUTS = "*.input"
GENERATED = 500


def inputs(**rule: object) -> dict[str, Any]:
    """Settings of a rule for all inputs of projections."""
    return {"quantization": {"sites": [{"match": INPUTS, **rule}]}}


def widths(**bits: int) -> dict[str, Any]:
    """Settings of some widths."""
    return {"quantization": bits}


ROWS: Mapping[str, Mapping[str, Any]] = {
    **{f"A{bits}": widths(activation_bits=bits) for bits in (16, 12, 10, 8, 6, 5, 4)},
    "A8, max": {"quantization": {"activation_bits": 8, "sites": [{"match": INPUTS, "method": "max"}]}},
    "A8, 99.9 %": {
        "quantization": {
            "activation_bits": 8,
            "sites": [{"match": INPUTS, "method": "percentile", "percentile": 99.9}],
        }
    },
    **{
        f"A{bits}, fine": {
            "quantization": {
                "activation_bits": bits,
                "sites": [{"match": INPUTS, "method": "fine_least_squares"}],
            }
        }
        for bits in (10, 8, 7, 6, 5)
    },
    "state 12": widths(state_bits=12),
    "state 10": widths(state_bits=10),
    "residual 12": widths(residual_bits=12),
    "residual 10": widths(residual_bits=10),
    "products 12": widths(product_bits=12),
    "pre-activations 12": widths(preactivation_bits=12),
    "pre-activations 8": widths(preactivation_bits=8),
    "abreu2025": {"weight_bits": 8, "quantization": {"activation_bits": 16, "residual_bits": 24}},
    **{f"zeros {share:.0%}": inputs(zeros=share) for share in (0.1, 0.2, 0.3, 0.4, 0.5)},
    "A8, zeros 30%": {"quantization": {"activation_bits": 8, "sites": [{"match": INPUTS, "zeros": 0.3}]}},
}
"""Name -> settings, as config.toml would give them."""
HEAD = (
    "| checkpoint | setting | perplexity | against float | 95 % interval | same top-1 | KL, nats | saturations |"
)
ENERGY_HEAD = " zeros | synaptic operations a token | modelled tokens/s | modelled mJ a token |"
TASK_HEAD = (
    "| checkpoint | setting | task | items | integers | float | difference | 95 % interval | only one right "
    "| McNemar p | same answer | same top-1 | KL, nats |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", type=Path)
    given.add_argument("--task", type=Path, nargs="+")
    parser.add_argument("--rows", default=";".join(ROWS), help="names of rows, separated by semicolons")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--limit", type=int, help="windows or items (default: all)")
    parser.add_argument("--device", help="cuda or cpu, of the torch backend; default: a GPU, else the engine")
    parser.add_argument("--energy", action="store_true", help="also count messages and model time and energy")
    options = parser.parse_args()
    head = TASK_HEAD if options.task else HEAD + (ENERGY_HEAD if options.energy else "")
    print(head)
    print("|---" * (head.count("|") - 1) + "|")
    for path in options.checkpoints:
        for name in options.rows.split(";"):
            with tempfile.TemporaryDirectory() as folder:
                net = loihi_mmfree.compile(path, Path(folder) / "net", CompileConfig.from_mapping(ROWS[name]))
                for row in _task_rows(net, path, options) if options.task else [_text_row(net, path, options)]:
                    print(f"| {path.name} | {name} | {row}", flush=True)


def _evaluate(net: Net, path: Path, options: argparse.Namespace, **given: Any) -> EvaluationReport:
    found = loihi_mmfree.evaluate(
        net,
        checkpoint=path,
        limit=options.limit,
        backend="torch" if options.device else None,
        device=options.device,
        **given,
    )
    assert found is not None
    return found


def _text_row(net: Net, path: Path, options: argparse.Namespace) -> str:
    found = _evaluate(net, path, options, text=options.text, window=options.window)
    own, paired = found.measure, found.paired
    assert isinstance(own, Perplexity)
    assert isinstance(paired, PairedPerplexity)
    low, high = paired.relative_interval
    saturations = found.to_dict()["saturations"]
    return (
        f"{own.perplexity:.3f} | {100 * paired.relative:+.2f} % "
        f"| {100 * low:+.2f} to {100 * high:+.2f} % | {100 * paired.top1_agreement:.1f} % "
        f"| {paired.kl_divergence:.1e} | {saturations:,} |{_energy(net) if options.energy else ''}"
    )


def _task_rows(net: Net, path: Path, options: argparse.Namespace) -> Iterator[str]:
    for task in options.task:
        found = _evaluate(net, path, options, task=task)
        own, paired = found.measure, found.paired
        assert isinstance(own, Accuracy)
        assert isinstance(paired, PairedAccuracy)
        change = paired.accuracy
        low, high = (100 * each for each in change.difference_interval)
        integers, real = 100 * own.accuracy, 100 * (own.accuracy - change.difference)
        yield (
            f"{task.stem} | {own.items} | {integers:.1f} % | {real:.1f} % "
            f"| {integers - real:+.1f} | {low:+.1f} to {high:+.1f} | {change.only_integers}, {change.only_float} "
            f"| {change.mcnemar_p:.2f} | {100 * paired.same_answer:.1f} % | {100 * paired.top1_agreement:.1f} % "
            f"| {paired.kl_divergence:.1e} |"
        )


def _energy(net: Net) -> str:
    """Zeros at the inputs of projections, synaptic operations, and what the model makes of them."""
    result = loihi_mmfree.run(
        net, "It was", GENERATED, backend="engine", activity=True, stop_at_end_of_text=False,
        sampler=loihi_mmfree.Sampler(0.8, seed=0),
    )  # fmt: skip
    assert result.activity is not None
    sent = result.activity.per_token
    scales = [node for node in net.graph if isinstance(node, NeuronGroup) and node.role is Role.SCALE]
    ports = [(node.out(port), size) for node in scales for port, size in node.outputs.items()]
    zeros = 1 - sum(sent(source) for source, _ in ports) / sum(size for _, size in ports)
    operations = sum(synaptic_operations(net.graph, result.activity.rates).values())
    loihi_mmfree.save_activity(net, result.activity)
    generate = loihi_mmfree.report(net).to_dict()["generate"]
    speed, energy = generate["tokens_per_s"]["value"], generate["millijoules_per_token"]["value"]
    return f" {zeros:.1%} | {operations:,.0f} | {speed:.0f} | {energy:.3f} |"


if __name__ == "__main__":
    main()
