"""The table of docs/results.md: perplexity of the integers at several activation widths beside the float model.

    uv run python benchmarks/integer_perplexity.py CKPT [CKPT ...] --text wikitext-2/test.txt

Each width is compiled, and evaluated as `loihi-mmfree evaluate NET --ckpt CKPT --text FILE` does it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import loihi_mmfree
from loihi_mmfree.evaluate.measures import PairedPerplexity, Perplexity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--act-bits", default="12,10,8", help="list of activation widths")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--limit", type=int, default=64, help="windows (default 64)")
    options = parser.parse_args()
    print(
        "| checkpoint | activations | float | integers | against float | 95 % interval | same top-1 | KL, nats |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for path in options.checkpoints:
        for bits in map(int, options.act_bits.split(",")):
            print(_row(path, bits, options.text, options.window, options.limit), flush=True)


def _row(path: Path, bits: int, text: Path, window: int, limit: int) -> str:
    config = loihi_mmfree.CompileConfig(loihi_mmfree.QuantizationConfig(activation_bits=bits))
    with tempfile.TemporaryDirectory() as folder:
        net = loihi_mmfree.compile(path, Path(folder) / "net", config)
        found = loihi_mmfree.evaluate(net, text=text, checkpoint=path, window=window, limit=limit)
    assert found is not None
    own, real, paired = found.measure, found.reference_measure, found.paired
    assert isinstance(own, Perplexity)
    assert isinstance(real, Perplexity)
    assert isinstance(paired, PairedPerplexity)
    low, high = paired.relative_interval
    return (
        f"| {path.name} | A{bits} | {real.perplexity:.3f} | {own.perplexity:.3f} | {100 * paired.relative:+.2f} % "
        f"| {100 * low:+.2f} to {100 * high:+.2f} % | {100 * paired.top1_agreement:.1f} % "
        f"| {paired.kl_divergence:.1e} |"
    )


if __name__ == "__main__":
    main()
