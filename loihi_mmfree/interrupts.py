"""Ctrl-C (SIGINT) and a request to end (SIGTERM): when they take effect, so that nothing stays half done."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = signal.SIGINT, signal.SIGTERM


class ProgramEnd:
    """What a program does with SIGINT and SIGTERM: it leaves by SystemExit, with 128 + the signal's number.

    Modules that try in an `except:` whether another can be imported catch that, and go on. So from then on each
    import of another module leaves again.

    Attributes
    ----------
    number : int, optional
        The signal that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def install(self) -> None:
        """Take both signals."""
        for each in ENDING:
            signal.signal(each, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal and leave."""
        self.number = number
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.find_spec()

    def find_spec(self, *_: object) -> None:
        """Leave if a signal came. Python asks this for every module that is not imported yet."""
        if self.number is not None:
            sys.exit(128 + self.number)


@contextlib.contextmanager
def deferred(*signals: signal.Signals) -> Iterator[list[int]]:
    """Within this block these signals have no effect yet; in OS processes started here, they never have.

    The block is given the list of those that came.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    earlier = {each: signal.getsignal(each) for each in signals}
    for each in earlier:
        signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        for each, handler in earlier.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Within this block modules are imported that take seconds: an interrupt must not leave half of them.

    In a notebook the interrupt waits for the end of the block, for half a torch cannot be imported again. A
    program (see ProgramEnd) ends at once; where an `except:` of a module has caught that, it ends with the block.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not isinstance(handler, ProgramEnd):
        with deferred(signal.SIGINT):
            yield
        return
    handler.find_spec()
    yield
    handler.find_spec()
