"""Tokens of many sequences in rows, one sequence behind the other: nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator
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
