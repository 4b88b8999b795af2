"""What training a checkpoint for few bits wins back: a row for every setting, with perplexity of the integers.

    uv run python benchmarks/retraining_study.py CKPT --text train.txt --test wikitext-2/test.txt -o DIR
    uv run python benchmarks/retraining_study.py CKPT --text train.txt --test test.txt -o DIR --rows a4,a4:1e-3:0

A row is a width of the projections' inputs, and how it is trained: `a4` is calibrated only, `a4:1e-3:0.01` is
trained with a peak rate of 1e-3, and a hundredth of that for ternary matrices. Perplexity is that of the compiled
integers, by their exact mode (`compiler.exact`), which gives the same bits. Rows that are in DIR/rows.jsonl are
not computed again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch

import loihi_mmfree
from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.model.language_model import MatMulFreeLM, logits_function
from loihi_mmfree.model.perplexity import perplexity, text_windows
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.calibration_ids import calibration_ids
from loihi_mmfree.quantize.formats_file import FORMATS, TrainedFormats
from loihi_mmfree.quantize.libraries import import_libraries
from loihi_mmfree.train.recipe import Recipe, quantization_of
from loihi_mmfree.train.retraining import exact_loss

ROWS = "a8,a8:1e-3:0,a8:3e-4:0.01,a6,a6:1e-3:0.01,a4,a4:1e-3:0,a4:1e-3:0.01,a4:1e-3:0.1,a4:3e-3:0.01"


@dataclasses.dataclass(frozen=True)
class Study:
    """A checkpoint, what it is trained on, and what it is measured on."""

    checkpoint: Path
    text: Path
    folder: Path
    windows: np.ndarray
    steps: int
    batch: int
    window: int
    device: str

    def float_perplexity(self) -> float:
        """Of the float model, on the same windows."""
        model = MatMulFreeLM.from_checkpoint(open_checkpoint(self.checkpoint)).to(self.device)
        return perplexity(logits_function(model), self.windows.flatten(), self.windows.shape[1], None)

    def integer_perplexity(self, folder: Path) -> float:
        """Of the integers that a checkpoint with formats compiles to."""
        ids = torch.from_numpy(self.windows).to(self.device)
        return math.exp(exact_loss(folder, ids, at_once=len(ids)))

    def calibrated(self, name: str) -> Path:
        """The checkpoint with the formats that `compile` calibrates by default."""
        output = self.folder / name
        shutil.copytree(self.checkpoint, output, dirs_exist_ok=True)
        opened, quantization = open_checkpoint(self.checkpoint), quantization_of(name)
        ids = calibration_ids(opened.tokenizer_path, opened.config.vocab_size).ids
        found = calibrate(opened, ids, quantization)
        kept = TrainedFormats(quantization, found.formats, found.thresholds)
        (output / FORMATS).write_text(kept.to_json())
        return output

    def trained(self, name: str, rate: float, matrices: float) -> Path:
        """The checkpoint trained for a width."""
        values = {
            "steps": self.steps,
            "batch": self.batch,
            "window": self.window,
            "save_every": self.steps,
            "optimizer": {"learning_rate": rate, "matrices": matrices},
        }
        quantization = quantization_of(name)
        recipe = Recipe.for_checkpoint(open_checkpoint(self.checkpoint).config, values, quantization)
        output = self.folder / f"{name}-{rate:g}-{matrices:g}"
        loihi_mmfree.train(
            output,
            recipe,
            text=self.text,
            base=self.checkpoint,
            device=self.device,
            force=True,
        )
        return output


def rows(study: Study, wanted: list[str], kept: Path) -> None:
    """Compute the rows that are not there yet, and print all."""
    found = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {row["row"] for row in found}
    reference = next((row["float"] for row in found), None) or study.float_perplexity()
    print(f"float: {reference:.3f}")
    for row in wanted:
        if row not in known:
            began = time.perf_counter()
            name, *settings = row.split(":")
            folder = study.trained(name, *map(float, settings)) if settings else study.calibrated(name)
            value = study.integer_perplexity(folder)
            seconds = time.perf_counter() - began
            found.append({"row": row, "float": reference, "integers": value, "steps": study.steps, "s": seconds})
            with kept.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
        shown = next(each for each in found if each["row"] == row)
        change = 100 * (shown["integers"] / reference - 1)
        print(f"{row:<16} {shown['integers']:9.3f} {change:+7.2f} %  {shown['s']:6.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="what is trained on")
    parser.add_argument("--test", type=Path, required=True, help="what perplexity is measured on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--windows", type=int, default=64, help="of 512 tokens, of the test")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    import_libraries()
    opened = open_checkpoint(options.checkpoint)
    assert opened.tokenizer_path is not None, "the checkpoint needs its tokenizer"
    tokenizer = loihi_mmfree.Tokenizer(opened.tokenizer_path)
    ids = tokenizer.encode(options.test.read_text(encoding="utf-8"), special_tokens=False)
    windows = np.stack(list(text_windows(ids, 512, options.windows)))
    options.output.mkdir(parents=True, exist_ok=True)
    study = Study(
        options.checkpoint,
        options.text,
        options.output,
        windows,
        options.steps,
        options.batch,
        options.window,
        options.device,
    )
    rows(study, options.rows.split(","), options.output / "rows.jsonl")


if __name__ == "__main__":
    main()
