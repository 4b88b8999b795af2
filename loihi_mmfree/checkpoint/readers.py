"""Read access to one weight file, one tensor at a time. Nothing in a file is executed, nothing is mapped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loihi_mmfree.checkpoint.archive import Entry, content_offset, read_directory
from loihi_mmfree.checkpoint.nesting import ModelState, find_model
from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.checkpoint.tensors import FLOAT_BYTES, StoredTensor
from loihi_mmfree.checkpoint.unpickle import RefusedObjectError, StoredView, unpickle
from loihi_mmfree.checkpoint.wording import quoted, shown
from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.interrupts import importing
from loihi_mmfree.untrusted import parse_json

if TYPE_CHECKING:
    import torch

# As safetensors writes them; other types keep their own name and are refused with it.
SAFETENSORS_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
LARGEST_HEADER_BYTES = 64 * 2**20
LARGEST_PICKLE_BYTES = 16 * 2**20
_PICKLE, _LENGTH_BYTES, _ZIP = "data.pkl", 8, b"PK\x03\x04"


class WeightFile(Protocol):
    """A file of named tensors."""

    @property
    def source(self) -> SourceFile:
        """Where it is, and as what it was opened."""

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The model's configuration, where the file carries one."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What was chosen within the file."""

    def catalog(self) -> Mapping[str, StoredTensor]:
        """Return shape and type of every tensor under the name it has in the file."""

    def read(self, name: str, rows: int | None = None) -> torch.Tensor:
        """Return one tensor as it is stored, or only its first rows, in memory of its own."""


class SafetensorsFile:
    """A .safetensors file. Only the header is read until a tensor is asked for.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        It is cut off or damaged.
    """

    config: None = None
    notices: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.source = SourceFile.of(path)
        try:
            self._tensors, self._data = _read_header(self.source)
        except ValueError as error:
            raise CheckpointError(
                f"{path}: not a complete safetensors file ({error}); download or copy it again"
            ) from error

    def catalog(self) -> Mapping[str, StoredTensor]:
        """Return shape and type of every tensor, from the header."""
        return {name: tensor for name, (tensor, _) in self._tensors.items()}

    def read(self, name: str, rows: int | None = None) -> torch.Tensor:
        """Return one tensor, or only its first rows; nothing else of the file is read."""
        with importing():
            import torch

        tensor, begin = self._tensors[name]
        shape = _first_rows(tensor.shape, rows)
        content = self.source.read(self._data + begin, math.prod(shape) * FLOAT_BYTES[tensor.dtype])
        return torch.from_numpy(content).view(getattr(torch, tensor.dtype)).reshape(shape)


def _read_header(source: SourceFile) -> tuple[dict[str, tuple[StoredTensor, int]], int]:
    """The tensors, each with where it begins in the data, and where the data begin in the file."""
    if source.size < _LENGTH_BYTES:
        raise ValueError(f"{source.size} bytes")
    length = int.from_bytes(source.read(0, _LENGTH_BYTES).tobytes(), "little")
    data = _LENGTH_BYTES + length
    if length > LARGEST_HEADER_BYTES or data > source.size:
        most = min(LARGEST_HEADER_BYTES, source.size - _LENGTH_BYTES)
        raise ValueError(f"a header of {length} bytes; at most {most} are possible")
    header = parse_json(source.read(_LENGTH_BYTES, length).tobytes())
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    header.pop("__metadata__", None)
    tensors = {name: _checked_entry(name, entry) for name, entry in header.items()}
    found, needed = source.size - data, max((end for _, _, end in tensors.values()), default=0)
    if found != needed:
        raise ValueError(f"{found} bytes of data, its header says {needed}")
    return {name: (tensor, begin) for name, (tensor, begin, _) in tensors.items()}, data


def _checked_entry(name: str, entry: Any) -> tuple[StoredTensor, int, int]:
    """One tensor of a header, with its first byte and the one behind its last."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            whole = all(isinstance(each, int) and 0 <= each < 2**63 for each in shape)
            tensor = StoredTensor(tuple(shape), SAFETENSORS_TYPES.get(kind, shown(kind)))
            width = FLOAT_BYTES.get(tensor.dtype)
            if whole and 0 <= begin <= end and (width is None or math.prod(shape) * width == end - begin):
                return tensor, begin, end
    raise ValueError(f"tensor {quoted(name)} does not lie where its shape says")


class TorchFile:
    """A state dict, a training state or a model's file saved by `torch.save` in its zip format.

    Only the pickle in it is read until a tensor is asked for, and that as data (see `unpickle`).

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        The file is damaged, of another format, or holds anything but tensors and plain values.
    """

    def __init__(self, path: Path) -> None:
        self.source = SourceFile.of(path)
        self._entries, self._folder = _open_archive(self.source)
        self._model: ModelState = find_model(self._unpickled(), path)
        self.config, self.notices = self._model.config, self._model.notices
        self._tensors = {name: self._checked(name, view) for name, view in self._model.tensors.items()}

    def catalog(self) -> Mapping[str, StoredTensor]:
        """Return shape and type of every tensor."""
        return {name: StoredTensor(view.shape, view.dtype) for name, view in self._tensors.items()}

    def read(self, name: str, rows: int | None = None) -> torch.Tensor:
        """Return one tensor, or only its first rows; nothing else of the file is read."""
        with importing():
            import torch

        view, width = self._tensors[name], FLOAT_BYTES[self._tensors[name].dtype]
        shape = _first_rows(view.shape, rows)
        entry, storage = self._storage(view)
        begin = content_offset(self.source, storage, entry) + view.offset * width
        content = self.source.read(begin, _extent(shape, view.strides) * width)
        elements = torch.from_numpy(content).view(getattr(torch, view.dtype))
        return elements.as_strided(shape, view.strides).contiguous()

    def _unpickled(self) -> Any:
        name = self._folder + _PICKLE
        entry = self._entries[name]
        where = self.source.path
        if entry.size > LARGEST_PICKLE_BYTES:
            raise CheckpointError(
                f"{where}: {_PICKLE} has {entry.size} bytes; at most {LARGEST_PICKLE_BYTES} are read"
            )
        content = self.source.read(content_offset(self.source, name, entry), entry.size).tobytes()
        try:
            return unpickle(content)
        except RefusedObjectError as error:
            raise CheckpointError(
                f"{where}: holds Python objects other than tensors and plain values ({shown(str(error))}); "
                "refused, and nothing of it was run. Save the model's state_dict() as .safetensors instead"
            ) from error
        except ValueError as error:
            raise CheckpointError(f"{where}: damaged PyTorch file ({shown(str(error))}); copy it again") from error

    def _storage(self, view: StoredView) -> tuple[Entry, str]:
        name = f"{self._folder}data/{view.key}"
        if name not in self._entries:
            raise CheckpointError(
                f"{self.source.path}: damaged PyTorch file, {quoted(name)} is missing; copy it again"
            )
        return self._entries[name], name

    def _checked(self, name: str, view: StoredView) -> StoredView:
        """Refuse a tensor that the file does not hold in full."""
        entry, _ = self._storage(view)
        width = FLOAT_BYTES.get(view.dtype)
        if width is not None:
            last = view.offset + _extent(view.shape, view.strides)
            if max(last, math.prod(view.shape)) * width > entry.size:
                raise CheckpointError(
                    f"{self.source.path}: tensor {shown(name)} {list(view.shape)} is not stored in full"
                )
        return view


def _open_archive(source: SourceFile) -> tuple[dict[str, Entry], str]:
    """The entries of a file in the zip format, and the folder in it that holds everything."""
    if source.read(0, min(4, source.size)).tobytes() != _ZIP:
        raise CheckpointError(
            f"{source.path}: not in the zip format of torch.save; it is damaged or older than PyTorch 1.6. "
            "Save it again as .safetensors"
        )
    entries = read_directory(source)
    if any(name.endswith("/constants.pkl") for name in entries):
        raise CheckpointError(f"{source.path}: is a TorchScript program; save the model's state_dict() instead")
    folders = [
        name.removesuffix(_PICKLE) for name in entries if name.count("/") == 1 and name.endswith(f"/{_PICKLE}")
    ]
    if len(folders) != 1:
        raise CheckpointError(f"{source.path}: damaged PyTorch file (no {_PICKLE} in it); copy it again")
    order = entries.get(f"{folders[0]}byteorder")
    if order is not None:
        begin = content_offset(source, "byteorder", order)
        if source.read(begin, min(order.size, 8)).tobytes() != b"little":
            raise CheckpointError(f"{source.path}: saved on a big-endian machine; save it again on another")
    return entries, folders[0]


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many elements of its storage a view spans."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _first_rows(shape: tuple[int, ...], rows: int | None) -> tuple[int, ...]:
    return shape if rows is None or not shape else (min(rows, shape[0]), *shape[1:])


def open_weight_file(path: Path) -> WeightFile:
    """Open a weight file of either format, told by its name or else by its first bytes.

    Raises
    ------
    CheckpointError
        It is of another kind, damaged, or unsafe.
    """
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in TORCH_SUFFIXES:
        return TorchFile(path)
    source = SourceFile.of(path)
    begins = source.read(0, min(_LENGTH_BYTES + 1, source.size)).tobytes()
    if begins.startswith(_ZIP):
        return TorchFile(path)
    if begins[_LENGTH_BYTES:] == b"{":
        return SafetensorsFile(path)
    raise CheckpointError(
        f"{path}: unknown kind of file; allowed: a folder, .safetensors, {', '.join(TORCH_SUFFIXES)}, "
        "or a file that is one of these inside"
    )
