"""Time the recurrence of one layer as a loop over tokens and as a parallel scan, and hold their states equal.

Milliseconds, the least of some repeats: of the states, and of the states and all gradients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from loihi_mmfree.model.recurrence import loop, scan

RUNS = {"loop": loop, "scan": scan}


def milliseconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the least time of some repeats, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times[1:])


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
        forget, candidate = (torch.rand(shape, device=arguments.device).requires_grad_() for _ in range(2))
        state = torch.rand(shape[::2], dtype=torch.float64, device=arguments.device).requires_grad_()
        given = (forget, candidate, state)
        gradient = torch.rand(shape, device=arguments.device)
        with torch.no_grad():
            differ = int((loop(*given)[0] != scan(*given)[0]).sum())
        print(f"{' x '.join(map(str, shape))}: {differ} of {forget.numel()} states differ")
        for name, run in RUNS.items():

            def states(run: Callable[..., tuple[torch.Tensor, torch.Tensor]] = run, given: tuple = given) -> None:
                with torch.no_grad():
                    run(*given)

            def gradients(
                run: Callable[..., tuple[torch.Tensor, torch.Tensor]] = run,
                given: tuple = given,
                gradient: torch.Tensor = gradient,
            ) -> None:
                torch.autograd.grad(run(*given)[0], given, gradient)

            found = [milliseconds(each, arguments.repeats, arguments.device) for each in (states, gradients)]
            print(f"  {name}: {found[0]:.1f} states, {found[1]:.1f} with gradients")


if __name__ == "__main__":
    main()
