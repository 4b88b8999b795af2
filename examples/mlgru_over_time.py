"""Look at one MLGRU of a network over time: its integer state, and the graded spikes it sends.

uv run python examples/mlgru_over_time.py --output mlgru.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

import loihi_mmfree
from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.text import Tokenizer

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CHECKPOINT = Path(loihi_mmfree.__file__).parent / "data" / "mmf-demo"
PROMPT = "It was a dark night, and the old man sat by the fire. He said nothing for a long time."


def record(graph: Graph, node: str, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the state [T, n] and the messages [T, n] of a neuron group, token by token."""
    states, messages = [], []

    def tap(source: Source, value: np.ndarray) -> None:
        if source == Source(node, "out"):
            messages.append(value[0].copy())

    engine = Engine(graph, observer=Observer(values=tap))
    for token in ids:
        engine.read(np.array([token]))
        states.append(engine.state(node)["h"].copy())
    return np.array(states), np.array(messages)


def draw(states: np.ndarray, messages: np.ndarray, frac: int, title: str, output: Path) -> None:
    """Draw the state of a few neurons and the messages of all."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, layout="constrained")
    busiest = np.argsort(-np.abs(states).max(axis=0))[:8]
    above.step(np.arange(len(states)), states[:, busiest] * 2.0**-frac, where="mid", linewidth=1.2)
    above.set_ylabel("state h (real value)")
    above.set_title(f"{title}: the 8 neurons with the largest state")
    above.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    limit = np.percentile(np.abs(messages), 99)
    image = below.imshow(messages.T, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    silent = np.mean(messages == 0)
    below.set_title(f"graded spikes of all {messages.shape[1]} neurons; {silent:.1%} are zero and are not sent")
    below.set_xlabel("token")
    below.set_ylabel("neuron")
    figure.colorbar(image, ax=below, label="payload (integer)")
    figure.savefig(output, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--node", default="layers.2.attn.mlgru")
    parser.add_argument("--output", type=Path, default=Path("mlgru.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        net = loihi_mmfree.compile(options.checkpoint, Path(folder) / "net")
        ids = Tokenizer(net.path / "tokenizer.json").encode(PROMPT)
        states, messages = record(net.graph, options.node, ids)
        formats = dict(net.graph.by_name[options.node].formats)
    draw(states, messages, formats["h"].frac, options.node, options.output)
    print(f"{options.output}: {len(ids)} tokens, state between {states.min()} and {states.max()}")


if __name__ == "__main__":
    main()
