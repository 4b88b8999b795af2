"""Tokens of many sequences in rows, one sequence behind the other: nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenRows:
    """Some tokens of some sequences.

    Parameters
    ----------
    lengths : tuple of int
        Tokens of each sequence; may be 0.
    device : torch.device
    """

    lengths: tuple[int, ...]
    device: torch.device

    @property
    def rows(self) -> int:
        """All tokens."""
        return sum(self.lengths)

    @property
    def starts(self) -> Tensor:
        """The first row of each sequence, and behind the last one the number of rows: int32 [sequences + 1]."""
        return torch.tensor([0, *self.lengths], dtype=torch.int32, device=self.device).cumsum(0, dtype=torch.int32)

    @property
    def sequences(self) -> Tensor:
        """The sequence of each row, int32 [N]."""
        lengths = torch.tensor(self.lengths, device=self.device)
        numbers = torch.arange(len(self.lengths), dtype=torch.int32, device=self.device)
        return torch.repeat_interleave(numbers, lengths)

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give, token by token, the sequences that have one and the rows of these, int64 each."""
        lengths = torch.tensor(self.lengths, device=self.device)
        first = lengths.cumsum(0) - lengths
        # Longest first: those that have a token left are always the first ones.
        order = torch.argsort(lengths, descending=True, stable=True)
        sorted_lengths = sorted(self.lengths, reverse=True)
        left = len(sorted_lengths)
        for step in range(sorted_lengths[0] if sorted_lengths else 0):
            while sorted_lengths[left - 1] <= step:
                left -= 1
            yield order[:left], first[order[:left]] + step


def cut(lengths: Sequence[int], rows: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut sequences into pieces of at most `rows` rows, each with as many tokens of every sequence as it can.

    Gives, for each piece, the first and the last token but one of every sequence.
    """
    done = [0] * len(lengths)
    while any(have < length for have, length in zip(done, lengths, strict=True)):
        left = [length - have for have, length in zip(done, lengths, strict=True)]
        share = _level(left, rows)
        spare = rows - sum(min(share, each) for each in left)
        taken = []
        for have, each in zip(done, left, strict=True):
            count = min(share, each)
            if count < each and spare > 0:
                count, spare = count + 1, spare - 1
            taken.append((have, have + count))
        done = [end for _, end in taken]
        yield tuple(taken)


def _level(left: Sequence[int], rows: int) -> int:
    """Return how many tokens every sequence can have at most, so that there are no more than `rows` rows."""
    low, high = 0, max(left)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(middle, each) for each in left) <= rows:
            low = middle
        else:
            high = middle - 1
    return low
