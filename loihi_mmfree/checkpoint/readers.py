"""Read access to one weight file, one tensor at a time. No pickle is ever executed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loihi_mmfree.checkpoint.tensors import StoredTensor
from loihi_mmfree.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# As safetensors writes them; other types keep their own name and are refused with it.
SAFETENSORS_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class WeightFile(Protocol):
    """A file of named tensors."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The model's configuration, where the file carries one."""

    def catalog(self) -> dict[str, StoredTensor]:
        """Return shape and type of every tensor under the name it has in the file."""

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor as it is stored."""


@dataclass(frozen=True)
class SafetensorsFile:
    """A .safetensors file. Only the header is read until a tensor is asked for."""

    path: Path
    config: None = None

    def catalog(self) -> dict[str, StoredTensor]:
        """Return shape and type of every tensor, from the header."""
        with self._open() as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return {
                name: StoredTensor(
                    tuple(view.get_shape()), SAFETENSORS_TYPES.get(view.get_dtype(), view.get_dtype())
                )
                for name, view in slices.items()
            }

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, mapped from the file; nothing else of it is, for it may be larger than memory."""
        import torch

        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        content = np.memmap(self.path, np.uint8, mode="c", offset=8 + length + begin, shape=(end - begin,))
        kind = getattr(torch, SAFETENSORS_TYPES[entry["dtype"]])
        return torch.from_numpy(content).view(kind).reshape(entry["shape"])

    def _open(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.path, framework="numpy")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path}: not a complete safetensors file ({error}); download or copy it again"
            ) from error


@dataclass(frozen=True)
class TorchFile:
    """A state dict saved by `torch.save`, mapped into memory and not copied (see `open_torch_file`)."""

    path: Path
    state: Mapping[str, torch.Tensor]
    config: Mapping[str, Any] | None

    def catalog(self) -> dict[str, StoredTensor]:
        """Return shape and type of every tensor."""
        return {
            name: StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in self.state.items()
        }

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, mapped from the file."""
        return self.state[name]


def open_torch_file(path: Path) -> TorchFile:
    """Open a .pt, .pth or .bin file that holds a state dict, alone or beside its configuration.

    Accepted are a bare state dict and ``{"config": {...}, "state_dict" or "model": {...}}``. Only
    PyTorch's zip format is read, and only with its restricted unpickler: the older tar format has run
    code in spite of it (CVE-2025-32434, torch before 2.6).

    Raises
    ------
    CheckpointError
        The file is damaged, of another format, or holds anything but tensors and plain values.
    """
    import torch

    _require_plain_zip(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds Python objects other than tensors and plain values; refused, and nothing of it "
            "was run. Save the model's state_dict() as .safetensors instead"
        ) from error
    except Exception as error:  # A damaged archive can fail in any way inside torch.load.
        raise CheckpointError(f"{path}: damaged PyTorch file ({_first_line(error)}); copy it again") from error
    config, state = _split_content(content, path)
    _require_plain_tensors(state, path)
    return TorchFile(path, state, config)


def _require_plain_zip(path: Path) -> None:
    """Raise unless the file is a zip archive of data, not of TorchScript code."""
    try:
        with path.open("rb") as file:
            begins_like_zip = file.read(4) == b"PK\x03\x04"
        if not begins_like_zip:
            raise CheckpointError(
                f"{path}: not in the zip format of torch.save; it is damaged or older than PyTorch 1.6. "
                "Save it again as .safetensors"
            )
        with zipfile.ZipFile(path) as archive:
            is_torchscript = any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged PyTorch file ({error}); copy it again") from error
    if is_torchscript:
        raise CheckpointError(f"{path}: is a TorchScript program; save the model's state_dict() instead")


def _split_content(content: Any, path: Path) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Return configuration and state dict of what `torch.load` gave."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a state dict")
    nested = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), None)
    if nested is None:
        return None, content
    config = content.get("config")
    if config is None:
        return None, nested
    try:
        config = json.loads(json.dumps(config))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the config inside is not made of plain values ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the config inside is a {type(config).__name__}; expected a dict")
    return config, nested


def _require_plain_tensors(state: Mapping[Any, Any], path: Path) -> None:
    """Raise unless every entry is a dense tensor that the file really holds in full."""
    import torch

    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: entry {str(name)[:80]!r} is a {type(value).__name__}; expected named tensors only"
            )
        is_plain = value.layout is torch.strided and value.device.type == "cpu"
        if not is_plain or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise CheckpointError(f"{path}: tensor {name} {list(value.shape)} is not stored in full")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
