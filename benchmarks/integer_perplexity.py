"""Perplexity of the integer engine beside the float reference: the table of docs/results.md.

    uv run python benchmarks/integer_perplexity.py CKPT [CKPT ...] --text wikitext-2/test.txt

Text is tokenised as one string with `<unk>` written as `unk`, without special tokens, and cut into windows.
Every window starts with an empty state.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.model.perplexity import perplexity
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.sim.engine.specification import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--act-bits", default="12,10,8", help="list of activation widths")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=64)
    options = parser.parse_args()
    print("| checkpoint | activations | perplexity | against float | saturations | overflows | seconds |")
    print("|---|---|---|---|---|---|---|")
    for path in options.checkpoints:
        checkpoint = open_checkpoint(path)
        ids = _tokens(checkpoint, options.text)
        began = time.perf_counter()
        reference = perplexity(_float_logits(checkpoint), ids, options.window, options.windows)
        seconds = time.perf_counter() - began
        print(f"| {path.name} | float | {reference:.3f} | | | | {seconds:.0f} |", flush=True)
        for bits in map(int, options.act_bits.split(",")):
            _integer_row(path, bits, ids, reference, options.window, options.windows)


def _integer_row(path: Path, bits: int, ids: np.ndarray, reference: float, window: int, windows: int) -> None:
    config = CompileConfig(QuantizationConfig(activation_bits=bits))
    with tempfile.TemporaryDirectory() as folder:
        net, _ = compile_checkpoint(path, Path(folder) / "net", config)
        engine = Engine(net.graph, strict=True)

        def logits(piece: np.ndarray) -> np.ndarray:
            engine.reset()
            return engine.process(piece) * engine.logit_scale

        began = time.perf_counter()
        found = perplexity(logits, ids, window, windows)
        seconds = time.perf_counter() - began
    counters = engine.counters
    print(
        f"| {path.name} | A{bits} | {found:.3f} | {100 * (found / reference - 1):+.2f} % "
        f"| {counters.saturations} | {counters.overflows} | {seconds:.0f} |",
        flush=True,
    )


def _tokens(checkpoint: Checkpoint, text: Path) -> np.ndarray:
    from tokenizers import Tokenizer

    from loihi_mmfree.text import tokenizer_json

    if checkpoint.tokenizer_path is None:
        raise SystemExit(f"{checkpoint.path}: no tokenizer.json or tokenizer.model")
    tokenizer = Tokenizer.from_str(tokenizer_json(checkpoint.tokenizer_path))
    content = text.read_text(encoding="utf-8").replace("<unk>", "unk")
    return np.array(tokenizer.encode(content, add_special_tokens=False).ids, dtype=np.int64)


def _float_logits(checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from loihi_mmfree.model.language_model import MatMulFreeLM

    model = MatMulFreeLM.from_checkpoint(checkpoint).eval()
    model.freeze()

    def logits(piece: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(piece)[None])[0][0].numpy()

    return logits


if __name__ == "__main__":
    main()
