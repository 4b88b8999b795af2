"""Room in the core's memories: who lies where, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Room:
    """A memory, of which parts are given out and come back.

    Attributes
    ----------
    words : int
        How many were needed at most.
    """

    words: int = 0
    _held: list[tuple[int, int, int]] = field(default_factory=list)

    def take(self, words: int, now: int, until: int) -> int:
        """Return the first word of a part that nobody else holds.

        Parameters
        ----------
        words : int
        now : int
            Whoever holds a part until an earlier moment has given it back.
        until : int
            When the part is read last.
        """
        self._held = sorted(each for each in self._held if each[2] >= now)
        first = 0
        for begin, end, _ in self._held:
            if begin - first >= words:
                break
            first = max(first, end)
        self._held.append((first, first + words, until))
        self.words = max(self.words, first + words)
        return first
