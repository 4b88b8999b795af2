"""The `loihi-mmfree` program: how it ends."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys

from loihi_mmfree.interrupts import ENDING, ProgramEnd


def _open_streams() -> None:
    """Put nothing in the place of a closed stdin, stdout or stderr, before a file of ours takes its number.

    Characters that a terminal's encoding lacks are shown as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open as long as the program runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the program; an interrupt ends it with one message and 128 + the number of the signal."""
    # Before anything is imported that takes time, and may catch whatever an interrupt raises.
    end = ProgramEnd()
    end.install()
    _open_streams()
    try:
        from loihi_mmfree.cli.app import call

        call()
    except BaseException:
        if end.number is None:
            raise
        # Whatever was raised: modules turn what an interrupt raises in their import into errors of their own.
        with contextlib.suppress(OSError):
            print("interrupted; nothing was left half done", file=sys.stderr, flush=True)
            sys.stdout.flush()
        # All is undone. Python's own end takes seconds with torch loaded, and may stumble over half an import.
        os._exit(128 + end.number)
    finally:
        # From here on there is nothing to undo, and handlers in Python would print tracebacks.
        for each in ENDING:
            signal.signal(each, signal.SIG_DFL)


if __name__ == "__main__":
    main()
