"""Which part of a PyTorch file is the model: a state dict may lie deep in the state of a training run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.checkpoint.tensors import is_of_a_model
from loihi_mmfree.checkpoint.unpickle import StoredView
from loihi_mmfree.checkpoint.wording import listed, quoted, shown
from loihi_mmfree.errors import CheckpointError

DEEPEST = 32
LONGEST_LIST = 64


@dataclass(frozen=True)
class ModelState:
    """The model within a file.

    Parameters
    ----------
    tensors : mapping of str to StoredView
    config : mapping or None
        The model's configuration, where one lies beside its tensors.
    notices : tuple of str
        What was chosen and what was left.
    """

    tensors: Mapping[str, StoredView]
    config: Mapping[str, Any] | None
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A dictionary somewhere within others, the outermost first."""

    keys: tuple[str, ...]
    chain: tuple[dict[Any, Any], ...]

    @property
    def inner(self) -> dict[Any, Any]:
        return self.chain[-1]


def find_model(content: Any, path: Path) -> ModelState:
    """Return the one dictionary of a model's tensors, wherever it lies.

    Raises
    ------
    CheckpointError
        There is none, or there are several.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {shown(content)}; expected a state dict")
    found = [place for place in _dictionaries(content) if any(map(_is_tensor_of_a_model, place.inner.items()))]
    if not found:
        keys = listed([quoted(key) for key in list(content)[:LONGEST_LIST]])
        raise CheckpointError(
            f"{path}: holds no tensors of a MatMul-free model; expected names like model.embeddings.weight, alone "
            f"or within the state of a training run; found {keys or 'nothing'}"
        )
    if len(found) > 1:
        raise CheckpointError(
            f"{path}: holds {len(found)} sets of a model's tensors, in "
            f"{listed([_in_words(place.keys) for place in found])}; save the one that is meant alone"
        )
    (place,) = found
    tensors = {name: value for name, value in place.inner.items() if isinstance(value, StoredView)}
    if not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(f"{path}: a tensor has a name that is no text; expected named tensors only")
    config, said = _configuration(place)
    left = [key for inner in place.chain for key in inner if key not in tensors and key not in place.keys]
    left = [key for key in left if config is None or key != said]
    notices = []
    if place.keys or left:
        rest = f"; not used: {listed([quoted(key) for key in left])}" if left else ""
        where = f"in {_in_words(place.keys)}" if place.keys else "at the top"
        notices.append(f"{path.name}: the model's tensors are those {where}{rest}")
    return ModelState(tensors, config, tuple(notices))


def _is_tensor_of_a_model(entry: tuple[Any, Any]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], StoredView) and is_of_a_model(entry[0])


def _dictionaries(content: dict[Any, Any]) -> Iterator[_Place]:
    """Every dictionary once, also one that several share, as far down as anybody nests them."""
    waiting, seen = [_Place((), (content,))], {id(content)}
    while waiting:
        place = waiting.pop()
        yield place
        if len(place.keys) == DEEPEST:
            continue
        for key, value in place.inner.items():
            if isinstance(value, dict) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(_Place((*place.keys, key), (*place.chain, value)))


def _in_words(keys: tuple[str, ...]) -> str:
    return " > ".join(map(quoted, keys)) or "the whole"


def _configuration(place: _Place) -> tuple[Mapping[str, Any] | None, str | None]:
    """The model's configuration beside its tensors or further out, and its key.

    One that names no `model_type` is of the training run.
    """
    for inner in reversed(place.chain):
        for key, value in inner.items():
            if isinstance(value, dict) and "model_type" in value:
                return {str(name): _plain(each) for name, each in value.items()}, key
    return None, None


def _plain(value: Any) -> Any:
    """A value as a config.json could hold it; what is nested is only named, for it may be shared without end."""
    if isinstance(value, list | tuple):
        flat = all(each is None or isinstance(each, bool | int | float | str) for each in value[:LONGEST_LIST])
        return list(value) if flat and len(value) <= LONGEST_LIST else f"<{type(value).__name__}>"
    return value if value is None or isinstance(value, bool | int | float | str) else f"<{type(value).__name__}>"
