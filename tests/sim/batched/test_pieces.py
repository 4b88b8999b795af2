"""Sequences of any lengths go through in pieces, and every token is in exactly one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from loihi_mmfree.sim.batched.pieces import TokenRows
from loihi_mmfree.sim.pieces import cut

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=9)


@given(LENGTHS, st.integers(1, 60))
def test_pieces_follow_each_other_in_every_sequence_and_none_is_too_large(lengths: list[int], rows: int) -> None:
    done = [0] * len(lengths)
    for spans in cut(lengths, rows):
        assert 0 < sum(end - begin for begin, end in spans) <= rows
        assert [begin for begin, _ in spans] == done
        done = [end for _, end in spans]
    assert done == lengths


@given(LENGTHS, st.integers(1, 60))
def test_a_piece_is_full_unless_it_is_the_last(lengths: list[int], rows: int) -> None:
    sizes = [sum(end - begin for begin, end in spans) for spans in cut(lengths, rows)]
    assert all(size == rows for size in sizes[:-1])


@given(LENGTHS)
def test_steps_walk_through_every_row_in_the_order_of_its_sequence(lengths: list[int]) -> None:
    piece = TokenRows(tuple(lengths), torch.device("cpu"))
    owner = [sequence for sequence, length in enumerate(lengths) for _ in range(length)]
    assert piece.sequences.tolist() == owner
    assert piece.starts.tolist() == [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    seen: list[list[int]] = [[] for _ in lengths]
    for sequences, rows in piece.steps():
        assert len(set(sequences.tolist())) == len(sequences)
        for sequence, row in zip(sequences.tolist(), rows.tolist(), strict=True):
            assert owner[row] == sequence
            seen[sequence].append(row)
    assert [row for rows in seen for row in rows] == list(range(sum(lengths)))
