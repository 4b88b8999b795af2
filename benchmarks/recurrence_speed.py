"""Time the MLGRU of one layer as a loop over tokens, as a parallel scan, and on a GPU as kernels.

The scan's states must be the loop's to the bit; the kernels compute sigmoids by another routine, so the largest
difference is shown. Milliseconds, the median of repeats: of the states, and of the states and all gradients.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from loihi_mmfree.model.fused.availability import fused_for
from loihi_mmfree.model.recurrence import loop, scan

Run = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Pre-activations i and f [B, T, C] and a state [B, C] to the states [B, T, C]."""


def runs(device: torch.device) -> dict[str, Run]:
    """Return what there is to time on a device."""

    def plain(recurrence: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Run:
        return lambda i, f, state: recurrence(f.sigmoid(), F.silu(i) * (1 - f.sigmoid()), state)[0]

    found = {"loop": plain(loop), "scan": plain(scan)}
    if fused_for(torch.empty(0, device=device)):
        from loihi_mmfree.model.fused.mlgru import mlgru

        found["kernels"] = lambda i, f, state: mlgru(i, f, None, state, None)[0]
    return found


def milliseconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median time of some repeats, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="sequences (default 1 8)")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a sequence (default 512)")
    parser.add_argument("--channels", type=int, default=1024, help="channels of a layer (default 1024)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="torch device (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats (default 5)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    for batch in arguments.batch:
        shape = (batch, arguments.tokens, arguments.channels)
        i, f = (torch.randn(shape, device=arguments.device).requires_grad_() for _ in range(2))
        state = torch.randn(shape[::2], dtype=torch.float64, device=arguments.device).requires_grad_()
        gradient = torch.randn(shape, device=arguments.device)
        print(" x ".join(map(str, shape)))
        with torch.no_grad():
            expected = loop(f.sigmoid(), F.silu(i) * (1 - f.sigmoid()), state)[0]
        for name, run in runs(arguments.device).items():

            def states(run: Run = run, given: tuple[Tensor, ...] = (i, f, state)) -> Tensor:
                with torch.no_grad():
                    return run(*given)

            def gradients(
                run: Run = run, given: tuple[Tensor, ...] = (i, f, state), outer: Tensor = gradient
            ) -> None:
                torch.autograd.grad(run(*given), given, outer)

            apart = (states() - expected).abs().max().item()
            found = [milliseconds(each, arguments.repeats, arguments.device) for each in (states, gradients)]
            print(
                f"  {name}: {found[0]:.2f} states, {found[1]:.2f} with gradients; differs by {apart:.1e} at most"
            )


if __name__ == "__main__":
    main()
