"""From a path to a `Checkpoint`: find the files, read the configuration, check what they hold."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loihi_mmfree.checkpoint.config import ALIASES, ModelConfig, unused_keys
from loihi_mmfree.checkpoint.folder import find_weights
from loihi_mmfree.checkpoint.hub import fetch, is_hub_id
from loihi_mmfree.checkpoint.readers import WeightFile, open_weight_file
from loihi_mmfree.checkpoint.source import SourceFile, read_json
from loihi_mmfree.checkpoint.tensors import (
    EMBEDDING,
    HEAD,
    StoredTensor,
    canonical_names,
    check_tensors,
    expected_shapes,
    is_bookkeeping,
    is_projection,
)
from loihi_mmfree.checkpoint.wording import listed, quoted, shown
from loihi_mmfree.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch

TERNARY_SCALES = ("absmean", "stored")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
LARGEST_CONFIG_BYTES = 2**20
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
        `tokenizer.json` beside the weights, or else `tokenizer.model`, if there is one.
    hashed_files : tuple of SourceFile
        The files that `sha256` covers, in its order.
    notices : tuple of str
        What was chosen where there was a choice, for the user to know.
    ternary_scale : {"absmean", "stored"}
        The scale of a projection that is stored ternary already: its mean magnitude, as upstream computes it, or
        the one magnitude that its weights have.
    """

    path: Path
    config: ModelConfig
    tokenizer_path: Path | None
    hashed_files: tuple[SourceFile, ...]
    notices: tuple[str, ...]
    ternary_scale: str
    _sources: Mapping[str, tuple[WeightFile, str]] = field(repr=False)

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.hashed_files[0].path.parent

    def names(self) -> tuple[str, ...]:
        """Return the upstream names of all tensors, in the order of the data flow."""
        return tuple(expected_shapes(self.config))

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor as float32 on the CPU.

        With tied embeddings `lm_head.weight` is the embedding. Where the scale is to be the stored one, a
        projection that is ternary already is divided by its density, so that its mean magnitude is that scale.

        Raises
        ------
        CheckpointError
            It holds NaN or infinity, it is a projection of which every ternary code would be zero, or its file is
            gone or changed.
        """
        tied = self.config.tie_word_embeddings
        file, stored_name = self._sources[EMBEDDING if tied and name == HEAD else name]
        tensor = file.read(stored_name).float()
        largest = _largest_magnitude(tensor, name, file.source.path)
        if is_projection(name) and largest <= LARGEST_VANISHING_WEIGHT:
            raise CheckpointError(
                f"{file.source.path}: {name} is zero throughout (largest magnitude {largest:g}), so that "
                "it has no ternary scale; the file is damaged or the model untrained"
            )
        if tied and name == HEAD and HEAD in self._sources:
            self._check_tie(tensor)
        if self.ternary_scale == "stored" and is_projection(name) and _is_ternary(tensor):
            return tensor / (tensor.count_nonzero().item() / tensor.numel())
        return tensor

    def ternary_density(self) -> dict[str, float]:
        """Return the projections that are stored ternary already, with the share of weights that are not zero.

        Of each only the first row is read, unless that row is ternary.
        """
        found = {}
        for name in filter(is_projection, self.names()):
            file, stored_name = self._sources[name]
            if _is_ternary(file.read(stored_name, rows=1)):
                tensor = file.read(stored_name)
                if _is_ternary(tensor):
                    found[name] = tensor.count_nonzero().item() / tensor.numel()
        return found

    def sha256(self) -> str:
        """Return the SHA-256 of the weight files, by name, and then their configuration, as hexadecimal digits.

        The length of each file goes in front of its content, so that no two splits hash alike.
        """
        digest = hashlib.sha256()
        for source in self.hashed_files:
            digest.update(source.size.to_bytes(8, "little"))
            for chunk in source.chunks():
                digest.update(chunk)
        return digest.hexdigest()

    def _check_tie(self, embedding: torch.Tensor) -> None:
        file, stored_name = self._sources[HEAD]
        if not file.read(stored_name).to(embedding.dtype).equal(embedding):
            raise CheckpointError(
                f"{file.source.path}: tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}; "
                "correct the one that is wrong"
            )


def open_checkpoint(path: str | Path, ternary_scale: str = "absmean") -> Checkpoint:
    """Open and check a checkpoint without reading its weights.

    Parameters
    ----------
    path : str or Path
        A Hugging Face folder (`model.safetensors` or `pytorch_model.bin`, single or sharded) or one with a single
        file of weights; a .safetensors, .pt, .pth, .bin or .ckpt file, with config.json beside it or the
        configuration inside, a state dict alone or within the state of a training run; or the id of a model on the
        Hugging Face hub, `owner/name`, which is fetched.
    ternary_scale : {"absmean", "stored"}
        See `Checkpoint`.

    Raises
    ------
    CheckpointError
        Something is missing, damaged, unsafe, or does not match the configuration.
    UnsupportedModelError
        The model is of a kind that is not supported.
    """
    if ternary_scale not in TERNARY_SCALES:
        raise UsageError(f"ternary_scale is {ternary_scale!r}; it must be one of {', '.join(TERNARY_SCALES)}")
    given = path
    path = Path(path)
    notices: list[str] = []
    if not _exists(path):
        if not is_hub_id(str(given)):
            raise CheckpointError(f"{path}: no such file or folder; give a checkpoint folder or a weight file")
        path = fetch(str(given))
        notices.append(f"{given}: fetched from the hub, version {path.name}")
    weights = find_weights(path)
    files = [open_weight_file(each) for each in weights.paths]
    notices += [*weights.notices, *(notice for file in files for notice in file.notices)]
    config, config_files, said = _read_config(path, files)
    sources, stored, renamed = _merge_catalogs(files)
    check_tensors(stored, config, str(path))
    notices += [*said, *renamed]
    double = sum(tensor.dtype == "float64" for tensor in stored.values())
    if double:
        notices.append(f"{double} tensors of float64 are rounded to float32")
    folder = weights.paths[0].parent
    tokenizer = next((folder / name for name in TOKENIZERS if (folder / name).is_file()), None)
    hashed = (*(file.source for file in files), *config_files)
    return Checkpoint(path, config, tokenizer, hashed, tuple(notices), ternary_scale, sources)


def _exists(path: Path) -> bool:
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _read_config(path: Path, files: list[WeightFile]) -> tuple[ModelConfig, tuple[SourceFile, ...], list[str]]:
    """The configuration, inside the weights or beside them, the files it came from, and what is to be said."""
    folder = files[0].source.path.parent
    config_path, generation_path = folder / "config.json", folder / "generation_config.json"
    inside = next((file for file in files if file.config is not None), None)
    notices = []
    used: tuple[SourceFile, ...] = ()
    if inside is not None and inside.config is not None:
        values, where = inside.config, f"{inside.source.path} (config)"
        if config_path.is_file():
            notices.append(
                f"the configuration is the one inside {inside.source.path.name}, not {config_path.name}"
            )
    elif config_path.exists():
        values, where = read_json(config_path, LARGEST_CONFIG_BYTES), str(config_path)
        used = (SourceFile.of(config_path),)
    else:
        raise CheckpointError(f"{path}: no config.json in {folder}; put the model's configuration there")
    config = ModelConfig.from_dict(values, where)
    notices += [f"{where}: {alias} is taken for {name}" for alias, name in ALIASES.items() if alias in values]
    unused = unused_keys(values)
    if unused:
        notices.append(f"{where}: unknown and not used: {listed([quoted(name) for name in unused])}")
    if generation_path.is_file():
        config, said = _with_generation(config, generation_path)
        if said:
            used, notices = (*used, SourceFile.of(generation_path)), [*notices, said]
    return config, used, notices


def _with_generation(config: ModelConfig, path: Path) -> tuple[ModelConfig, str | None]:
    """The configuration with the end tokens of generation_config.json, which Hugging Face goes by."""
    values: Mapping[str, Any] = read_json(path, LARGEST_CONFIG_BYTES)
    if values.get("eos_token_id") is None:
        return config, None
    merged = ModelConfig.from_dict({**config.to_dict(), "eos_token_id": values["eos_token_id"]}, str(path))
    if merged.eos_token_id == config.eos_token_id:
        return config, None
    return (
        replace(config, eos_token_id=merged.eos_token_id),
        f"{path.name}: text ends with {merged.eos_token_id}, where config.json has {config.eos_token_id}",
    )


def _merge_catalogs(
    files: list[WeightFile],
) -> tuple[dict[str, tuple[WeightFile, str]], dict[str, StoredTensor], list[str]]:
    """Where each tensor is and what it is, by upstream name, and what was done to the names."""
    catalogs = [(file, file.catalog()) for file in files]
    names, dropped = canonical_names(name for _, catalog in catalogs for name in catalog)
    sources: dict[str, tuple[WeightFile, str]] = {}
    stored: dict[str, StoredTensor] = {}
    left = []
    for file, catalog in catalogs:
        for stored_name, tensor in catalog.items():
            name = names[stored_name]
            if is_bookkeeping(name, tensor):
                left.append(quoted(name))
                continue
            if name in sources:
                other = sources[name][0].source.path
                raise CheckpointError(f"{file.source.path}: {shown(name)} occurs again, it is in {other} too")
            sources[name] = (file, stored_name)
            stored[name] = tensor
    notices = []
    if dropped:
        notices.append(f"wrappers left {listed([quoted(part) for part in dropped])} in names of tensors; dropped")
    if left:
        notices.append(f"buffers that enter no result are not read: {listed(sorted(left))}")
    return sources, stored, notices


def _is_ternary(tensor: torch.Tensor) -> bool:
    """Whether all values are zero or of one magnitude."""
    magnitudes = tensor.abs()
    return bool(((magnitudes == 0) | (magnitudes == magnitudes.max())).all())


def _largest_magnitude(tensor: torch.Tensor, name: str, path: Path) -> float:
    """The largest magnitude of a tensor, of which every value must be finite."""
    lowest, highest = (each.item() for each in tensor.aminmax())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        bad = ~tensor.isfinite()
        first = tuple(bad.nonzero()[0].tolist())
        raise CheckpointError(
            f"{path}: {name} holds {int(bad.sum())} values that are NaN or infinite, "
            f"the first ({tensor[first].item()}) at {list(first)}"
        )
    return max(-lowest, highest)
