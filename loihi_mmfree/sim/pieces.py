"""How the tokens of many sequences are cut into pieces that go through a network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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
