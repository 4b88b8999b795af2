"""What `generate()` keeps between two steps: one state a layer, however long the text."""

from __future__ import annotations

from torch import Tensor

from loihi_mmfree.model.language_model import State


class RecurrentCache:
    """The recurrent state of a batch of texts, changed in place by every call of the model.

    An empty one stands for the beginning of the texts. It goes by the names that transformers asks for.
    """

    is_compileable = False

    def __init__(self) -> None:
        self.state: State | None = None
        """Tensors of float64 [B, H'], one a layer."""
        self._columns = 0

    def update(self, state: State, columns: int) -> None:
        """Take the state after so many more columns of the batch."""
        self.state = state
        self._columns += columns

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns were read, padding included."""
        return self._columns

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put the state of text beam_idx[b] in place b, as beam search asks for."""
        if self.state is not None:
            self.state = [each.index_select(0, beam_idx.to(each.device)) for each in self.state]
