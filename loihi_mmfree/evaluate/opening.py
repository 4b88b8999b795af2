"""From paths to what scores: a network's integers, a checkpoint's float model, or both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.readers import BackendReader, BatchReader, EngineReader, FloatReader
from loihi_mmfree.evaluate.scorer import ReadingScorer, Scorer
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.net.artifact import Net, load_net, network_sha256
from loihi_mmfree.net.folder import MANIFEST
from loihi_mmfree.sim.backend import Backend
from loihi_mmfree.sim.session.opening import Choice, open_backend, prepare
from loihi_mmfree.text import Tokenizer, counted

if TYPE_CHECKING:
    import torch

    from loihi_mmfree.checkpoint import Checkpoint
    from loihi_mmfree.model.language_model import MatMulFreeLM

MOST_ENGINES = 8
"""Engines that read at the same time at most, each with its share of the processors."""
INTEGERS, FLOAT = "integers", "float"
GRAPH_BACKENDS = ("engine", "torch")
"""What runs a lowered graph as it is, with no network around it."""


@dataclass(frozen=True)
class Model:
    """A model that is evaluated.

    Parameters
    ----------
    path : str
    kind : {"integers", "float"}
        A network, or a checkpoint's float model.
    sha256 : str
        Of a network's graph and weights, or of a checkpoint.
    computed_by : str
        What computes, for people.
    """

    path: str
    kind: str
    sha256: str
    computed_by: str

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on: of a float model also where it computes, since exponentials differ there."""
        return [self.kind, self.sha256, *([self.computed_by] if self.kind == FLOAT else [])]


@dataclass(frozen=True)
class Opened:
    """What is evaluated, ready to score.

    Parameters
    ----------
    scorer : Scorer
    tokenizer : Tokenizer
    vocab_size : int
    model : Model
    reference : Model, optional
        The float model, in a paired comparison.
    backend : Backend, optional
        What reads a network, for one sequence; while nothing is scored.
    """

    scorer: Scorer
    tokenizer: Tokenizer
    vocab_size: int
    model: Model
    reference: Model | None = None
    backend: Backend | None = None

    def close(self) -> None:
        """Release what scores."""
        self.scorer.close()


def is_net(model: Net | str | Path) -> bool:
    """Whether this is a compiled network, and no checkpoint."""
    return isinstance(model, Net) or (Path(model) / MANIFEST).exists()


def open_model(
    model: Net | str | Path,
    checkpoint: str | Path | None = None,
    backend: str | None = None,
    device: str | None = None,
) -> Opened:
    """Open a network or a checkpoint.

    Parameters
    ----------
    model : Net, str or Path
        A network, whose integers run, or a checkpoint, whose float model runs.
    checkpoint : str or Path, optional
        What the network was compiled from: its float model is scored beside the integers.
    backend : str, optional
        What runs the integers (`sim.session.opening.Choice`); by default "torch" where there is a GPU and the
        device is not "cpu", else "engine".
    device : str, optional
        Where PyTorch computes, "cuda" or "cpu"; by default a GPU if there is one.

    Raises
    ------
    UsageError
        Options or models do not go together, or there is no tokenizer.
    BackendUnavailableError
        There is no such backend or device here.
    """
    if is_net(model):
        return _open_net(model if isinstance(model, Net) else load_net(model), checkpoint, backend, device)
    if checkpoint is not None or backend is not None:
        given = "`checkpoint`" if checkpoint is not None else f"`backend={backend!r}`"
        raise UsageError(f"{given} is for a compiled network, and {model} is none; give the network's folder")
    assert not isinstance(model, Net)
    opened = open_checkpoint(model)
    tokenizer = _tokenizer(opened.tokenizer_path, model)
    place = _device(device)
    reader = FloatReader(_float_model(opened, place))
    about = Model(str(model), FLOAT, opened.sha256(), f"PyTorch, {place.type}")
    return Opened(ReadingScorer(reader), tokenizer, opened.config.vocab_size, about)


def _open_net(net: Net, checkpoint: str | Path | None, backend: str | None, device: str | None) -> Opened:
    tokenizer = _tokenizer(net.tokenizer_path, net.path)
    compiled = None if checkpoint is None else _checkpoint_of(net, checkpoint)
    choice = choose(backend, device)
    prepare(choice)
    reader: BackendReader | BatchReader | EngineReader
    if choice.backend in GRAPH_BACKENDS:
        reader, computed_by = graph_reader(net.graph, choice)
    else:
        reader, computed_by = BackendReader(open_backend(net, choice)), str(choice)
    about = Model(str(net.path), INTEGERS, network_sha256(net.path), computed_by)
    if compiled is None:
        return Opened(ReadingScorer(reader), tokenizer, net.vocab_size, about, backend=reader.backend)
    beside, place = float_reader(compiled, choice)
    reference = Model(str(checkpoint), FLOAT, compiled.sha256(), f"PyTorch, {place.type}")
    return Opened(ReadingScorer(reader, beside), tokenizer, net.vocab_size, about, reference, reader.backend)


def _checkpoint_of(net: Net, checkpoint: str | Path) -> Checkpoint:
    """The checkpoint, if it is what the network was compiled from."""
    opened = open_checkpoint(checkpoint, net.manifest["config"].get("ternary_scale", "absmean"))
    found, compiled = opened.sha256(), net.manifest["checkpoint_sha256"]
    if found != compiled:
        raise UsageError(
            f"`checkpoint` {checkpoint}: not what {net.path} was compiled from: SHA-256 {found[:16]}…, compiled "
            f"from {compiled[:16]}…; give that checkpoint, or compile this one"
        )
    return opened


def choose(backend: str | None, device: str | None) -> Choice:
    """Return what runs the integers: by default torch where there is a GPU, else the engine.

    Raises
    ------
    BackendUnavailableError
        There is no such device here.
    """
    name = backend or _default_backend(device)
    # Others than torch compute on the processor anyway, and refuse the name of another device.
    place = str(_device(device)) if name == "torch" else None if device == "cpu" else device
    return Choice(backend=name, device=place)


def float_reader(checkpoint: Checkpoint, choice: Choice) -> tuple[FloatReader, torch.device]:
    """Return the float model beside what runs the integers, and where it computes."""
    place = _device(choice.device if choice.backend == "torch" else "cpu")
    return FloatReader(_float_model(checkpoint, place)), place


def graph_reader(graph: Graph, choice: Choice) -> tuple[BatchReader | EngineReader, str]:
    """Return what reads a lowered graph, on a backend of `GRAPH_BACKENDS`, and its name."""
    if choice.backend == "torch":
        from loihi_mmfree.sim.batched.engine import BatchedEngine, open_device

        return BatchReader(BatchedEngine(graph, open_device(choice.device))), str(choice)
    from loihi_mmfree.sim.engine.compiled import FastEngine
    from loihi_mmfree.sim.engine.team import available_threads

    threads = max(1, available_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    count = min(threads, MOST_ENGINES)
    # Texts are independent: so many engines are faster than one with as many threads, which wait for each other.
    engines = [FastEngine(graph, strict=True, threads=threads // count) for _ in range(count)]
    return EngineReader(engines), f"{choice}, {counted(threads, 'thread')}"


def _default_backend(device: str | None) -> str:
    if device is not None and device != "cpu":
        return "torch"
    if device == "cpu":
        return "engine"
    import torch

    return "torch" if torch.cuda.is_available() else "engine"


def _device(name: str | None) -> torch.device:
    """The device for this process: of several GPUs the one that torchrun or Accelerate mean for it."""
    from loihi_mmfree.sim.batched.engine import open_device

    place, local = open_device(name), os.environ.get("LOCAL_RANK")
    if place.type == "cuda" and place.index is None and local is not None:
        return open_device(f"cuda:{local}")
    return place


def _float_model(checkpoint: Checkpoint, device: torch.device) -> MatMulFreeLM:
    from loihi_mmfree.model.language_model import MatMulFreeLM

    return MatMulFreeLM.from_checkpoint(checkpoint).to(device)


def _tokenizer(path: Path | None, model: str | Path) -> Tokenizer:
    if path is None:
        raise UsageError(f"{model}: has no tokenizer.json or tokenizer.model, so that no text can be read")
    return Tokenizer(path)
