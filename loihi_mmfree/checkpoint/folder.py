"""Which files a path means: a folder of Hugging Face, one file, shards behind an index, and what lies beside."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loihi_mmfree.checkpoint.readers import TORCH_SUFFIXES
from loihi_mmfree.checkpoint.source import read_json
from loihi_mmfree.checkpoint.wording import listed, quoted, shown
from loihi_mmfree.errors import CheckpointError

# In the order in which Hugging Face looks for them.
CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# What trainers of transformers write beside the weights.
NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scheduler.bin", "scaler.pt")
LARGEST_INDEX_BYTES = 64 * 2**20
MOST_SHARDS = 4096
_LONGEST_NAME_BYTES = 255
_SHARD = re.compile(r"(.+)-\d+-of-\d+(\.\w+)")


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold the weights.

    Parameters
    ----------
    paths : tuple of Path
        Ordered by name.
    notices : tuple of str
        What was chosen, and what lies beside and was not.
    """

    paths: tuple[Path, ...]
    notices: tuple[str, ...]


def find_weights(path: Path) -> WeightFiles:
    """Return the weight files behind a path: a folder, a file or an index.

    Raises
    ------
    CheckpointError
        There are none, it cannot be told which, or the path is one shard of several.
    """
    if path.is_dir():
        path, notices = _choose(path)
    else:
        _refuse_single_shard(path)
        notices = ()
    if path.name.endswith(".index.json"):
        return WeightFiles(tuple(path.parent / name for name in _shard_names(path)), notices)
    return WeightFiles((path,), notices)


def _choose(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file or index of a folder to read, and what is to be said about its neighbours."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}") from error
    adapters = [name for name in names if name in ADAPTERS]
    named = [name for name in CANDIDATES if name in names]
    others = [name for name in names if name.endswith(SUFFIXES) and not _is_known(name)]
    if not named and not others:
        only = "; there is an adapter only: merge it into its base model and save that" if adapters else ""
        raise CheckpointError(f"{folder}: no weights; expected one of {', '.join(CANDIDATES)}{only}")
    if not named and len(others) > 1:
        raise CheckpointError(
            f"{folder}: {len(others)} files of weights, {listed(list(map(shown, others)))}, and none of the "
            "names of Hugging Face; give the one that is meant"
        )
    chosen, *left = [*named, *others]
    notices = []
    if left:
        notices.append(
            f"the weights are those of {shown(chosen)}; beside it and not read: {listed(list(map(shown, left)))}"
        )
    if not named:
        notices.append(f"the weights are those of {shown(chosen)}, the only file of weights in the folder")
    if adapters:
        notices.append(
            f"{adapters[0]}: the adapter beside the weights is not merged; merge it first if it is meant"
        )
    return folder / chosen, tuple(notices)


def _is_known(name: str) -> bool:
    """Whether a file is something else than a second set of weights: a shard, an adapter, a trainer's state."""
    return (
        name in (*CANDIDATES, *ADAPTERS, *NO_WEIGHTS)
        or _SHARD.fullmatch(name) is not None
        or name.startswith(("rng_state", "."))
    )


def _refuse_single_shard(path: Path) -> None:
    """Raise if a file holds only some of the tensors."""
    match = _SHARD.fullmatch(path.name)
    if match and (path.parent / f"{match[1]}{match[2]}.index.json").is_file():
        raise CheckpointError(f"{path}: one shard of several; give the folder {path.parent}")


def _shard_names(index: Path) -> list[str]:
    """The shards that an index names, after checking that they are files of its own folder."""
    weight_map = read_json(index, LARGEST_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; the index is damaged")
    names = {name if isinstance(name, str) else "" for name in weight_map.values()}
    # Plain names only, on every system. A link of that name is followed: caches are built of links.
    unsafe = sorted(quoted(name) for name in names if not _is_plain(name))
    if unsafe:
        raise CheckpointError(
            f"{index}: shard names must be plain file names of the same folder, found {listed(unsafe)}"
        )
    if len(names) > MOST_SHARDS:
        raise CheckpointError(f"{index}: {len(names)} shards; at most {MOST_SHARDS} are read")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise CheckpointError(f"{index}: missing shards in {index.parent}: {listed(missing)}")
    return sorted(names)


def _is_plain(name: str) -> bool:
    if name in ("", ".", "..") or not name.isprintable() or set(name) & set("/\\:"):
        return False
    return len(name.encode("utf-8")) <= _LONGEST_NAME_BYTES
