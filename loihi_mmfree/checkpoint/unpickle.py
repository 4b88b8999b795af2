"""The pickle inside a PyTorch file, read as data: no object is made by calling what the file names.

`torch.load` has been made to run code in spite of `weights_only` (CVE-2025-32434), overflows the C stack on keys
that are nested deep, and takes memory without limit. A state dict needs a fraction of pickle: plain values,
containers, and tensors of dense storages. Everything else is refused by name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_OPERATIONS = 2**19
"""An optimizer's state of a model with 32 blocks takes an eighth."""
LONGEST_INTEGER_BYTES = 16
MOST_DIMENSIONS = 8

STORAGE_TYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_ELEMENT_TYPE = re.compile(r"bool|bfloat16|(float|complex|u?int)\d+\w*")


class RefusedObjectError(ValueError):
    """The pickle holds something other than tensors and plain values; the message names it."""


@dataclass(frozen=True)
class StoredView:
    """A tensor as the pickle describes it: a view of one storage.

    Parameters
    ----------
    key : str
        The storage's name within the file.
    dtype : str
        Element type, named as torch names it.
    offset : int
        First element.
    shape, strides : tuple of int
        Elements.
    """

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names, one of those known here."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """What a tensor is a view of; the type is None where the tensor says it."""

    key: str
    dtype: str | None


_MARK = object()


def unpickle(content: bytes) -> Any:
    """Return what a pickle holds, tensors as `StoredView`, in memory and time bounded by its length.

    Raises
    ------
    RefusedObjectError
        It holds other objects.
    ValueError
        It is damaged, or larger than any checkpoint.
    """
    return _Machine(content).run()


class _Machine:
    """The stack machine of pickle, for the operations that protocols 2 to 5 write for plain values."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Carry out all operations."""
        for _ in range(MOST_OPERATIONS):
            code = self.take(1)
            if code == b".":
                return self.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise ValueError(f"operation {code!r} at byte {self.position - 1} is not one of a state dict")
            operation(self)
        raise ValueError(f"more than {MOST_OPERATIONS} operations")

    def take(self, count: int) -> bytes:
        """The next bytes of the pickle."""
        found = self.content[self.position : self.position + count]
        if len(found) < count:
            raise ValueError("cut off")
        self.position += count
        return found

    def number(self, layout: str) -> Any:
        """A number of fixed length."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, layout: str) -> str:
        """UTF-8 after its length."""
        return self.take(self.number(layout)).decode("utf-8")

    def line(self) -> str:
        """Text up to the end of the line."""
        end = self.content.find(b"\n", self.position, self.position + 1024)
        if end < 0:
            raise ValueError("a name without an end")
        text = self.content[self.position : end].decode("utf-8")
        self.position = end + 1
        return text

    def pop(self) -> Any:
        """The last value."""
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError(f"nothing to take at byte {self.position}")
        return self.stack.pop()

    def last(self, kind: type) -> Any:
        """The last value, left where it is, which must be of a kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"no {kind.__name__} at byte {self.position}")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """All values since the last mark."""
        start = len(self.stack) - 1
        while start >= 0 and self.stack[start] is not _MARK:
            start -= 1
        if start < 0:
            raise ValueError(f"no mark at byte {self.position}")
        found = self.stack[start + 1 :]
        del self.stack[start:]
        return found

    def integer(self, length: int) -> int:
        """A whole number, little-endian."""
        if length > LONGEST_INTEGER_BYTES:
            raise ValueError(f"a whole number of {length} bytes")
        return int.from_bytes(self.take(length), "little", signed=True)

    def recall(self, key: int) -> Any:
        """A value that was put aside."""
        if key not in self.memo:
            raise ValueError(f"nothing was put aside as {key}")
        return self.memo[key]

    def put_aside(self, key: int) -> None:
        """Remember the last value."""
        self.memo[key] = self.last(object)

    def extend_list(self, items: list[Any]) -> None:
        """Append to the list that is last."""
        self.last(list).extend(items)

    def extend_dict(self, items: list[Any]) -> None:
        """Set entries of the dictionary that is last."""
        entries = self.last(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # No tuples: hashing one that is nested deep overflows the stack of the process.
            if not isinstance(key, str | int | float | bytes | None):
                raise RefusedObjectError(f"a dictionary with a {type(key).__name__} as key")
            entries[key] = value

    def name(self, module: str, name: str) -> Any:
        """What stands for a class or function; an element type is its name."""
        if module == "torch" and _ELEMENT_TYPE.fullmatch(name):
            return name
        known = name in STORAGE_TYPES if module == "torch" else False
        if not known and (module, name) not in _BUILDERS and (module, name) != _UNTYPED:
            raise RefusedObjectError(f"{module}.{name}")
        return _Name(module, name)

    def global_by_stack(self) -> Any:
        """A class or function named by two strings on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        return self.name(module, name)

    def build(self) -> Any:
        """What a call would return; one of those that are known."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        builder = _BUILDERS.get((function.module, function.name))
        if builder is None:
            raise RefusedObjectError(f"{function.module}.{function.name}")
        return builder(arguments)

    def set_state(self) -> None:
        """Attributes of a dictionary (`_metadata` of a state dict) are not looked at."""
        self.pop()
        self.last(dict)

    def storage(self) -> _Storage:
        """A storage: ('storage', type, key, device, elements)."""
        match self.pop():
            case ("storage", _Name(_, name), str(key), _, int()) if name in STORAGE_TYPES or name == _UNTYPED[1]:
                return _Storage(key, STORAGE_TYPES.get(name))
        raise ValueError("a reference to something that is no storage")


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    """An operation that puts a value on the stack."""

    def operation(machine: _Machine) -> None:
        machine.stack.append(value(machine))

    return operation


def _tuple_of(count: int) -> Callable[[_Machine], Any]:
    return lambda machine: tuple([machine.pop() for _ in range(count)][::-1])


def _pairs(machine: _Machine) -> dict[Any, Any]:
    items = machine.pop_to_mark()
    machine.stack.append({})
    machine.extend_dict(items)
    return machine.stack.pop()


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda machine: machine.take(1),  # protocol
    b"\x95": lambda machine: machine.take(8),  # frame
    b"(": _pushing(lambda machine: _MARK),
    b"0": lambda machine: machine.stack.pop() if machine.stack else None,
    b"1": lambda machine: machine.pop_to_mark(),
    b"2": _pushing(lambda machine: machine.last(object)),
    b"N": _pushing(lambda machine: None),
    b"\x88": _pushing(lambda machine: True),
    b"\x89": _pushing(lambda machine: False),
    b"J": _pushing(lambda machine: machine.number("<i")),
    b"K": _pushing(lambda machine: machine.number("<B")),
    b"M": _pushing(lambda machine: machine.number("<H")),
    b"\x8a": _pushing(lambda machine: machine.integer(machine.number("<B"))),
    b"\x8b": _pushing(lambda machine: machine.integer(machine.number("<I"))),
    b"G": _pushing(lambda machine: machine.number(">d")),
    b"\x8c": _pushing(lambda machine: machine.text("<B")),
    b"X": _pushing(lambda machine: machine.text("<I")),
    b"\x8d": _pushing(lambda machine: machine.text("<Q")),
    b"C": _pushing(lambda machine: machine.take(machine.number("<B"))),
    b"B": _pushing(lambda machine: machine.take(machine.number("<I"))),
    b"\x8e": _pushing(lambda machine: machine.take(machine.number("<Q"))),
    b")": _pushing(lambda machine: ()),
    b"\x85": _pushing(_tuple_of(1)),
    b"\x86": _pushing(_tuple_of(2)),
    b"\x87": _pushing(_tuple_of(3)),
    b"t": _pushing(lambda machine: tuple(machine.pop_to_mark())),
    b"]": _pushing(lambda machine: []),
    b"l": _pushing(lambda machine: machine.pop_to_mark()),
    b"a": lambda machine: machine.extend_list([machine.pop()]),
    b"e": lambda machine: machine.extend_list(machine.pop_to_mark()),
    b"}": _pushing(lambda machine: {}),
    b"d": _pushing(_pairs),
    b"s": lambda machine: machine.extend_dict([machine.pop() for _ in range(2)][::-1]),
    b"u": lambda machine: machine.extend_dict(machine.pop_to_mark()),
    b"h": _pushing(lambda machine: machine.recall(machine.number("<B"))),
    b"j": _pushing(lambda machine: machine.recall(machine.number("<I"))),
    b"q": lambda machine: machine.put_aside(machine.number("<B")),
    b"r": lambda machine: machine.put_aside(machine.number("<I")),
    b"\x94": lambda machine: machine.put_aside(len(machine.memo)),
    b"c": _pushing(lambda machine: machine.name(machine.line(), machine.line())),
    b"\x93": _pushing(lambda machine: machine.global_by_stack()),
    b"R": _pushing(lambda machine: machine.build()),
    b"b": lambda machine: machine.set_state(),
    b"Q": _pushing(lambda machine: machine.storage()),
}


def _tensor(arguments: tuple[Any, ...]) -> StoredView:
    """A dense tensor: (storage, offset, shape, strides, requires_grad, hooks[, type][, metadata])."""
    match arguments:
        case (_Storage(key, dtype), offset, tuple(shape), tuple(strides), *rest) if len(shape) <= MOST_DIMENSIONS:
            # Where the storage has no type, the tensor names it behind the hooks.
            kind = dtype or (rest[2] if len(rest) > 2 else None)
            fits = len(strides) == len(shape) and all(map(_is_size, (offset, *shape, *strides)))
            if isinstance(kind, str) and fits:
                return StoredView(key, kind, offset, shape, strides)
    raise ValueError("a tensor without storage, shape and type")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _first_of(kind: type) -> Callable[[tuple[Any, ...]], Any]:
    """A call that adds nothing to its first argument."""

    def build(arguments: tuple[Any, ...]) -> Any:
        if not arguments or not isinstance(arguments[0], kind):
            raise ValueError(f"a call without a {kind.__name__}")
        return arguments[0]

    return build


def _empty(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise ValueError("a dictionary made of something")
    return {}


_UNTYPED = ("torch.storage", "UntypedStorage")
_BUILDERS: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first_of(StoredView),
    ("torch._utils", "_rebuild_parameter_with_state"): _first_of(StoredView),
    ("collections", "OrderedDict"): _empty,
    ("collections", "Counter"): _first_of(dict),
    ("torch", "Size"): _first_of(tuple),
    ("torch", "device"): _first_of(str),
    ("_codecs", "encode"): _first_of(str),  # bytes, which protocol 2 writes as text; nothing here needs them
}
