"""Speed of the compiled engine that decodes many sequences at once, beside one sequence alone.

Before anything is timed, every sequence is decoded alone and with the others, and all logits are held against each
other. Rounds of both are interleaved; numbers are medians.

    python benchmarks/many_sequences.py NET --sequences 16 --tokens 32 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.ir.nodes import TokenIn
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.sim.engine.compiled import FastEngine


def together(engine: FastEngine, ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """Decode ids [sequences, tokens] token by token, all sequences at once; return the last logits."""
    engine.begin(len(ids))
    for column in ids.T:
        logits = engine.read_batch([np.array([token]) for token in column])
    return logits


def alone(engine: FastEngine, ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """Decode ids [tokens] token by token; return the last logits."""
    engine.begin(1)
    for token in ids:
        logits = engine.read(np.array([token]))
    return logits


def seconds(call: object, *arguments: object) -> float:
    begin = time.perf_counter()
    call(*arguments)  # type: ignore[operator]
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", type=Path)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    graph = load_net(arguments.net).graph
    vocabulary = len(graph.tensors[next(node.table for node in graph if isinstance(node, TokenIn))])
    ids = np.random.default_rng(0).integers(0, vocabulary, (arguments.sequences, arguments.tokens))
    with FastEngine(graph) as engine:
        np.testing.assert_array_equal(together(engine, ids), np.stack([alone(engine, each) for each in ids]))
        times = [
            (seconds(alone, engine, ids[0]), seconds(together, engine, ids)) for _ in range(arguments.repeats)
        ]
    one, many = map(statistics.median, zip(*times, strict=True))
    rates = arguments.tokens / one, ids.size / many
    print(
        json.dumps(
            {
                "one_tokens_per_s": rates[0],
                "together_tokens_per_s": rates[1],
                "ratio": rates[1] / rates[0],
                "sequences": arguments.sequences,
                "tokens": arguments.tokens,
            }
        )
    )


if __name__ == "__main__":
    main()
