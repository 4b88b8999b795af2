"""Memory and time of training, and speed of reading, of the float model on a GPU; upstream's beside it.

A training step is forward, backward and AdamW on random tokens under bfloat16 autocast; each kind of model has a
process of its own. Peak memory is that of PyTorch's allocator over the measured steps, times are medians. First a
small model of odd sizes is run by kernels and by plain PyTorch, whose losses and gradients must agree.

    python benchmarks/training_step.py --upstream FOLDER
    python benchmarks/training_step.py --kinds fused --profile

FOLDER holds upstream's source (the package mmfreelm), which is measured and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS

KINDS = ("fused", "plain", "upstream", "upstream-unfused")
LARGEST_ERROR = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Of a gradient, in relative norm, between kernels and plain PyTorch, by the type of products.

In float32, a code that is computed again for the gradient of a weight may be rounded to the other side.
"""


@contextmanager
def without_kernels() -> Iterator[None]:
    """Have plain PyTorch do everything."""
    with mock.patch("loihi_mmfree.model.fused.availability._runs_on", return_value=False):
        yield


def own_model(**shape: Any) -> Any:
    from loihi_mmfree.hf import HGRNBitConfig, HGRNBitForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda"):
        return HGRNBitForCausalLM(HGRNBitConfig(**shape))


def upstream_model(folder: Path, fused: bool, **shape: Any) -> Any:
    sys.path.insert(0, str(folder))
    import triton.language as tl
    from triton.language.extra.cuda import libdevice

    if not hasattr(tl.math, "round"):
        # Triton had it under this name when upstream was written.
        tl.math.round = libdevice.round
    from mmfreelm.models import HGRNBitConfig, HGRNBitForCausalLM  # type: ignore[import-not-found]
    from mmfreelm.ops import fusedbitnet  # type: ignore[import-not-found]

    if not fused:
        fusedbitnet.FusedBitLinear.forward = fusedbitnet.BitLinear.forward
    # transformers 5 wants a mapping where upstream has a list; nothing is tied here.
    HGRNBitForCausalLM._tied_weights_keys = None
    model = HGRNBitForCausalLM(HGRNBitConfig(**shape)).cuda()
    model.load_state_dict(own_model(**shape).state_dict())
    return model


def check() -> dict[str, Any]:
    """Return how a small model of odd sizes differs between kernels and plain PyTorch, by type.

    Of the logits how many differ at all, of the gradients the largest error in relative norm.
    """
    model = own_model(vocab_size=997, hidden_size=136, num_hidden_layers=3, intermediate_size=200).train()
    torch.nn.init.normal_(model.model.lower_bounds)
    ids = torch.randint(997, (3, 333), device="cuda")
    found = {}
    for dtype, largest in LARGEST_ERROR.items():
        results, logits = [], []
        for kernels in (True, False):
            model.zero_grad()
            with nullcontext() if kernels else without_kernels():
                with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
                    loss = model(ids, labels=ids).loss
                    with torch.no_grad():
                        logits.append(model(ids).logits)
                loss.backward()
            results.append([loss.detach(), *(each.grad for each in model.parameters())])
        names = ["loss", *(name for name, _ in model.named_parameters())]
        errors = {
            name: ((own - plain).norm() / plain.norm()).item()
            for name, own, plain in zip(names, *results, strict=True)
        }
        worst = max(errors, key=lambda name: errors[name])
        found[str(dtype)] = {
            "logits that differ": int((logits[0] != logits[1]).sum()),
            worst: errors[worst],
            "within": bool(errors[worst] <= largest),
        }
    return found


def agreement(upstream: Any, own: Any, ids: torch.Tensor) -> dict[str, Any]:
    """Return how upstream's loss and gradients agree with ours, with the same parameters and tokens."""
    losses = []
    for model in (upstream.train(), own.train()):
        with torch.autocast("cuda", torch.bfloat16):
            losses.append(model(input_ids=ids, labels=ids).loss)
        losses[-1].backward()
    expected = dict(own.named_parameters())
    cosines, ratios = {}, {}
    for name, parameter in upstream.named_parameters():
        theirs, ours = parameter.grad.double().flatten(), expected[name].grad.double().flatten()
        cosines[name] = (theirs @ ours / (theirs.norm() * ours.norm())).item()
        ratios[name] = (theirs.norm() / ours.norm()).item()
    upstream.zero_grad()
    least = min(cosines, key=lambda name: cosines[name])
    return {
        "losses, theirs and ours": [loss.item() for loss in losses],
        "cosines of gradients, least and median": [least, cosines[least], statistics.median(cosines.values())],
        "norms of gradients over ours, least and largest": [min(ratios.values()), max(ratios.values())],
    }


def milliseconds(call: Callable[[], object], repeats: int, warm: int = 2) -> float:
    """Return the median duration of a call, its work on the device included."""
    times = []
    for number in range(warm + repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if number >= warm:
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def training(model: Any, arguments: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(vocabulary, (arguments.batch, arguments.tokens), device="cuda")
    losses = []

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

    for _ in range(3):
        step()
    torch.cuda.reset_peak_memory_stats()
    took = milliseconds(step, arguments.steps, warm=0)
    found: dict[str, Any] = {
        "step, ms": round(took, 1),
        "peak, GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "reserved, GB": round(torch.cuda.max_memory_reserved() / 1e9, 2),
        "first losses": [round(loss.item(), 4) for loss in losses[:3]],
    }
    if arguments.profile:
        profile(step)
    return found


def profile(step: Callable[[], None]) -> None:
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profiler:
        step()
        torch.cuda.synchronize()
    print(profiler.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=60))


@torch.no_grad()
def reading(model: Any, arguments: argparse.Namespace, vocabulary: int, kind: str) -> dict[str, Any]:
    model.eval()
    ids = torch.randint(vocabulary, (arguments.sequences, arguments.read_tokens), device="cuda")
    ways: dict[str, Any] = {"bfloat16 autocast": torch.autocast("cuda", torch.bfloat16)}
    if kind.startswith("upstream"):
        model.half()
        ways = {"float16": nullcontext()}
    else:
        model.freeze()
        ways["float32"] = nullcontext()
    found = {}
    for name, context in ways.items():
        for what, call in (("logits", model), ("hidden states", model.model)):
            with context:
                # Ours wants a state and no more; upstream's keyword of the same meaning differs by its version.
                given = (ids, None) if what == "hidden states" and not kind.startswith("upstream") else (ids,)
                took = milliseconds(lambda call=call, given=given: call(*given), arguments.steps)
            found[f"{what} in {name}, tokens/s"] = round(1e3 * ids.numel() / took)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    kind = arguments.measure
    config = PUBLISHED_CONFIGS[arguments.shape].to_dict()
    if arguments.layers:
        config["num_hidden_layers"] = arguments.layers
    found: dict[str, Any] = {"kind": kind}
    with without_kernels() if kind == "plain" else nullcontext():
        for what in arguments.what:
            if kind.startswith("upstream"):
                model = upstream_model(arguments.upstream, kind == "upstream", **config)
                if what == "training":
                    ids = torch.randint(config["vocab_size"], (1, arguments.tokens), device="cuda")
                    found |= agreement(model, own_model(**config), ids)
            else:
                model = own_model(**config)
            try:
                if what == "training":
                    found |= training(model, arguments, config["vocab_size"])
                else:
                    found |= reading(model, arguments, config["vocab_size"], kind)
            except torch.cuda.OutOfMemoryError as error:
                found[what] = f"out of memory: {str(error)[:120]}"
            del model
            torch.cuda.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(PUBLISHED_CONFIGS), default="370M")
    parser.add_argument("--layers", type=int, help="number of blocks, if not the published one")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--sequences", type=int, default=64, help="texts that are read at once (default 64)")
    parser.add_argument("--read-tokens", type=int, default=512, help="tokens of each (default 512)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--upstream", type=Path, help="folder with upstream's source")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--what", nargs="+", choices=["training", "reading"], default=["training", "reading"])
    parser.add_argument("--profile", action="store_true", help="show the kernels of one step")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))
    if "fused" in arguments.kinds:
        print(json.dumps({"kernels against plain PyTorch": check()}), flush=True)
    for kind in arguments.kinds:
        if kind.startswith("upstream") and arguments.upstream is None:
            continue
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--measure", kind], check=False)


if __name__ == "__main__":
    main()
