"""From a path to a `Checkpoint`: find the files, read the configuration, check what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loihi_mmfree.checkpoint.config import ModelConfig
from loihi_mmfree.checkpoint.readers import SafetensorsFile, WeightFile, open_torch_file
from loihi_mmfree.checkpoint.tensors import (
    EMBEDDING,
    HEAD,
    StoredTensor,
    canonical_name,
    check_tensors,
    expected_shapes,
    is_projection,
)
from loihi_mmfree.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# In the order in which Hugging Face looks for them.
FOLDER_CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
LARGEST_JSON_BYTES = 64 * 2**20
# Upstream never scales a weight by more than 1e5, so a matrix within +-0.5e-5 becomes zeros only.
LARGEST_VANISHING_WEIGHT = 0.5e-5


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint. Tensors are read from disk one at a time, when asked for.

    Parameters
    ----------
    path : Path
        What was opened: a folder or a file.
    config : ModelConfig
        The shape of the model.
    tokenizer_path : Path or None
        `tokenizer.json` beside the weights, if there is one.
    hashed_files : tuple of Path
        The files that `sha256` covers, in its order.
    """

    path: Path
    config: ModelConfig
    tokenizer_path: Path | None
    hashed_files: tuple[Path, ...]
    _sources: Mapping[str, tuple[WeightFile, str]] = field(repr=False)

    def names(self) -> tuple[str, ...]:
        """Return the upstream names of all tensors, in the order of the data flow."""
        return tuple(expected_shapes(self.config))

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor as float32 on the CPU.

        With tied embeddings `lm_head.weight` is the embedding.

        Raises
        ------
        CheckpointError
            It holds NaN or infinity, or it is a projection of which every ternary code would be zero.
        """
        import torch

        tied = self.config.tie_word_embeddings
        file, stored_name = self._sources[EMBEDDING if tied and name == HEAD else name]
        # A copy, so that nothing refers to the file any more.
        tensor = file.read(stored_name).detach().to(torch.float32, copy=True).contiguous()
        _check_finite(tensor, name, file.path)
        if is_projection(name) and tensor.abs().max().item() <= LARGEST_VANISHING_WEIGHT:
            raise CheckpointError(
                f"{file.path}: {name} is zero throughout (largest magnitude {tensor.abs().max().item():g}), "
                "so that it has no ternary scale; the file is damaged or the model untrained"
            )
        if tied and name == HEAD and HEAD in self._sources:
            self._check_tie(tensor)
        return tensor

    def sha256(self) -> str:
        """Return the SHA-256 of the weight files, by name, and then config.json, as hexadecimal digits.

        The length of each file goes in front of its content, so that no two splits hash alike.
        """
        digest = hashlib.sha256()
        for path in self.hashed_files:
            digest.update(path.stat().st_size.to_bytes(8, "little"))
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
        return digest.hexdigest()

    def _check_tie(self, embedding: torch.Tensor) -> None:
        file, stored_name = self._sources[HEAD]
        if not file.read(stored_name).to(embedding.dtype).equal(embedding):
            raise CheckpointError(
                f"{file.path}: tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}; "
                "correct the one that is wrong"
            )


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open and check a checkpoint without reading its weights.

    Parameters
    ----------
    path : str or Path
        A Hugging Face folder (`model.safetensors` or `pytorch_model.bin`, single or sharded), a
        .safetensors file with config.json beside it, or a .pt, .pth or .bin file that holds a state
        dict, with the configuration inside it or beside it.

    Raises
    ------
    CheckpointError
        Something is missing, damaged, unsafe, or does not match the configuration.
    UnsupportedModelError
        The model is of a kind that is not supported.
    """
    path = Path(path)
    files = _open_weight_files(path)
    folder = files[0].path.parent
    config_path = folder / "config.json"
    hashed_files = tuple(file.path for file in files)
    if files[0].config is not None:
        config = ModelConfig.from_dict(files[0].config, f"{files[0].path} (config)")
    elif config_path.is_file():
        config = ModelConfig.from_dict(_read_json(config_path), str(config_path))
        hashed_files += (config_path,)
    else:
        raise CheckpointError(f"{path}: no config.json in {folder}; put the model's configuration there")
    sources, stored = _merge_catalogs(files)
    check_tensors(stored, config, str(path))
    tokenizer_path = folder / "tokenizer.json"
    return Checkpoint(path, config, tokenizer_path if tokenizer_path.is_file() else None, hashed_files, sources)


def _open_weight_files(path: Path) -> list[WeightFile]:
    """Return the weight files behind a path, ordered by name."""
    if path.is_dir():
        found = next((path / name for name in FOLDER_CANDIDATES if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{path}: no weights; expected one of {', '.join(FOLDER_CANDIDATES)}")
        path = found
    elif not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder; give a checkpoint folder or a weight file")
    if path.name.endswith(".index.json"):
        names = _shard_names(path)
        open_file = SafetensorsFile if ".safetensors." in path.name else open_torch_file
        return [open_file(path.parent / name) for name in names]
    if path.suffix == ".safetensors":
        return [SafetensorsFile(path)]
    if path.suffix in TORCH_SUFFIXES:
        return [open_torch_file(path)]
    raise CheckpointError(
        f"{path}: unknown kind of file; allowed: a folder, .safetensors, {', '.join(TORCH_SUFFIXES)}"
    )


def _shard_names(index: Path) -> list[str]:
    """Return the shards that an index names, after checking that they are files of its own folder."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; the index is damaged")
    names = set(map(str, weight_map.values()))
    # Plain names only, on every system. A link of that name is followed: caches are built of links.
    unsafe = sorted(name for name in names if name in ("", ".", "..") or set(name) & set("/\\:\0"))
    if unsafe:
        raise CheckpointError(f"{index}: shard names must be plain file names of the same folder, found {unsafe}")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise CheckpointError(f"{index}: missing shards in {index.parent}: {', '.join(missing)}")
    return sorted(names)


def _merge_catalogs(
    files: list[WeightFile],
) -> tuple[dict[str, tuple[WeightFile, str]], dict[str, StoredTensor]]:
    """Return where each tensor is and what it is, by upstream name."""
    sources: dict[str, tuple[WeightFile, str]] = {}
    stored: dict[str, StoredTensor] = {}
    for file in files:
        for stored_name, tensor in file.catalog().items():
            name = canonical_name(stored_name)
            if name in sources:
                raise CheckpointError(f"{file.path}: {name} occurs again, it is in {sources[name][0].path} too")
            sources[name] = (file, stored_name)
            stored[name] = tensor
    return sources, stored


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of reasonable size."""
    try:
        size = path.stat().st_size
        if size > LARGEST_JSON_BYTES:
            raise CheckpointError(f"{path}: {size} bytes; at most {LARGEST_JSON_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a JSON object")
    return content


def _check_finite(tensor: torch.Tensor, name: str, path: Path) -> None:
    bad = ~tensor.isfinite()
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise CheckpointError(
            f"{path}: {name} holds {int(bad.sum())} values that are NaN or infinite, "
            f"the first ({tensor[first].item()}) at {list(first)}"
        )
