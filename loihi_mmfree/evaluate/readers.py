"""What reads texts and gives logits: the integers of a network on any backend, and the float model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.evaluate.texts import Text
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.sim.backend import Backend

if TYPE_CHECKING:
    from torch import Tensor

    from loihi_mmfree.model.language_model import MatMulFreeLM
    from loihi_mmfree.sim.batched.engine import BatchedEngine
    from loihi_mmfree.sim.engine.compiled import FastEngine

TakeRows = Callable[["NDArray[Any] | Tensor", NDArray[np.int64], NDArray[np.int64]], None]
"""Called with logits [t, V], good until the call returns, the texts they belong to [t], and the positions in these
[t] of the tokens that were read last."""
ROWS = 64
"""TokenScores of logits that the float model computes at once on a processor; on a GPU so many times 32."""


class DeviceMemoryError(Exception):
    """A GPU has not enough memory for so many texts at once."""


class Reader(Protocol):
    """Reads texts, each from an empty state. Implementations inherit from this class."""

    scale: float
    """Real value of one unit of a logit."""
    together: int
    """Items that are read at once, unless told otherwise."""

    def read(self, texts: Sequence[Text], take: TakeRows) -> None:
        """Read texts without their last tokens, and give the logits after every token in order, some at a time.

        `take` may be called from several threads at once, never for the same text.

        Raises
        ------
        DeviceMemoryError
            The texts are too many for the GPU.
        """

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        return Counters()

    def close(self) -> None:
        """Release everything."""
        return


class BackendReader(Reader):
    """Reads one text after the other.

    Parameters
    ----------
    backend : Backend
    """

    def __init__(self, backend: Backend) -> None:
        self.scale = backend.logit_scale
        self.together = 4
        self.backend = backend
        """The same for one sequence."""

    def read(self, texts: Sequence[Text], take: TakeRows) -> None:
        """See `Reader.read`."""
        for number, text in enumerate(texts):
            _read_one(self.backend, text.ids[:-1], number, take)

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        return self.backend.counters

    def close(self) -> None:
        """Release everything."""
        self.backend.close()


def _read_one(backend: Backend, ids: NDArray[np.int64], number: int, take: TakeRows) -> None:
    """Read one text."""
    done = 0

    def give(logits: NDArray[np.int32]) -> None:
        nonlocal done
        positions = np.arange(done, done + len(logits))
        done += len(logits)
        take(logits, np.full(len(logits), number), positions)

    backend.reset()
    backend.read(ids, give)


class EngineReader(Reader):
    """Reads many texts at once, shared out over engines side by side.

    Parameters
    ----------
    engines : sequence of FastEngine
        All of the same network.
    """

    def __init__(self, engines: Sequence[FastEngine]) -> None:
        self.scale = engines[0].logit_scale
        self.together = 4 * len(engines)
        self.backend: Backend = engines[0]
        """One of them, for one sequence."""
        self._engines = engines

    def read(self, texts: Sequence[Text], take: TakeRows) -> None:
        """See `Reader.read`."""
        longest_first = sorted(range(len(texts)), key=lambda number: -len(texts[number].ids))

        def read_share(place: int) -> None:
            engine, numbers = self._engines[place], np.array(longest_first[place :: len(self._engines)])
            engine.begin(len(numbers))
            engine.read_batch(
                [texts[number].ids[:-1] for number in numbers],
                lambda logits, sequences, positions: take(logits, numbers[sequences], positions),
            )

        busy = min(len(self._engines), len(texts))
        if busy == 1:
            read_share(0)
            return
        with ThreadPoolExecutor(busy) as pool:
            for _ in pool.map(read_share, range(busy)):
                pass

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        return Counters.total([each.counters for each in self._engines])

    def close(self) -> None:
        """Release everything."""
        for each in self._engines:
            each.close()


class BatchReader(Reader):
    """Reads all texts at once on a device.

    Parameters
    ----------
    engine : BatchedEngine
    """

    def __init__(self, engine: BatchedEngine) -> None:
        self.scale = engine.logit_scale
        self.together = 64 if engine.device.type == "cuda" else 4
        self.backend: Backend = engine
        """The same for one sequence."""
        self._engine = engine

    def read(self, texts: Sequence[Text], take: TakeRows) -> None:
        """See `Reader.read`."""
        on_gpu = self._engine.device.type == "cuda"
        with _device_memory():
            self._engine.begin(len(texts))
            self._engine.read_batch(
                [text.ids[:-1] for text in texts],
                lambda found: take(
                    found.values if on_gpu else found.values.numpy(), found.sequences, found.positions
                ),
            )

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        return self._engine.counters

    def close(self) -> None:
        """Release everything."""
        self._engine.close()


class FloatReader(Reader):
    """Reads texts with the float model; its numbers do not depend on what is read together (`model.ternary`).

    Parameters
    ----------
    model : MatMulFreeLM
        On the device where it is to compute.
    """

    def __init__(self, model: MatMulFreeLM) -> None:
        self.scale = 1.0
        self._model = model.freeze()
        self._device = model.model.embeddings.weight.device
        self._on_gpu = self._device.type == "cuda"
        self.together = 64 if self._on_gpu else 8

    def hidden(self, texts: Sequence[Text]) -> Tensor:
        """Return what the head reads after every token, [texts, T, H]; behind the end of a text it means nothing.

        Raises
        ------
        DeviceMemoryError
            The texts are too many for the GPU.
        """
        import torch

        padded = np.zeros((len(texts), max(len(text.ids) for text in texts) - 1), dtype=np.int64)
        for row, text in zip(padded, texts, strict=True):
            row[: len(text.ids) - 1] = text.ids[:-1]
        with torch.no_grad(), _device_memory():
            return self._model.model(torch.from_numpy(padded).to(self._device), None)[0]

    def logits(
        self, hidden: Tensor, texts: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> NDArray[Any] | Tensor:
        """Return the logits [t, V] of some tokens of what `hidden` gave."""
        import torch

        with torch.no_grad():
            rows = hidden[torch.from_numpy(texts).to(self._device), torch.from_numpy(positions).to(self._device)]
            logits = self._model.lm_head(rows)
            return logits if self._on_gpu else logits.numpy()

    def read(self, texts: Sequence[Text], take: TakeRows) -> None:
        """See `Reader.read`."""
        hidden = self.hidden(texts)
        lengths = np.array([len(text.ids) - 1 for text in texts])
        numbers = np.repeat(np.arange(len(texts)), lengths)
        positions = np.concatenate([np.arange(length) for length in lengths])
        step = ROWS * 32 if self._on_gpu else ROWS
        with _device_memory():
            for begin in range(0, len(numbers), step):
                part = slice(begin, begin + step)
                take(self.logits(hidden, numbers[part], positions[part]), numbers[part], positions[part])


@contextlib.contextmanager
def _device_memory() -> Iterator[None]:
    """Say in one way that a GPU has no memory left: PyTorch and Triton have two."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise DeviceMemoryError(str(error).splitlines()[0]) from error
