"""Compile the bundled checkpoint, run it on the engine and on Lava, and see that they agree in every bit.

uv run python examples/compile_and_run.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import loihi_mmfree

CHECKPOINT = Path(loihi_mmfree.__file__).parent / "data" / "mmf-demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--prompt", default="The king said")
    parser.add_argument("--new-tokens", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        net = loihi_mmfree.compile(options.checkpoint, Path(folder) / "net")
        engine = loihi_mmfree.run(net, options.prompt, options.new_tokens, backend="engine")
        lava = loihi_mmfree.run(net, options.prompt, options.new_tokens, backend="sim", granularity="operator")
    print(f"{options.prompt}{lava.text}")
    print(f"engine {engine.logits_sha256}")
    print(f"Lava   {lava.logits_sha256}  ({lava.steps} time steps)")


if __name__ == "__main__":
    main()
