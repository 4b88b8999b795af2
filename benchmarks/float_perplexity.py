"""Print the perplexity of a checkpoint's float model on a text file.

WikiText's `<unk>` is read as the word `unk`; the text is tokenised as one string without special tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import LoihiMmfreeError
from loihi_mmfree.model.language_model import MatMulFreeLM, logits_function
from loihi_mmfree.model.perplexity import perplexity
from loihi_mmfree.text import tokenizer_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder with config.json, weights and tokenizer")
    parser.add_argument("text", type=Path, help="text file, UTF-8")
    parser.add_argument("--window", type=int, default=512, help="tokens in a window (default 512)")
    parser.add_argument("--windows", type=int, default=64, help="how many windows; 0 is all (default 64)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    arguments = parser.parse_args(argv)
    try:
        checkpoint = open_checkpoint(arguments.checkpoint)
        if checkpoint.tokenizer_path is None:
            parser.error(f"{arguments.checkpoint}: no tokenizer.json or tokenizer.model")
        tokenizer = Tokenizer.from_str(tokenizer_json(checkpoint.tokenizer_path))
        text = arguments.text.read_text(encoding="utf-8").replace("<unk>", "unk")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        model = MatMulFreeLM.from_checkpoint(checkpoint).to(torch.device(arguments.device))
        result = perplexity(logits_function(model), ids, arguments.window, arguments.windows or None)
    except LoihiMmfreeError as error:
        parser.exit(error.exit_code, f"{error}\n")
    print(f"{result:.4f}")


if __name__ == "__main__":
    main()
