"""NumPy's global random numbers, a stream of their own for each actor.

Stock Lava forks an OS process for every ProcessModel, and with it the state of `np.random`: each draws from where
the host was at the fork, whatever the others draw. Within one OS process the state is exchanged with the actor
that runs, but only from the first time that it draws: most never do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable
from typing import Any

import numpy as np

_WORDS = 625
"""Of the state of MT19937, in its memory: 624 words of 32 bits, and the position of the next among them."""


class RandomStreams:
    """Who draws from which state of `np.random`. It begins as a fork: everybody has a copy of the state there is.

    Attributes
    ----------
    words : sequence of int
        The memory of the generator's state.
    word, position : int
        `words[1]` and `words[624]` when nobody had drawn yet in this turn: one of them is another after any draw.
    own : dict of Hashable to state
        Of those whose state is another than at the fork; if it is empty, there is nothing to exchange.
    """

    def __init__(self) -> None:
        self._generator = np.random.get_bit_generator()  # Kept, for its memory is looked at.
        self._fork = np.random.get_state(legacy=False)
        self.own: dict[Hashable, Any] = {}
        if isinstance(self._generator, np.random.MT19937):
            address = self._generator.ctypes.state_address
            self.words: Any = memoryview((ctypes.c_uint32 * _WORDS).from_address(address)).cast("B").cast("I")
        else:
            self.words = [0] * _WORDS
        # Draws that the memory does not show: half of a pair of normal numbers is kept elsewhere.
        self._shows_draws = isinstance(self._generator, np.random.MT19937) and not self._fork["has_gauss"]
        if not self._shows_draws:
            self.own[None] = self._fork
        self._remember()

    def exchange(self, leaving: Hashable, entering: Hashable) -> None:
        """Keep the state of one who drew, and put the state of the next in place."""
        if leaving is entering:
            return
        if leaving in self.own or self._has_drawn() or not self._shows_draws:
            self.own[leaving] = np.random.get_state(legacy=False)
        elif entering not in self.own:
            return
        np.random.set_state(self.own.get(entering, self._fork))
        self._remember()

    def _has_drawn(self) -> bool:
        return bool(self.words[1] != self.word or self.words[_WORDS - 1] != self.position)

    def _remember(self) -> None:
        self.word, self.position = self.words[1], self.words[_WORDS - 1]
